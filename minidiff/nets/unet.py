"""What turns a noisy image, a time and a label into an image, and sees both the outline and the texture?

A U-Net (Ronneberger et al. 2015; Ho et al. 2020, appendix B): go down to few pixels and many channels, where
the whole picture is one neighbourhood, come up again, and at each size hand what was seen on the way down to
the way up. The stem folds patch x patch pixels into channels; the head unfolds them.
Images are (B, C, H, W) with H and W divisible by `config.stride`; times (B,); labels (B,) int64 with
`classes` as the null label, or with `text` tokens (B, L) int64, all zero for the empty prompt. Weights are kept
channels-last, in which CPUs and tensor cores convolve fastest.
Each residual branch, and the head, starts at zero: a new network outputs zero (eq. 6.15).
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .embed import Embedding
from .layers import Attention, ChannelNorm, CrossAttention, ResBlock, zeroed
from .text import TextConfig, TextEncoder


@dataclass(frozen=True)
class UNetConfig:
    channels: int = 1  # of the image
    classes: int = 10  # labels 0..classes-1; label `classes` means none
    width: int = 24  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2, 4)  # channels of each level, in widths; each level halves the image
    blocks: int = 1  # residual blocks per level, down and up
    patch: int = 2  # pixels folded into channels by the stem, per side
    text: TextConfig | None = None  # what conditions: words instead of labels

    def __post_init__(self):
        object.__setattr__(self, "multipliers", tuple(self.multipliers))  # JSON has lists only
        if isinstance(self.text, dict):  # and dictionaries
            object.__setattr__(self, "text", TextConfig(**self.text))

    @property
    def stride(self) -> int:
        """Height and width of an image are multiples of this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    @property
    def null(self) -> int:
        """The label, or the token at each place, that says nothing."""
        return 0 if self.text else self.classes


PLACES = 0.5, 1.0, 2.0, 4.0  # turns of the waves over half a picture


def places(height: int, width: int) -> Tensor:
    """Waves (16, H, W) of the place of each pixel: without them "left" and "above" would mean nothing (eq. 12.6)."""
    y, x = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in (height, width)), indexing="ij")  # (H, W) each
    angles = torch.stack([math.pi * turns * axis for axis in (x, y) for turns in PLACES])  # (8, H, W)
    return torch.cat([angles.cos(), angles.sin()])  # (16, H, W)


class TextEmbedding(nn.Module):
    """What a block hears of a time (B,) and tokens (B, L): a vector (B, dim) of both, and each word (B, L, width)."""

    def __init__(self, dim: int, config: TextConfig):
        super().__init__()
        self.time = Embedding(dim, 0)
        self.words = TextEncoder(config)
        self.gist = nn.Linear(config.width, dim)

    def forward(self, t: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        words = self.words(t.new_zeros(len(t), 1, dtype=torch.long) if cond is None else cond)  # (B, L, width)
        return self.time(t) + self.gist(words.mean(1)), words


class WordBlock(nn.Module):
    """A residual block; then each pixel is told where it is, and looks at the other pixels and at the words."""

    def __init__(self, c_in: int, c: int, emb: int, words: int):
        super().__init__()
        self.block = ResBlock(c_in, c, emb)
        self.place = nn.Conv2d(4 * len(PLACES), c, 1)
        self.attention = Attention(c, 4)
        self.cross = CrossAttention(c, words, 4)

    def forward(self, x: Tensor, heard: tuple[Tensor, Tensor]) -> Tensor:
        emb, words = heard
        h = self.block(x, emb)
        h = h + self.place(places(*h.shape[2:]).to(h))  # (B, c, H, W)
        return self.cross(self.attention(h), words)


class UNet(nn.Module):
    """Images (B, C, H, W), times (B,) and labels (B,) or tokens (B, L) to images (B, C, H, W)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = [config.width * m for m in config.multipliers]
        emb, low = 4 * config.width, widths[-1]
        folded = config.channels * config.patch**2

        if config.text is None:
            self.embed, block = Embedding(emb, config.classes), partial(ResBlock, emb=emb)
        else:
            self.embed = TextEmbedding(emb, config.text)
            block = partial(WordBlock, emb=emb, words=config.text.width)

        def blocks(c_in: int, c: int) -> nn.ModuleList:
            return nn.ModuleList(block(c_in if i == 0 else c, c) for i in range(config.blocks))

        self.stem = nn.Sequential(nn.PixelUnshuffle(config.patch), nn.Conv2d(folded, widths[0], 3, padding=1))
        self.down = nn.ModuleList(blocks(c, c) for c in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(c, d, 2, stride=2) for c, d in pairwise(widths))
        self.middle = nn.ModuleList([block(low, low), Attention(low, 4), block(low, low)])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(d, c, 2, stride=2) for c, d in pairwise(widths))
        self.up = nn.ModuleList(blocks(2 * c, c) for c in widths[:-1])
        self.norm = ChannelNorm(widths[0])
        unfold = nn.PixelShuffle(config.patch)
        self.head = nn.Sequential(zeroed(nn.Conv2d(widths[0], folded, 3, padding=1)), unfold)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.check(x, t)
        emb = self.embed(t, cond)  # (B, E), and with text the words beside it
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
