"""A small conditional network for points.

Residual blocks of two linear layers, with the embedding of time and label added between them:
    h <- h + W2 silu(W1 norm(h) + U silu(emb)).
Points are (B, D), times (B,), labels (B,) int64 with `num_classes` as the null label, the output is (B, D).
The last layer starts at zero, so a new network outputs zero.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .checks import MAX_CHANNELS, MAX_CLASSES, MAX_LAYERS, check_int
from .embed import TimeLabelEmbedding
from .layers import zero_init
from .registry import DataSpec, register_net


@dataclass(frozen=True)
class MLPConfig:
    """What an MLP is made of."""

    dim: int = 2  # coordinates of a point
    num_classes: int = 0  # labels 0..num_classes-1; label `num_classes` is the null label (unconditional)
    width: int = 128
    num_blocks: int = 3

    def __post_init__(self):
        check_int("dim", self.dim, 1, MAX_CHANNELS)
        check_int("num_classes", self.num_classes, 0, MAX_CLASSES)
        check_int("width", self.width, 2, MAX_CHANNELS)
        check_int("num_blocks", self.num_blocks, 1, MAX_LAYERS)
        if self.width % 2:
            raise ValueError(f"expected an even width, half of it for cosines and half for sines, got {self.width}")

    @classmethod
    def for_data(cls, spec: DataSpec) -> "MLPConfig":
        """Raise ValueError: this network takes points, not pictures."""
        size = f"{spec.channels} x {spec.height} x {spec.width}"
        raise ValueError(f"network 'MLP' takes points (B, D), got data of {size}: use 'UNet'")


class MLPBlock(nn.Module):
    """One residual step of a hidden vector (B, width), given the embedding (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.emb_proj = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return h + self.fc2(F.silu(self.fc1(self.norm(h)) + self.emb_proj(F.silu(emb))))


class MLP(nn.Module):
    """Points (B, D), times (B,) and labels (B,) to points (B, D)."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        self.null = config.num_classes  # the null label
        self.embed = TimeLabelEmbedding(config.width, config.num_classes)
        self.stem = nn.Linear(config.dim, config.width)
        self.blocks = nn.ModuleList(MLPBlock(config.width) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.width)
        self.head = zero_init(nn.Linear(config.width, config.dim))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        dim = self.config.dim
        if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] != dim or t.shape != x.shape[:1]:
            raise ValueError(
                f"expected points (B, {dim}) and times (B,), B > 0, got {tuple(x.shape)} and {tuple(t.shape)}"
            )
        emb = self.embed(t, cond)  # (B, width)
        h = self.stem(x)  # (B, width)
        for block in self.blocks:
            h = block(h, emb)
        return self.head(self.norm(h))  # (B, D)


register_net("MLP", MLPConfig, MLP)
