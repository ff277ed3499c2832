"""Diffusion on the codes of an autoencoder instead of pictures.

    z = scale * encoder(x),   x = decoder(z / scale),   scale = 1 / std(encoder(x))    (eqs 11.1, 11.2)

(Rombach et al. 2022, section 3 and appendix G). The codes are data like any other: the same training, samplers and
guidance work on them. The scale gives them unit variance, for which the noise schedules are made.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

BATCH = 250  # a few pictures at a time bound the memory


class AutoencoderLike(Protocol):
    """What a codec needs: encode(x).z and decode(z), and a config with latent_channels and factor."""

    config: Any

    def encode(self, x: Tensor) -> Any: ...

    def decode(self, z: Tensor) -> Tensor: ...

    def to(self, device: torch.device) -> Any: ...


@dataclass(frozen=True, eq=False)
class LatentCodec:
    """A frozen autoencoder and the scale of its codes (diffusers' scaling_factor): pictures (B, C, H, W) <-> codes
    (B, c, H/f, W/f)."""

    autoencoder: AutoencoderLike = field(repr=False)
    scale: float = 1.0

    def __post_init__(self):
        if not (isinstance(self.scale, int | float) and 0 < self.scale < math.inf):
            raise ValueError(f"expected a finite scale > 0 of the codes, got {self.scale!r}")

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the scaled codes (B, c, H/f, W/f) of pictures (B, C, H, W) in [-1, 1]: a Gaussian bottleneck's mean,
        without noise (eq. 11.1)."""
        return torch.cat([self.autoencoder.encode(part).z for part in x.split(BATCH)]) * self.scale

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return pictures (B, C, fH, fW) of scaled codes (B, c, H, W), unclipped (eq. 11.1)."""
        return torch.cat([self.autoencoder.decode(part / self.scale) for part in z.split(BATCH)])

    def to(self, device: torch.device) -> "LatentCodec":
        """Return the codec with its autoencoder on a device."""
        return replace(self, autoencoder=self.autoencoder.to(device))

    def shape(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape (c, H/f, W/f) of the code of a picture of size (C, H, W)."""
        config = self.autoencoder.config
        return config.latent_channels, size[1] // config.factor, size[2] // config.factor


@dataclass(frozen=True, eq=False)
class LatentDataset:
    """Codes z (N, c, h, w) of pictures with a condition (N, ...) each: what training draws its batches from."""

    z: Tensor
    cond: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        return self.z[index], self.cond[index]


def fit_scale(autoencoder: AutoencoderLike, x: Tensor) -> float:
    """Return the scale that gives the codes of pictures (B, C, H, W) unit variance about their mean (eq. 11.2)."""
    std = LatentCodec(autoencoder).encode(x).std().item()
    if not 0 < std < math.inf:
        raise ValueError(f"expected codes that vary, got the standard deviation {std:.3g}")
    return 1 / std
