"""How small can a conditional network for points be?

Residual blocks of two linear layers, each told the time and the label:
    h <- h + W2 silu(W1 norm(h) + U silu(emb)).
Points are (B, D), times (B,), labels (B,) int64 with `classes` as the null label, the output is (B, D).
The last layer starts at zero, so a new network outputs zero.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .embed import Embedding


@dataclass(frozen=True)
class MLPConfig:
    dim: int = 2  # coordinates of a point
    classes: int = 0  # labels 0..classes-1; label `classes` means none
    width: int = 128
    blocks: int = 3

    @property
    def null(self) -> int:
        """The label that says nothing."""
        return self.classes


class Block(nn.Module):
    """One residual step of a hidden vector (B, width), told the embedding (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.tell = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(self.norm(h)) + self.tell(F.silu(emb))))


class MLP(nn.Module):
    """Points (B, D), times (B,) and labels (B,) to points (B, D)."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        self.embed = Embedding(config.width, config.classes)
        self.stem = nn.Linear(config.dim, config.width)
        self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.config.dim or t.shape != x.shape[:1]:
            raise ValueError(
                f"expected points (B, {self.config.dim}) and times (B,), got {tuple(x.shape)} and {tuple(t.shape)}"
            )
        emb = self.embed(t, cond)  # (B, width)
        h = self.stem(x)  # (B, width)
        for block in self.blocks:
            h = block(h, emb)
        return self.head(self.norm(h))  # (B, D)
