"""The U-Net: a network from a noisy image, a time and a label or a prompt to an image.

It goes down to few pixels and many channels, where attention sees the whole image, comes up again, and at each size
joins the features of the way down (skips) to those of the way up (Ronneberger et al. 2015; Ho et al. 2020,
appendix B). The stem folds patch_size x patch_size pixels into channels, the head unfolds them.
Images are (B, C, H, W) with H and W divisible by `config.stride`; times (B,); labels (B,) int64 with
`num_classes` as the null label, or with `text` tokens (B, L) int64, all zero for the empty prompt. Weights are kept
channels-last, in which CPUs and tensor cores convolve fastest.
Each residual branch, and the head, starts at zero: a new network outputs zero (eq. 6.15).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import MAX_CHANNELS, MAX_CLASSES, MAX_LAYERS, check_int
from .embed import TimeLabelEmbedding
from .layers import Attention, ChannelNorm, CrossAttention, ResBlock, zero_init
from .registry import DataSpec, register_net
from .text import TextConfig, TextEncoder

HEADS = 4  # of each attention


@dataclass(frozen=True)
class UNetConfig:
    """What a U-Net is made of."""

    channels: int = 1  # of the image
    num_classes: int = 10  # labels 0..num_classes-1; label `num_classes` is the null label (unconditional)
    width: int = 24  # channels of the first level
    channel_mult: tuple[int, ...] = (1, 2, 4)  # channels of each level, in widths; each level halves the image
    num_blocks: int = 1  # residual blocks per level, down and up
    patch_size: int = 2  # pixels folded into channels by the stem, per side
    text: TextConfig | None = None  # what conditions: words instead of labels

    def __post_init__(self):
        if not isinstance(self.channel_mult, tuple | list) or not 1 <= len(self.channel_mult) <= 8:
            raise ValueError(f"expected channel_mult as 1 to 8 multipliers, got {self.channel_mult!r:.60}")
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))  # JSON has lists only
        if isinstance(self.text, dict):  # and dictionaries
            object.__setattr__(self, "text", TextConfig(**self.text))
        if not isinstance(self.text, TextConfig | None):
            raise ValueError(f"expected a TextConfig or None as text, got {self.text!r:.60}")
        check_int("channels", self.channels, 1, MAX_CHANNELS)
        check_int("num_classes", self.num_classes, 0, MAX_CLASSES)
        check_int("width", self.width, 1, MAX_CHANNELS)
        check_int("num_blocks", self.num_blocks, 1, MAX_LAYERS)
        check_int("patch_size", self.patch_size, 1, 64)
        for multiplier in self.channel_mult:
            check_int("each multiplier", multiplier, 1, MAX_CHANNELS)
        check_int("width x multiplier", max(self.widths), 1, MAX_CHANNELS)
        attending = self.widths if self.text else self.widths[-1:]
        if any(width % HEADS for width in attending):
            raise ValueError(f"expected levels with attention divisible by its {HEADS} heads, got {attending} channels")

    @classmethod
    def for_data(cls, spec: DataSpec) -> "UNetConfig":
        """Return the config for some data: its first level is about 16 pixels high on pictures from 32 pixels on, and
        as high as the code on codes. ValueError for a size that cannot be folded."""
        size = (spec.height, spec.width)
        patch_size = most = 1 if spec.latent else max(2, spec.height // 16)
        while patch_size > 2 and any(n % patch_size for n in size):
            patch_size -= 1
        if any(n % patch_size for n in size):
            patch_size = most
            fits = " x ".join(str(max(patch_size, n - n % patch_size)) for n in size)
            raise ValueError(
                f"expected height and width divisible by {patch_size} for pictures {spec.height} pixels high, "
                f"got {spec.height} x {spec.width}: resize them, to {fits} for example"
            )
        width = 48 if spec.latent else 24
        channel_mult: tuple[int, ...] = (1, 2) if spec.latent else (1, 2, 4)
        while any(n % (patch_size * 2 ** (len(channel_mult) - 1)) for n in size):
            channel_mult = channel_mult[:-1]
        num_classes = 0 if spec.text else spec.num_classes
        return cls(spec.channels, num_classes, width, channel_mult, patch_size=patch_size, text=spec.text)

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels of each level."""
        return tuple(self.width * multiplier for multiplier in self.channel_mult)

    @property
    def stride(self) -> int:
        """The number that height and width of an image must be multiples of."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)


FREQUENCIES = 0.5, 1.0, 2.0, 4.0  # of the position encoding, in half turns over the image


def position_encoding(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return waves (16, H, W) of the x and y of each pixel's centre in [0, 1]: cosines of x, of y, sines of x, of y
    (eq. 12.6). Without them attention could not tell left from right."""
    y, x = ((torch.arange(n, device=device) + 0.5) / n for n in (height, width))  # (H,), (W,)
    y, x = (torch.stack([math.pi * f * axis for f in FREQUENCIES]) for axis in (y, x))  # (4, H), (4, W)
    waves = [wave(axis) for wave in (torch.cos, torch.sin) for axis in (x[:, None, :], y[:, :, None])]
    return torch.cat([wave.expand(-1, height, width) for wave in waves])  # (16, H, W)


class TimeTextEmbedding(nn.Module):
    """A time (B,) and tokens (B, L) to (emb (B, dim), context (B, L, width)): the embedding of the time plus the
    projected mean of the embeddings of the tokens, and these."""

    def __init__(self, dim: int, config: TextConfig):
        super().__init__()
        self.time = TimeLabelEmbedding(dim, 0)
        self.text_encoder = TextEncoder(config)
        self.pooled_proj = nn.Linear(config.width, dim)

    def forward(self, t: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        empty = torch.zeros_like(t, dtype=torch.long)[:, None]  # (B, 1)
        words = self.text_encoder(empty if cond is None else cond)  # (B, L, width)
        return self.time(t) + self.pooled_proj(words.mean(1)), words


class CrossAttentionBlock(nn.Module):
    """A residual block, then each pixel's position is added, and pixels attend to pixels and to words."""

    def __init__(self, c_in: int, c: int, emb: int, words: int):
        super().__init__()
        self.block = ResBlock(c_in, c, emb)
        self.position_proj = nn.Conv2d(4 * len(FREQUENCIES), c, 1)
        self.attention = Attention(c, HEADS)
        self.cross = CrossAttention(c, words, HEADS)

    def forward(self, x: Tensor, cond: tuple[Tensor, Tensor]) -> Tensor:
        emb, words = cond
        h = self.block(x, emb)  # (B, c, H, W)
        # Made anew, on the device, in a dozen small operations: a cache would not survive torch.compile and export.
        positions = position_encoding(h.shape[2], h.shape[3], h.device).to(h.dtype)  # (16, H, W)
        h = h + self.position_proj(positions)
        return self.cross(self.attention(h), words)


class BlockList(nn.ModuleList):
    """Blocks one after the other, each given the condition."""

    def forward(self, h: Tensor, emb: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        for block in self:
            h = block(h, emb)
        return h


class UNet(nn.Module):
    """Images (B, C, H, W), times (B,) and labels (B,) or tokens (B, L) to images (B, C, H, W)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        self.null = 0 if config.text else config.num_classes  # the null label, or the token of the empty prompt
        widths, emb = config.widths, 4 * config.width
        low, folded = widths[-1], config.channels * config.patch_size**2

        self.embed: nn.Module
        block: Callable[[int, int], nn.Module]
        if config.text is None:
            self.embed = TimeLabelEmbedding(emb, config.num_classes)
            block = partial(ResBlock, emb=emb)
        else:
            self.embed = TimeTextEmbedding(emb, config.text)
            block = partial(CrossAttentionBlock, emb=emb, words=config.text.width)

        def blocks(c_in: int, c: int) -> BlockList:
            return BlockList(block(c_in if i == 0 else c, c) for i in range(config.num_blocks))

        self.stem = nn.Sequential(nn.PixelUnshuffle(config.patch_size), nn.Conv2d(folded, widths[0], 3, padding=1))
        self.down = nn.ModuleList(blocks(c, c) for c in widths[:-1])
        self.downsample = nn.ModuleList(nn.Conv2d(c, d, 2, stride=2) for c, d in pairwise(widths))
        self.middle = nn.ModuleList([block(low, low), Attention(low, HEADS), block(low, low)])
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(d, c, 2, stride=2) for c, d in pairwise(widths))
        self.up = nn.ModuleList(blocks(2 * c, c) for c in widths[:-1])
        self.norm = ChannelNorm(widths[0])
        unfold = nn.PixelShuffle(config.patch_size)
        self.head = nn.Sequential(zero_init(nn.Conv2d(widths[0], folded, 3, padding=1)), unfold)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.check(x, t)
        emb = self.embed(t, cond)  # (B, E), and with text the words beside it
        h = self.stem(x)  # (B, width, H/patch, W/patch)
        skips = []
        for blocks, downsample in zip(self.down, self.downsample, strict=True):
            h = blocks(h, emb)
            skips.append(h)
            h = downsample(h)  # (B, c of the next level, h/2, w/2)
        first, attention, last = self.middle
        h = last(attention(first(h, emb)), emb)
        for blocks, upsample in zip(reversed(self.up), reversed(self.upsample), strict=True):
            h = torch.cat([upsample(h), skips.pop()], dim=1)  # (B, 2 c, 2h, 2w)
            h = blocks(h, emb)  # (B, c, 2h, 2w)
        return self.head(F.silu(self.norm(h)))  # (B, C, H, W)

    def check(self, x: Tensor, t: Tensor) -> None:
        """Raise ValueError for images or times of a shape that the network cannot take."""
        c, stride = self.config.channels, self.config.stride
        if x.ndim != 4 or x.shape[0] == 0 or x.shape[1] != c or t.shape != x.shape[:1]:
            raise ValueError(
                f"expected images (B, {c}, H, W) and times (B,), B > 0, got {tuple(x.shape)} and {tuple(t.shape)}"
            )
        if 0 in x.shape[2:] or x.shape[2] % stride or x.shape[3] % stride:
            raise ValueError(f"expected height and width divisible by {stride}, got {x.shape[2]} x {x.shape[3]}")


register_net("UNet", UNetConfig, UNet)
