"""Pictures drawn from a trained model: noise from one seed, a sampler, a grid of times, a guidance, and the decoder.

This is the one way in which the command line, the checkpoints and the metrics draw samples. `Sampling` names what a
checkpoint recommends; `generate` takes the same things as values.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from minidiff.denoiser import Condition, Denoiser
from minidiff.guidance import cfg, check_labels, map_condition
from minidiff.latent import LatentCodec
from minidiff.nets.text import Vocabulary
from minidiff.samplers import State, ddim, ddpm, dpmpp_2m, euler, final, heun, times

SAMPLERS: dict[str, Callable[..., Iterator[State]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}
BATCH = 100  # pictures at a time: it bounds the memory


@dataclass(frozen=True)
class Sampling:
    """How a model is best sampled: a sampler of `SAMPLERS`, denoising steps, guidance w and time shift."""

    sampler: str = "dpmpp_2m"
    steps: int = 25
    guidance: float = 2.0
    shift: float = 1.0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"expected a sampler among {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 10_000:
            raise ValueError(f"expected steps from 1 to 10000, got {self.steps!r}")
        for name, low in ("guidance", -math.inf), ("shift", 0.0):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or not value > low or abs(value) > 1e4:
                raise ValueError(f"expected a finite {name}{' above 0' if low == 0 else ''}, got {value!r}")

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps, guidance {self.guidance:g}, shift {self.shift:g}"

    def times(self) -> Tensor:
        """Return the times that the sampler walks, from 1 to 0: (steps + 1,)."""
        return times(self.steps, shift=self.shift)

    def seeded_sampler(self, seed: int) -> Callable[..., Iterator[State]]:
        """Return the sampler; one that draws noise on its way draws it from the seed."""
        sampler = SAMPLERS[self.sampler]
        if "generator" not in inspect.signature(sampler).parameters:
            return sampler
        # another stream than the noise that the sampler starts from; torch reads the lower 32 bits of a seed
        return partial(sampler, generator=torch.Generator().manual_seed(seed + 2**31))


def cycle_labels(n: int, classes: int) -> Tensor:
    """Return n labels, each class as often as the others (or once more): 0 1 2 ... 0 1 2 ..., (n,) int64."""
    return torch.arange(n) % max(classes, 1)


def generate(
    denoiser: Denoiser,
    cond: Condition,
    size: tuple[int, ...],
    sampler: Callable[..., Iterator[State]] = dpmpp_2m,
    ts: Tensor | None = None,
    guidance: float | Callable = Sampling.guidance,
    seed: int = 0,
) -> Tensor:
    """Return one picture of `size` (C, H, W) for each condition, (B, ...) or a dict of such: (B, C, H, W) float32 in
    [-1, 1], on the CPU.

    sampler(denoise, x, ts, schedule) is any of `minidiff.samplers`, ts its falling grid, 25 even steps by default;
    guidance is the w of `cfg`, or a function (denoiser, cond, null) -> denoise of one's own. ValueError if what comes
    out is not finite.
    """
    return torch.cat(list(_solve(denoiser, cond, size, sampler, ts, guidance, seed))).clamp(-1, 1).cpu()


def _solve(
    denoiser: Denoiser,
    cond: Condition,
    size: tuple[int, ...],
    sampler: Callable[..., Iterator[State]],
    ts: Tensor | None,
    guidance: float | Callable,
    seed: int,
) -> Iterator[Tensor]:
    check_labels(cond, denoiser.null)
    ts = times(Sampling.steps) if ts is None else ts
    device, schedule = next(denoiser.parameters()).device, denoiser.schedule
    n = len(next(iter(cond.values())) if isinstance(cond, dict) else cond)
    noise = torch.randn((n, *size), generator=torch.Generator().manual_seed(seed))
    noise = noise * schedule(float(ts[0]))[1].float()  # x at t = 1 is N(0, sigma^2)
    for rows in torch.arange(n).split(BATCH):
        part = map_condition(lambda c, rows=rows: c[rows].to(device), cond)
        guided = _guided(denoiser, part, guidance)
        x = final(sampler(guided, noise[rows].to(device), ts, schedule))
        if bad := int((~x.isfinite()).flatten(1).any(1).sum()):
            raise ValueError(
                f"expected finite pictures, got {bad} of {len(x)} that are not: try a guidance nearer to 1"
            )
        yield x


def _guided(denoiser: Denoiser, cond: Condition, guidance: float | Callable) -> Callable:
    if callable(guidance):
        return guidance(denoiser, cond, denoiser.null)
    if denoiser.null is None:
        if guidance != 1:
            raise ValueError(f"this denoiser has no null condition: expected guidance 1, got {guidance}")
        return lambda x, t: denoiser(x, t, cond)
    return cfg(denoiser, cond, denoiser.null, guidance)


@dataclass(frozen=True, eq=False)
class Model:
    """All that sampling needs: a denoiser, what its labels are called, the size (C, H, W) of a picture; where there are
    any, the codes that it works on and the words that it knows; and the recommended sampling. diffusers calls such a
    thing a pipeline."""

    denoiser: Denoiser = field(repr=False)
    classes: tuple[str, ...]
    size: tuple[int, int, int]
    latent: LatentCodec | None = None
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    sampling: Sampling = Sampling()
    fingerprint: str | None = None  # of the data it was trained on, where that is known

    def to(self, device: torch.device) -> "Model":
        """Return the model on a device; its modules are moved in place, so that this model moves too."""
        return replace(self, denoiser=self.denoiser.to(device), latent=self.latent and self.latent.to(device))

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens (B, L) of B prompts. ValueError if the model has no words, or not these."""
        if self.vocabulary is None:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
            raise ValueError(
                f"this model was trained without text (--text): expected a label among {names}; got a prompt"
            )
        return self.vocabulary.encode(texts)

    def labels(self, label: int, n: int) -> Tensor:
        """Return n times one label: (n,) int64. ValueError if the model does not know it, or wants prompts."""
        if self.vocabulary is not None:
            raise ValueError(f"this model was trained with --text: expected a --prompt, got --label {label}")
        if not 0 <= label < len(self.classes):
            known = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
            raise ValueError(f"expected a --label among {known}; got {label}")
        return torch.full((n,), label)

    def sample(self, cond: Tensor, sampling: Sampling | None = None, seed: int = 0) -> Tensor:
        """Return one picture for each label (B,) or row of tokens (B, L): (B, C, H, W) float32 in [-1, 1], on the CPU.

        Without `sampling` it is the model's own.
        """
        how = sampling or self.sampling
        size = self.size if self.latent is None else self.latent.shape(self.size)
        walk = how.seeded_sampler(seed), how.times(), how.guidance, seed
        if self.latent is None:
            return generate(self.denoiser, cond, size, *walk)
        codes = _solve(self.denoiser, cond, size, *walk)
        return torch.cat([self.latent.decode(z) for z in codes]).clamp(-1, 1).cpu()
