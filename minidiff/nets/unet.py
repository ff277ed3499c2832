"""What turns a noisy image, a time and a label into an image, and sees both the outline and the texture?

A U-Net (Ronneberger et al. 2015; Ho et al. 2020, appendix B): go down to few pixels and many channels, where
the whole picture is one neighbourhood, come up again, and at each size hand what was seen on the way down to
the way up. The stem folds patch x patch pixels into channels; the head unfolds them.
Images are (B, C, H, W) with H and W divisible by `config.stride`; times (B,); labels (B,) int64 with
`classes` as the null label. Weights are kept channels-last, in which CPUs and tensor cores convolve fastest.
Each residual branch, and the head, starts at zero: a new network outputs zero (eq. 6.15).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .embed import Embedding


@dataclass(frozen=True)
class UNetConfig:
    channels: int = 1  # of the image
    classes: int = 10  # labels 0..classes-1; label `classes` means none
    width: int = 24  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2, 4)  # channels of each level, in widths; each level halves the image
    blocks: int = 1  # residual blocks per level, down and up
    patch: int = 2  # pixels folded into channels by the stem, per side

    def __post_init__(self):
        object.__setattr__(self, "multipliers", tuple(self.multipliers))  # JSON has lists only

    @property
    def stride(self) -> int:
        """Height and width of an image are multiples of this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer, with all its parameters zero."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of (B, C, H, W): one pass over channels-last memory (eq. 6.7)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Two convolutions added to their input; the embedding scales and shifts what lies between them (eq. 6.9)."""

    def __init__(self, c_in: int, c: int, emb: int):
        super().__init__()
        self.norm1 = ChannelNorm(c_in)
        self.conv1 = nn.Conv2d(c_in, c, 3, padding=1)
        self.film = nn.Linear(emb, 2 * c)
        self.norm2 = ChannelNorm(c)
        self.conv2 = zeroed(nn.Conv2d(c, c, 3, padding=1))
        self.skip = nn.Identity() if c_in == c else nn.Conv2d(c_in, c, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.film(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # (B, c, 1, 1) each
        h = self.conv1(F.silu(self.norm1(x)))  # (B, c, H, W)
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))  # one pass for scale and shift
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention between all pixels (Vaswani et al. 2017; eq. 6.10), added to its input."""

    def __init__(self, c: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(c)
        self.qkv = nn.Conv2d(c, 3 * c, 1)
        self.out = zeroed(nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))  # (B, 3, heads, c/heads, HW)
        q, k, v = qkv.to(self.qkv.weight.dtype).transpose(3, 4).unbind(1)  # (B, heads, HW, c/heads) each
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 a CPU goes back through it 20 times slower
            h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(2, 3).reshape(x.shape))  # (B, c, H, W)


class UNet(nn.Module):
    """Images (B, C, H, W), times (B,) and labels (B,) to images (B, C, H, W)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = [config.width * m for m in config.multipliers]
        emb, low = 4 * config.width, widths[-1]
        folded = config.channels * config.patch**2

        def blocks(c_in: int, c: int) -> nn.ModuleList:
            return nn.ModuleList(ResBlock(c_in if i == 0 else c, c, emb) for i in range(config.blocks))

        self.embed = Embedding(emb, config.classes)
        self.stem = nn.Sequential(nn.PixelUnshuffle(config.patch), nn.Conv2d(folded, widths[0], 3, padding=1))
        self.down = nn.ModuleList(blocks(c, c) for c in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(c, d, 2, stride=2) for c, d in pairwise(widths))
        self.middle = nn.ModuleList([ResBlock(low, low, emb), Attention(low, 4), ResBlock(low, low, emb)])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(d, c, 2, stride=2) for c, d in pairwise(widths))
        self.up = nn.ModuleList(blocks(2 * c, c) for c in widths[:-1])
        self.norm = ChannelNorm(widths[0])
        unfold = nn.PixelShuffle(config.patch)
        self.head = nn.Sequential(zeroed(nn.Conv2d(widths[0], folded, 3, padding=1)), unfold)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.check(x, t)
        emb = self.embed(t, cond)  # (B, E)
        h = self.stem(x)  # (B, width, H/patch, W/patch)
        seen = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:
                h = block(h, emb)
            seen.append(h)
            h = shrink(h)  # (B, c of the next level, h/2, w/2)
        first, attention, last = self.middle
        h = last(attention(first(h, emb)), emb)
        for blocks, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            h = torch.cat([grow(h), seen.pop()], dim=1)  # (B, 2 c, 2h, 2w)
            for block in blocks:
                h = block(h, emb)  # (B, c, 2h, 2w) after the first
        return self.head(F.silu(self.norm(h)))  # (B, C, H, W)

    def check(self, x: Tensor, t: Tensor) -> None:
        """A ValueError for an image or a time that the network cannot take."""
        c, stride = self.config.channels, self.config.stride
        if x.ndim != 4 or x.shape[1] != c or t.shape != x.shape[:1]:
            raise ValueError(
                f"expected images (B, {c}, H, W) and times (B,), got {tuple(x.shape)} and {tuple(t.shape)}"
            )
        if 0 in x.shape[2:] or x.shape[2] % stride or x.shape[3] % stride:
            raise ValueError(f"expected height and width divisible by {stride}, got {x.shape[2]} x {x.shape[3]}")
