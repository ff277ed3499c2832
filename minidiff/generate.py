"""How are pictures asked of a trained model?

Noise drawn on the CPU from one seed, classifier-free guidance towards what is wanted, DPM-Solver++(2M) down to the
data and, where diffusion runs on codes, the decoder: the one way in which the command line, the checkpoints and the
metrics draw samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from minidiff.denoiser import Denoiser
from minidiff.guidance import cfg
from minidiff.latent import Latent
from minidiff.nets.text import Vocabulary
from minidiff.samplers import dpmpp_2m, final, times

GUIDANCE = 2.0
STEPS = 25


def best_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def every_label(n: int, classes: int) -> Tensor:
    """n labels, each class as often as the others (or once more): 0 1 2 ... 0 1 2 ..., (n,) int64."""
    return torch.arange(n) % max(classes, 1)


def generate(
    denoiser: Denoiser,
    cond: Tensor,
    size: tuple[int, ...],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 0,
) -> Tensor:
    """One picture of `size` (C, H, W) for each label (B,) or row of tokens (B, L), int64: (B, C, H, W) float32 in
    [-1, 1], on the CPU."""
    return torch.cat(list(_solve(denoiser, cond, size, steps, guidance, seed))).clamp(-1, 1).cpu()


def _solve(
    denoiser: Denoiser, cond: Tensor, size: tuple[int, ...], steps: int, guidance: float, seed: int
) -> Iterator[Tensor]:
    device = next(denoiser.parameters()).device
    noise = torch.randn((len(cond), *size), generator=torch.Generator().manual_seed(seed))
    noise = noise * denoiser.schedule(1.0)[1]  # x at t = 1 is N(0, sigma^2)
    for x, part in zip(noise.split(100), cond.split(100), strict=True):  # a hundred at a time bounds the memory
        guided = cfg(denoiser, part.to(device), denoiser.net.config.null, guidance)
        yield final(dpmpp_2m(guided, x.to(device), times(steps), denoiser.schedule))


@dataclass(frozen=True, eq=False)
class Model:
    """All that drawing needs: a denoiser, what its labels are called, the size (C, H, W) of a picture, and where there
    are any, the codes that it works on and the words that it knows."""

    denoiser: Denoiser = field(repr=False)
    classes: tuple[str, ...]
    size: tuple[int, int, int]
    latent: Latent | None = None
    vocabulary: Vocabulary | None = field(default=None, repr=False)

    def to(self, device: torch.device) -> "Model":
        """The model on a device."""
        latent = self.latent and Latent(self.latent.autoencoder.to(device), self.latent.scale)
        return replace(self, denoiser=self.denoiser.to(device), latent=latent)

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """Tokens (B, L) of B prompts; ValueError if the model has no words, or not these."""
        if self.vocabulary is None:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
            raise ValueError(
                f"this model was trained without text (--text): expected a label among {names}; got a prompt"
            )
        return self.vocabulary.encode(texts)

    def draw(self, cond: Tensor, steps: int = STEPS, guidance: float = GUIDANCE, seed: int = 0) -> Tensor:
        """One picture for each label (B,) or row of tokens (B, L): (B, C, H, W) float32 in [-1, 1], on the CPU."""
        if self.latent is None:
            return generate(self.denoiser, cond, self.size, steps, guidance, seed)
        codes = _solve(self.denoiser, cond, self.latent.shape(self.size), steps, guidance, seed)
        return torch.cat([self.latent.decode(z) for z in codes]).clamp(-1, 1).cpu()
