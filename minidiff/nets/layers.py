"""What are the networks of pictures made of?

Blocks that keep the size of a picture (B, C, H, W): each computes a residual and adds it to its input, and each
starts at zero, so that a new network hands its input through (eq. 6.15).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class CrossAttention(nn.Module):
    """Each pixel of (B, c, H, W) looks at all words (B, L, D), and what it finds is added to it (Rombach et al. 2022,
    section 3.3; eq. 12.3): the picture asks, the words answer."""

    def __init__(self, c: int, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(c)
        self.q = nn.Conv2d(c, c, 1)
        self.kv = nn.Linear(dim, 2 * c)
        self.out = zeroed(nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        q, k, v = self.split(x, words)
        with torch.autocast(x.device.type, enabled=False):  # as in Attention
            h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, HW, c/heads)
        return x + self.out(h.transpose(2, 3).reshape(x.shape))  # (B, c, H, W)

    def split(self, x: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, heads, HW, c/heads) of the pixels, k and v (B, heads, L, c/heads) of the words, in full precision."""
        q = self.q(self.norm(x)).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        k, v = self.kv(words).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return tuple(part.to(self.q.weight.dtype) for part in (q, k, v))

    def maps(self, x: Tensor, words: Tensor) -> Tensor:
        """How much each pixel looks at each word, (B, heads, H, W, L): sums to 1 over the words (eq. 12.2)."""
        q, k, _ = self.split(x, words)
        looks = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)  # (B, heads, HW, L)
        return looks.unflatten(2, x.shape[2:])  # (B, heads, H, W, L)
