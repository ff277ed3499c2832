"""The blocks of a U-Net: each keeps the size of a feature map (B, C, H, W), computes a residual and adds it.

Each residual starts at zero, so that a new network hands its input through (eq. 6.15).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def zero_init(layer: nn.Module) -> nn.Module:
    """Return the layer with all its parameters set to zero."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def dot_product_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v of q (B, heads, N, d), k and v (B, heads, M, d) (eq. 6.10)."""
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):  # in bfloat16 a CPU's backward pass is 20 times slower
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    return F.scaled_dot_product_attention(q, k, v)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of (B, C, H, W): one pass over channels-last memory (eq. 6.7)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Two convolutions added to their input; the embedding scales and shifts what lies between them (eq. 6.9;
    Perez et al. 2018)."""

    def __init__(self, c_in: int, c: int, emb: int):
        super().__init__()
        self.norm1 = ChannelNorm(c_in)
        self.conv1 = nn.Conv2d(c_in, c, 3, padding=1)
        self.modulation = nn.Linear(emb, 2 * c)
        self.norm2 = ChannelNorm(c)
        self.conv2 = zero_init(nn.Conv2d(c, c, 3, padding=1))
        self.skip = nn.Identity() if c_in == c else nn.Conv2d(c_in, c, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # (B, c, 1, 1) each
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
        self.out = zero_init(nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))  # (B, 3, heads, c/heads, HW)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # (B, heads, HW, c/heads) each
        h = dot_product_attention(q, k, v)  # (B, heads, HW, c/heads)
        return x + self.out(h.transpose(2, 3).reshape(x.shape))  # (B, c, H, W)


class CrossAttention(nn.Module):
    """Attention of each pixel of (B, c, H, W) to all words (B, L, D), added to its input: queries from the picture,
    keys and values from the words (Rombach et al. 2022, section 3.3; eq. 12.3)."""

    def __init__(self, c: int, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(c)
        self.q = nn.Conv2d(c, c, 1)
        self.kv = nn.Linear(dim, 2 * c)
        self.out = zero_init(nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        h = dot_product_attention(*self.split(x, words))  # (B, heads, HW, c/heads)
        return x + self.out(h.transpose(2, 3).reshape(x.shape))  # (B, c, H, W)

    def split(self, x: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, heads, HW, c/heads) of the pixels, k and v (B, heads, L, c/heads) of the words."""
        q = self.q(self.norm(x)).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        k, v = self.kv(words).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def maps(self, x: Tensor, words: Tensor) -> Tensor:
        """Return each pixel's attention to each word, (B, heads, H, W, L), summing to 1 over the words (eq. 12.2)."""
        q, k, _ = self.split(x, words)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)  # (B, heads, HW, L)
        return weights.unflatten(2, x.shape[2:])  # (B, heads, H, W, L)
