"""Embeddings of a time and of a label, as vectors.

A time enters as a bank of waves (Vaswani et al. 2017, section 3.5), from fast to slow,
    timestep_embedding(t) = [cos(w_0 t), ..., cos(w_{h-1} t), sin(w_0 t), ..., sin(w_{h-1} t)],
    w_i = 1000 * 10000^(-i/h), h waves of each kind,
so that near times get near vectors and every scale of t in [0, 1] is visible.
A label enters as a learned vector; label `num_classes` is the null label, "no label given".
Times are (B,), labels (B,) int64, embeddings (B, D).
"""

import math

import torch
from torch import Tensor, nn


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Return waves (B, dim), dim even, of times (B,) in [0, 1] in thousandths (Vaswani et al. 2017; eq. 6.3)."""
    if dim < 2 or dim % 2:
        raise ValueError(f"expected an even embedding size of at least 2, got {dim}")
    half = dim // 2
    w = 1000 * torch.exp(-math.log(10000) / half * torch.arange(half, dtype=t.dtype, device=t.device))
    angles = t[:, None] * w  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, dim)


class TimeLabelEmbedding(nn.Module):
    """One vector (B, dim) for a time (B,) and a label (B,): a small MLP of waves plus a row of a table (eq. 6.5).

    Without labels (None) the whole batch has the null label. Labels are not checked against `num_classes` here: a
    read of their values would break the graph.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.dim, self.num_classes = dim, num_classes
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(num_classes + 1, dim)

    def forward(self, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None:
            cond = torch.full_like(t, self.num_classes, dtype=torch.long)
        if cond.shape != t.shape or cond.is_floating_point():
            raise ValueError(f"expected {tuple(t.shape)} integer labels, got {tuple(cond.shape)} of {cond.dtype}")
        dtype = self.label.weight.dtype
        # In 16 bits the angles, up to 1000, would be wrong by whole turns.
        waves = timestep_embedding(t.to(torch.promote_types(dtype, torch.float32)), self.dim).to(dtype)  # (B, dim)
        return self.time(waves) + self.label(cond)
