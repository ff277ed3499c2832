"""How much signal and how much noise is left at time t?

A schedule is a curve t -> (alpha, sigma) with t in [0, 1]: t = 0 is the data, t = 1 is noise, and
    x_t = alpha x0 + sigma eps,    (eq. 2.4)
with eps standard normal. alpha is DDPM's sqrt(alpha-bar); alpha^2 / sigma^2 is the signal-to-noise ratio.
Times are floats or tensors of any shape; a float counts as float64, a tensor keeps its dtype.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def as_time(t: float | Tensor) -> Tensor:
    """t as a floating-point tensor. ValueError unless every time lies in [0, 1]."""
    t = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
    t = t if t.is_floating_point() else t.double()
    if not ((t >= 0) & (t <= 1)).all():  # written so that nan fails too
        raise ValueError(f"expected times in [0, 1], got values from {t.min():.4g} to {t.max():.4g}")
    return t


class Schedule:
    """A curve t -> (alpha, sigma) and its derivative. Subclasses define __call__ and rates."""

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at time t, of the shape of t (eq. 2.4)."""
        raise NotImplementedError

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """(d alpha / dt, d sigma / dt) at time t, in closed form."""
        raise NotImplementedError

    def log_snr(self, t: float | Tensor) -> Tensor:
        """log(alpha^2 / sigma^2): +inf at the data, falling with t (eq. 2.6)."""
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, given log alpha(t) and its slope: exact where 1 - alpha^2 would cancel."""

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        log_alpha, _ = self.log_alpha(as_time(t))
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        _, slope = self.log_alpha(as_time(t))
        alpha, sigma = self(t)
        return slope * alpha, -slope * alpha**2 / sigma


@dataclass(frozen=True)
class LinearBeta(VariancePreserving):
    """DDPM's linear table in continuous time, beta(t) from beta_min to beta_max (Song et al. 2021; eq. 2.12)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        growth = self.beta_max - self.beta_min
        return -(self.beta_min * t + growth * t**2 / 2) / 2, -(self.beta_min + growth * t) / 2


@dataclass(frozen=True, repr=False)
class FromBetas(VariancePreserving):
    """DDPM's table beta_1..beta_T, exact at t = k/T; between two entries beta is constant (eq. 2.11)."""

    betas: tuple[float, ...]

    def __post_init__(self):
        betas = tuple(float(b) for b in self.betas)
        if not betas or not all(0 < b < 1 for b in betas):
            raise ValueError(
                f"expected betas strictly between 0 and 1, got {len(betas)} values"
                + (f" from {min(betas):.4g} to {max(betas):.4g}" if betas else "")
            )
        object.__setattr__(self, "betas", betas)

    def __repr__(self) -> str:
        return f"FromBetas({len(self.betas)} betas from {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    @cached_property
    def table(self) -> Tensor:
        """log alpha after 0, 1, ..., T steps: (T + 1,) float64."""
        steps = torch.log1p(-torch.tensor(self.betas, dtype=torch.float64)) / 2  # (T,)
        return torch.cat([steps.new_zeros(1), steps.cumsum(0)])

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table.to(t)
        position = t * len(self.betas)
        k = position.detach().floor().long().clamp(max=len(self.betas) - 1)
        slope = table[k + 1] - table[k]
        return table[k] + slope * (position - k), slope * len(self.betas)


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): a quarter circle at constant speed (Salimans & Ho 2022, sec. 4)."""

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = as_time(t)
        # sin(pi/2 (1 - t)), not cos(pi/2 t): exactly 0 at t = 1, where the cosine leaves a rounding error
        return torch.sin(math.pi / 2 * (1 - t)), torch.sin(math.pi / 2 * t)

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self(t)
        return -math.pi / 2 * sigma, math.pi / 2 * alpha


@dataclass(frozen=True)
class Flow(Schedule):
    """alpha = 1 - t, sigma = t: the straight line of flow matching (Lipman et al. 2023; Liu et al. 2023)."""

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = as_time(t)
        return 1 - t, t.clone()

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = as_time(t)
        return -torch.ones_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """alpha = 1, sigma^2 = s(t)^2 - s(0)^2, s geometric from sigma_min to sigma_max (Song et al. 2021, eq. 31)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = as_time(t)
        growth = math.log(self.sigma_max / self.sigma_min)
        return torch.ones_like(t), self.sigma_min * torch.expm1(2 * growth * t).sqrt()

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = as_time(t)
        growth = math.log(self.sigma_max / self.sigma_min)
        s_squared = self.sigma_min**2 * torch.exp(2 * growth * t)
        return torch.zeros_like(t), growth * s_squared / self(t)[1]


def linear_betas(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """The table of Ho et al. (2020, sec. 4): beta_1..beta_T evenly spaced, (T,) float64 (eq. 2.7)."""
    return torch.linspace(first, last, T, dtype=torch.float64)


def scaled_linear_betas(T: int, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """Stable Diffusion's table: sqrt(beta) evenly spaced, (T,) float64 (Rombach et al. 2022, eq. 2.8)."""
    return torch.linspace(first**0.5, last**0.5, T, dtype=torch.float64) ** 2


def sigmoid_betas(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """A sigmoid from first to last over [-6, 6], (T,) float64 (Xu et al. 2022, GeoDiff; eq. 2.9)."""
    return first + (last - first) * torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()


def cosine_betas(T: int, s: float = 0.008, largest: float = 0.999) -> Tensor:
    """The table whose alpha-bar is a squared cosine, (T,) float64 (Nichol & Dhariwal 2021, eq. 17; eq. 2.10)."""
    k = torch.arange(T + 1, dtype=torch.float64)
    f = torch.cos((k / T + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=largest)
