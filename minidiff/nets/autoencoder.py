"""Autoencoders: a picture to a small code and back, and the cost of the code.

    x (B, C, H, W) -> encoder -> bottleneck -> z (B, c, H/f, W/f) -> decoder -> x_hat    (eq. 10.1)
    loss = |x_hat - x|^2 + cost_weight * cost    per picture, the error summed over its numbers    (eq. 10.2)

Two bottlenecks share one interface, h -> Code(z, cost):
    GaussianBottleneck  z ~ N(mean, std^2), cost its divergence from N(0, 1) in nats (Kingma & Welling 2014;
                        Rombach et al. 2022)
    VectorQuantizer     z the nearest of K learned vectors (van den Oord et al. 2017), cost what pulls both together
A plain autoencoder is the Gaussian one with weight 0, read at its mean.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import MAX_CHANNELS, MAX_CLASSES, MAX_LAYERS, check_int, check_real
from .layers import ChannelNorm, zero_init

COMMITMENT = 0.25


class Code(NamedTuple):
    """The code z (B, c, h, w) and its cost (B,)."""

    z: Tensor
    cost: Tensor


@dataclass(frozen=True)
class AutoencoderConfig:
    """What an autoencoder is made of: its sizes, its bottleneck and the weight of the code's cost."""

    channels: int = 1  # of the picture
    latent_channels: int = 4  # c, of the code
    width: int = 32  # channels of the first level; each further level has twice as many
    num_downsamples: int = 2  # f = 2^num_downsamples
    num_blocks: int = 1  # residual blocks per level, down and up
    codebook_size: int = 0  # K of the VectorQuantizer; 0 for the GaussianBottleneck
    cost_weight: float = 1e-3

    def __post_init__(self):
        check_int("channels", self.channels, 1, MAX_CHANNELS)
        check_int("latent_channels", self.latent_channels, 1, MAX_CHANNELS)
        check_int("width", self.width, 1, MAX_CHANNELS)
        check_int("num_downsamples", self.num_downsamples, 1, 8)
        check_int("num_blocks", self.num_blocks, 0, MAX_LAYERS)
        check_int("codebook_size", self.codebook_size, 0, MAX_CLASSES)
        check_real("cost_weight", self.cost_weight, 0, 1e6)
        check_int("width of the last level", self.widths[-1], 1, MAX_CHANNELS)

    @property
    def factor(self) -> int:
        """f, the height and width of a picture over those of its code."""
        return 2**self.num_downsamples

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels of each level."""
        return tuple(self.width * 2**level for level in range(self.num_downsamples))


class GaussianBottleneck(nn.Module):
    """h (B, 2c, H, W), read as mean and log-variance, to z: the mean, or with noise eps a sample (eqs 10.5, 10.6)."""

    def __init__(self, latent_channels: int):
        super().__init__()
        self.in_channels = 2 * latent_channels

    def forward(self, h: Tensor, eps: Tensor | None = None) -> Code:
        mean, log_var = h.float().chunk(2, dim=1)  # (B, c, H, W) each; the cost is a sum of many: full precision
        log_var = log_var.clamp(-20, 10)
        cost = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).flatten(1).sum(1)  # (B,)
        return Code(mean if eps is None else mean + (0.5 * log_var).exp() * eps, cost)


class VectorQuantizer(nn.Module):
    """Each vector of h (B, c, H, W) to the nearest of K codebook entries, with a straight-through gradient
    (eqs 10.9, 10.10). In training, an entry used too rarely moves onto the vector farthest from its entry."""

    usage: Tensor
    dead_threshold = 0.02  # an entry is dead below this share of the mean usage; 0: none is ever replaced

    def __init__(self, latent_channels: int, codebook_size: int):
        super().__init__()
        self.in_channels = latent_channels
        self.codebook = nn.Embedding(codebook_size, latent_channels)
        self.register_buffer("usage", torch.ones(codebook_size))  # running mean for each entry, 1 on average

    def forward(self, h: Tensor, eps: Tensor | None = None) -> Code:
        h = h.float()
        flat, entries = h.detach().permute(0, 2, 3, 1).reshape(-1, h.shape[1]), self.codebook.weight.detach()
        with torch.autocast(h.device.type, enabled=False):  # in 16 bits another entry would seem nearest
            # |x - e|^2 - |x|^2 of vectors x and entries e; torch.cdist cannot be exported.
            relative = torch.addmm(entries.square().sum(1), flat, entries.T, alpha=-2)  # (BHW, K)
        least, index = relative.min(1)  # (BHW,) each
        if self.training:
            self.replace_dead_entries(flat, least + flat.square().sum(1), index)
        z = self.codebook(index).view(-1, *h.shape[2:], h.shape[1]).permute(0, 3, 1, 2)  # (B, c, H, W)
        cost = (z - h.detach()).square() + COMMITMENT * (h - z.detach()).square()
        return Code(h + (z - h).detach(), cost.flatten(1).sum(1))

    @torch.no_grad()
    def replace_dead_entries(self, flat: Tensor, distance: Tensor, index: Tensor) -> None:
        """Update the usage (K,) by the entries `index` (N,) that vectors (N, c) chose at squared distances (N,), and
        move the j-th dead entry onto the j-th farthest vector. All shapes are fixed: nothing waits for the device."""
        size, most = len(self.usage), min(len(self.usage), len(flat))
        counts = torch.zeros_like(self.usage).index_add_(0, index, torch.ones_like(distance, dtype=self.usage.dtype))
        self.usage.lerp_(counts * (size / len(index)), 0.03)  # 1 on average
        dead = (self.usage < self.dead_threshold) & (counts == 0)  # an entry that this batch chose must stay
        rank = dead.cumsum(0) - 1  # (K,), of the dead ones among the dead
        moved = dead & (rank < most)
        farthest = flat[distance.topk(most).indices]  # (most, c)
        replaced = torch.where(moved[:, None], farthest[rank.clamp(0, most - 1)], self.codebook.weight)  # (K, c)
        self.codebook.weight.copy_(replaced)
        self.usage.masked_fill_(moved, 1.0)


class AutoencoderBlock(nn.Module):
    """Two convolutions of the normalised input, added to it; the second starts at zero."""

    def __init__(self, c: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
        self.conv1 = nn.Conv2d(c, c, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(nn.Module):
    """Pictures (B, C, H, W) to codes (B, c, H/f, W/f) and back; H and W are multiples of f."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        widths, latent = config.widths, config.latent_channels
        self.bottleneck = (
            VectorQuantizer(latent, config.codebook_size) if config.codebook_size else GaussianBottleneck(latent)
        )

        def blocks(c: int) -> list[nn.Module]:
            return [AutoencoderBlock(c) for _ in range(config.num_blocks)]

        down = [nn.PixelUnshuffle(2), nn.Conv2d(4 * config.channels, widths[0], 3, padding=1), *blocks(widths[0])]
        up = [nn.Conv2d(latent, widths[-1], 3, padding=1), *blocks(widths[-1])]
        for narrow, wide in pairwise(widths):
            down += [nn.Conv2d(narrow, wide, 2, stride=2), *blocks(wide)]
        for wide, narrow in pairwise(reversed(widths)):
            up += [nn.ConvTranspose2d(wide, narrow, 2, stride=2), *blocks(narrow)]
        down += [ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], self.bottleneck.in_channels, 1)]
        up += [ChannelNorm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4 * config.channels, 3, padding=1)]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.PixelShuffle(2))
        self.to(memory_format=torch.channels_last)

    def encode(self, x: Tensor, eps: Tensor | None = None) -> Code:
        """Return the code of pictures (B, C, H, W): the mean, or with noise eps (B, c, H/f, W/f) a sample of it."""
        channels, factor = self.config.channels, self.config.factor
        if x.ndim != 4 or 0 in x.shape or x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"expected pictures (B, {channels}, H, W), B > 0, H and W divisible by {factor}, got {tuple(x.shape)}"
            )
        return self.bottleneck(self.encoder(x), eps)

    def decode(self, z: Tensor) -> Tensor:
        """Return pictures (B, C, fH, fW) of codes (B, c, H, W)."""
        if z.ndim != 4 or 0 in z.shape or z.shape[1] != self.config.latent_channels:
            raise ValueError(f"expected codes (B, {self.config.latent_channels}, H, W), got {tuple(z.shape)}")
        return self.decoder(z)

    def forward(self, x: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the reconstruction (B, C, H, W) and the cost of its code (B,)."""
        z, cost = self.encode(x, eps)
        return self.decode(z), cost


def autoencoder_loss(autoencoder: Autoencoder, x: Tensor, eps: Tensor | None = None) -> Tensor:
    """Return |x_hat - x|^2 + cost_weight * cost of pictures (B, C, H, W), divided by C H W: (B,) (eq. 10.2)."""
    x_hat, cost = autoencoder(x, eps)
    error = (x_hat.to(x.dtype) - x).square().flatten(1).sum(1)  # (B,)
    return (error + autoencoder.config.cost_weight * cost) / x[0].numel()
