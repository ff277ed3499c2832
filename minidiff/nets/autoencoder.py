"""How does a picture become a small code, and what does the code cost?

    x (B, C, H, W) -> encoder -> bottleneck -> z (B, c, H/f, W/f) -> decoder -> x_hat    (eq. 10.1)
    loss = |x_hat - x|^2 + weight * cost    per picture, the error summed over its numbers    (eq. 10.2)

Two bottlenecks share one interface, h -> Code(z, cost):
    KL   z ~ N(mean, std^2), cost its divergence from N(0, 1) in nats (Kingma & Welling 2014; Rombach et al. 2022)
    VQ   z the nearest of K learned vectors (van den Oord et al. 2017), cost what pulls both together
A plain autoencoder is KL with weight 0, read at its mean.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ChannelNorm, zeroed

COMMITMENT = 0.25


class Code(NamedTuple):
    """z (B, c, h, w) and what it costs (B,)."""

    z: Tensor
    cost: Tensor


@dataclass(frozen=True)
class AutoencoderConfig:
    channels: int = 1  # of the picture
    latent: int = 4  # channels c of the code
    width: int = 32  # channels of the first level; each further level has twice as many
    halvings: int = 2  # f = 2^halvings
    blocks: int = 1  # residual blocks per level, down and up
    entries: int = 0  # K of the VQ bottleneck; 0 for KL
    weight: float = 1e-3  # of the cost

    @property
    def factor(self) -> int:
        """f: height and width of a picture over those of its code."""
        return 2**self.halvings


class KL(nn.Module):
    """Reads h (B, 2c, H, W) as mean and log-variance; z is the mean, or with noise eps a sample (eqs 10.5, 10.6)."""

    def __init__(self, latent: int):
        super().__init__()
        self.inputs = 2 * latent

    def forward(self, h: Tensor, eps: Tensor | None = None) -> Code:
        mean, log_var = h.float().chunk(2, dim=1)  # (B, c, H, W) each; the cost is a sum of many: full precision
        log_var = log_var.clamp(-20, 10)
        cost = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).flatten(1).sum(1)  # (B,)
        return Code(mean if eps is None else mean + (0.5 * log_var).exp() * eps, cost)


class VQ(nn.Module):
    """Replaces each vector of h (B, c, H, W) by the nearest of K entries; the gradient passes straight through
    (eqs 10.9, 10.10). In training, an entry used too rarely moves onto the vector that is served worst."""

    least = 0.02  # an entry is dead below this share of the mean use; 0 lets all die in peace

    def __init__(self, latent: int, entries: int):
        super().__init__()
        self.inputs = latent
        self.codebook = nn.Embedding(entries, latent)
        self.register_buffer("used", torch.ones(entries))  # of each entry in late batches, in mean uses

    def forward(self, h: Tensor, eps: Tensor | None = None) -> Code:
        h = h.float()
        flat = h.permute(0, 2, 3, 1).reshape(-1, h.shape[1])  # (BHW, c)
        distance, index = torch.cdist(flat.detach(), self.codebook.weight.detach()).min(1)  # (BHW,) each
        if self.training:
            self.revive(flat.detach(), distance, index)
        z = self.codebook(index).view(len(h), *h.shape[2:], -1).permute(0, 3, 1, 2)  # (B, c, H, W)
        cost = (z - h.detach()).square() + COMMITMENT * (h - z.detach()).square()
        return Code(h + (z - h).detach(), cost.flatten(1).sum(1))

    @torch.no_grad()
    def revive(self, flat: Tensor, distance: Tensor, index: Tensor) -> None:
        """Counts which entries (K,) a batch of vectors (N, c) chose, and moves the dead onto the farthest of them."""
        share = torch.bincount(index, minlength=len(self.used)) * (len(self.used) / len(index))  # 1 on average
        self.used.lerp_(share.to(self.used), 0.03)
        dead = (self.used < self.least) & (share == 0)  # what this batch chose has to stay where it was chosen
        dead = dead.nonzero().squeeze(1)[: len(flat)]  # (dead,)
        self.codebook.weight[dead] = flat[distance.topk(len(dead)).indices]
        self.used[dead] = 1.0


class Block(nn.Module):
    """Two convolutions of the normalised input, added to it; at the start they add nothing."""

    def __init__(self, c: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
        self.conv1 = nn.Conv2d(c, c, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(nn.Module):
    """Pictures (B, C, H, W) to codes (B, c, H/f, W/f) and back; H and W are multiples of f."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        if config.halvings < 1:
            raise ValueError(f"expected at least one halving, got {config.halvings}")
        widths = [config.width * 2**k for k in range(config.halvings)]
        latent = config.latent
        self.bottleneck = VQ(latent, config.entries) if config.entries else KL(latent)

        def blocks(c: int) -> list[nn.Module]:
            return [Block(c) for _ in range(config.blocks)]

        down = [nn.PixelUnshuffle(2), nn.Conv2d(4 * config.channels, widths[0], 3, padding=1), *blocks(widths[0])]
        up = [nn.Conv2d(latent, widths[-1], 3, padding=1), *blocks(widths[-1])]
        for narrow, wide in zip(widths, widths[1:]):  # noqa: B905
            down += [nn.Conv2d(narrow, wide, 2, stride=2), *blocks(wide)]
        for wide, narrow in zip(widths[:0:-1], widths[-2::-1]):  # noqa: B905
            up += [nn.ConvTranspose2d(wide, narrow, 2, stride=2), *blocks(narrow)]
        down += [ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], self.bottleneck.inputs, 1)]
        up += [ChannelNorm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4 * config.channels, 3, padding=1)]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.PixelShuffle(2))
        self.to(memory_format=torch.channels_last)

    def encode(self, x: Tensor, eps: Tensor | None = None) -> Code:
        """The code of pictures (B, C, H, W): KL's mean, or with noise eps (B, c, H/f, W/f) a sample of it."""
        channels, factor = self.config.channels, self.config.factor
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"expected pictures (B, {channels}, H, W), H and W divisible by {factor}, got {tuple(x.shape)}"
            )
        return self.bottleneck(self.encoder(x), eps)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, C, fH, fW) of codes (B, c, H, W)."""
        if z.ndim != 4 or z.shape[1] != self.config.latent:
            raise ValueError(f"expected codes (B, {self.config.latent}, H, W), got {tuple(z.shape)}")
        return self.decoder(z)

    def forward(self, x: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The picture again (B, C, H, W), and the cost of its code (B,)."""
        z, cost = self.encode(x, eps)
        return self.decode(z), cost


def autoencoder_loss(autoencoder: Autoencoder, x: Tensor, eps: Tensor | None = None) -> Tensor:
    """|x_hat - x|^2 + weight * cost of pictures (B, C, H, W), divided by C H W: (B,) (eq. 10.2)."""
    x_hat, cost = autoencoder(x, eps)
    error = (x_hat.to(x.dtype) - x).square().flatten(1).sum(1)  # (B,)
    return (error + autoencoder.config.weight * cost) / x[0].numel()
