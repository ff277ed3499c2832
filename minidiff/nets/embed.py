"""How does a network hear a time and a label?

A number enters as a bank of waves (Vaswani et al. 2017, section 3.5), from slow to fast,
    sinusoid(t) = [cos(w_0 t), ..., cos(w_{h-1} t), sin(w_0 t), ..., sin(w_{h-1} t)],
    w_i = 1000 * 10000^(-i/h), h waves of each kind,
so that near times get near vectors and every scale of t in [0, 1] is visible.
A label enters as a learned vector.
Label `classes` is the null label, "no label given"; None stands for a whole batch of it.
Times are (B,), labels (B,) int64, embeddings (B, D).
"""

import math

import torch
from torch import Tensor, nn


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """Waves (B, dim), dim even, of times (B,) in [0, 1], counted in thousandths (Vaswani et al. 2017; eq. 6.3)."""
    if dim < 2 or dim % 2:
        raise ValueError(f"expected an even embedding size of at least 2, got {dim}")
    half = dim // 2
    w = 1000 * torch.exp(-math.log(10000) / half * torch.arange(half, dtype=t.dtype, device=t.device))
    angles = t[:, None] * w  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, dim)


class Embedding(nn.Module):
    """One vector (B, dim) for a time (B,) and a label (B,): a small MLP of waves plus a row of a table (eq. 6.5)."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.dim, self.classes = dim, classes
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(classes + 1, dim)

    def forward(self, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None:
            cond = torch.full(t.shape, self.classes, device=t.device)
        if cond.shape != t.shape or cond.is_floating_point():
            raise ValueError(f"expected {tuple(t.shape)} integer labels, got {tuple(cond.shape)} of {cond.dtype}")
        if cond.min() < 0 or cond.max() > self.classes:
            raise ValueError(
                f"expected labels 0..{self.classes} ({self.classes} is the null label), "
                f"got {cond.min().item()}..{cond.max().item()}"
            )
        waves = sinusoid(t.to(self.label.weight.dtype), self.dim)  # (B, dim)
        return self.time(waves) + self.label(cond)
