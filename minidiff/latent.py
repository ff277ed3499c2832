"""What if diffusion ran on small codes instead of pictures?

    z = scale * encoder(x),   x = decoder(z / scale),   scale = 1 / std(encoder(x))    (eqs 11.1, 11.2)

(Rombach et al. 2022, section 3 and appendix G). The codes are data like any other: the same training, samplers and
guidance work on them. The scale gives them unit variance, for which the noise schedules are made.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from minidiff.nets.autoencoder import Autoencoder

BATCH = 250  # a few pictures at a time bound the memory


@dataclass(frozen=True, eq=False)
class Latent:
    """A frozen autoencoder and the scale of its codes: pictures (B, C, H, W) <-> codes (B, c, H/f, W/f)."""

    autoencoder: Autoencoder = field(repr=False)
    scale: float = 1.0

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes of pictures in [-1, 1], scaled; KL's mean, without noise (eq. 11.1)."""
        return torch.cat([self.autoencoder.encode(part).z for part in x.split(BATCH)]) * self.scale

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Pictures of scaled codes, as the decoder gives them: it may leave [-1, 1] a little (eq. 11.1)."""
        return torch.cat([self.autoencoder.decode(part / self.scale) for part in z.split(BATCH)])

    def shape(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, H/f, W/f) of the code of a picture of size (C, H, W)."""
        config = self.autoencoder.config
        return config.latent, size[1] // config.factor, size[2] // config.factor


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes z (N, c, h, w) and a condition (N, ...) each: what training draws its batches from."""

    z: Tensor
    cond: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        return self.z[index], self.cond[index]


def fit_scale(autoencoder: Autoencoder, x: Tensor) -> float:
    """The scale that gives the codes of pictures (B, C, H, W) unit variance about their mean (eq. 11.2)."""
    std = Latent(autoencoder).encode(x).std().item()
    if not 0 < std < float("inf"):
        raise ValueError(f"expected codes that vary, got the standard deviation {std:.3g}")
    return 1 / std
