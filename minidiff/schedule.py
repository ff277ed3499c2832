"""Noise schedules: how much signal and how much noise is left at time t.

A schedule is a curve t -> (alpha, sigma) with t in [0, 1]: t = 0 is the data, t = 1 is noise, and
    x_t = alpha x0 + sigma eps,    (eq. 2.4)
with eps standard normal. alpha is DDPM's sqrt(alpha-bar); alpha^2 / sigma^2 is the signal-to-noise ratio.
Times are floats or tensors of any shape; a float counts as float64, a tensor keeps its dtype.
"""

import math
import numbers
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

MAX_BETAS = 10**6


def validating(value: Tensor) -> bool:
    """Return whether a check may read a tensor: on a GPU it would wait, in a graph that is being made it cannot."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def as_float(t: float | Tensor) -> Tensor:
    """Return t as a floating-point tensor, unchecked: a tensor of floats keeps its dtype, all else is float64."""
    t = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
    return t if t.is_floating_point() else t.double()


def as_time(t: float | Tensor) -> Tensor:
    """Return t as a floating-point tensor; ValueError unless every time lies in [0, 1]."""
    t = as_float(t)
    if validating(t) and not ((t >= 0) & (t <= 1)).all():  # written so that nan fails too
        raise ValueError(f"expected times in [0, 1], got values from {t.min():.4g} to {t.max():.4g}")
    return t


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Return shift t / (1 + (shift - 1) t): above 1 times move towards noise (Esser et al. 2024, eq. 23; eq. 12.13)."""
    if not 0 < shift < math.inf:
        raise ValueError(f"expected a finite shift > 0, got {shift}")
    return (shift * t / (1 + (shift - 1) * t)).clamp(max=1.0)


def are_numbers(*values: object) -> bool:
    """Return whether all parameters are real numbers: a damaged file may hold anything."""
    return all(isinstance(value, numbers.Real) for value in values)


class Schedule:
    """A curve t -> (alpha, sigma) and its derivative. A subclass defines __call__ and rates, and that is enough.

    `at` and `rates_at` skip the check of t, for hot paths; by default they are __call__ and rates.
    """

    variance_preserving: ClassVar[bool] = False  # whether alpha^2 + sigma^2 = 1 at all times

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) at time t, of the shape of t (eq. 2.4)."""
        raise NotImplementedError

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return (d alpha / dt, d sigma / dt) at time t, in closed form."""
        raise NotImplementedError

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) without a check of t, a floating-point tensor."""
        return self(t)

    def rates_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rates without a check of t, a floating-point tensor."""
        return self.rates(t)

    def log_snr(self, t: float | Tensor) -> Tensor:
        """Return log(alpha^2 / sigma^2): +inf at the data, falling with t (eq. 2.6)."""
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())


class ClosedForm(Schedule):
    """A schedule given by the formulas `at` and `rates_at`; __call__ and rates check the times before."""

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        return self.at(as_time(t))

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        return self.rates_at(as_time(t))


class VariancePreserving(ClosedForm):
    """alpha^2 + sigma^2 = 1, given log alpha(t) and its slope: exact where 1 - alpha^2 would cancel."""

    variance_preserving = True

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return log alpha(t) and its derivative."""
        raise NotImplementedError

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha, _ = self.log_alpha(t)
        alpha = log_alpha.exp()
        # 1 - alpha^2 as (1 + alpha^2) tanh|log alpha|, which does not cancel (nor does expm1, but ONNX lacks it)
        return alpha, ((1 + alpha**2) * torch.tanh(log_alpha.abs())).sqrt()

    def rates_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        (_, slope), (alpha, sigma) = self.log_alpha(t), self.at(t)
        return slope * alpha, -slope * alpha**2 / sigma


@dataclass(frozen=True)
class LinearBeta(VariancePreserving):
    """DDPM's linear table in continuous time, beta(t) from beta_min to beta_max (Song et al. 2021; eq. 2.13)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        numeric = are_numbers(self.beta_min, self.beta_max)
        if not (numeric and 0 <= self.beta_min <= self.beta_max < math.inf and self.beta_max > 0):
            raise ValueError(
                f"expected 0 <= beta_min <= beta_max, finite and not all 0, got {self.beta_min} and {self.beta_max}"
            )

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        growth = self.beta_max - self.beta_min
        return -(self.beta_min * t + growth * t**2 / 2) / 2, -(self.beta_min + growth * t) / 2


@dataclass(frozen=True, repr=False)
class FromBetas(VariancePreserving):
    """DDPM's table beta_1..beta_T, exact at t = k/T; between two entries beta is constant (eq. 2.12)."""

    betas: tuple[float, ...]

    def __post_init__(self):
        try:
            betas = tuple(float(b) for b in self.betas)
        except (TypeError, ValueError):
            betas = ()
        if not (1 <= len(betas) <= MAX_BETAS and all(0 < b < 1 for b in betas)):
            got = f"{len(betas)} from {min(betas):.4g} to {max(betas):.4g}" if betas else str(self.betas)[:60]
            raise ValueError(f"expected betas strictly between 0 and 1, 1 to {MAX_BETAS} of them, got {got}")
        object.__setattr__(self, "betas", betas)
        self.table  # noqa: B018 (made now, since torch.compile cannot enter a cached property's lock)

    def __repr__(self) -> str:
        return f"FromBetas({len(self.betas)} betas from {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    @cached_property
    def table(self) -> Tensor:
        """log alpha after 0, 1, ..., T steps: (T + 1,) float64."""
        steps = torch.log1p(-torch.tensor(self.betas, dtype=torch.float64)) / 2  # (T,)
        return torch.cat([steps.new_zeros(1), steps.cumsum(0)])

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table.to(t.dtype).to(t.device)
        position = t * len(self.betas)
        k = position.detach().floor().long().clamp(0, len(self.betas) - 1)
        now, later = table.take(k), table.take(k + 1)  # table[k] would read a single k
        slope = later - now
        return now + slope * (position - k), slope * len(self.betas)


@dataclass(frozen=True)
class Cosine(ClosedForm):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): a quarter circle at constant speed (Salimans & Ho 2022, sec. 4)."""

    variance_preserving = True

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # sin(pi/2 (1 - t)), not cos(pi/2 t): exactly 0 at t = 1, where the cosine leaves a rounding error
        return torch.sin(math.pi / 2 * (1 - t)), torch.sin(math.pi / 2 * t)

    def rates_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.at(t)
        return -math.pi / 2 * sigma, math.pi / 2 * alpha


@dataclass(frozen=True)
class Flow(ClosedForm):
    """alpha = 1 - t, sigma = t: the straight line of flow matching (Lipman et al. 2023; Liu et al. 2023)."""

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t.clone()

    def rates_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class VarianceExploding(ClosedForm):
    """alpha = 1, sigma^2 = s(t)^2 - s(0)^2, s geometric from sigma_min to sigma_max (Song et al. 2021, eq. 31)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        numeric = are_numbers(self.sigma_min, self.sigma_max)
        if not (numeric and 0 < self.sigma_min < self.sigma_max < math.inf):
            raise ValueError(f"expected 0 < sigma_min < sigma_max, finite, got {self.sigma_min} and {self.sigma_max}")

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_ratio = math.log(self.sigma_max / self.sigma_min) * t  # of s(t) to s(0)
        # s^2 - s(0)^2 without cancellation, as in VariancePreserving
        return torch.ones_like(t), self.sigma_min * ((1 + torch.exp(2 * log_ratio)) * torch.tanh(log_ratio)).sqrt()

    def rates_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        growth = math.log(self.sigma_max / self.sigma_min)
        s_squared = self.sigma_min**2 * torch.exp(2 * growth * t)
        return torch.zeros_like(t), growth * s_squared / self.at(t)[1]


SCHEDULES: dict[str, type[Schedule]] = {
    cls.__name__: cls for cls in (Cosine, Flow, FromBetas, LinearBeta, VarianceExploding)
}


def register_schedule(name: str, cls: type[Schedule]) -> None:
    """Make a schedule known by name to checkpoints and the command line: a frozen dataclass that is a Schedule.

    ValueError for anything else, and for a name that another class has. A notebook's cell may run twice.
    """
    frozen = isinstance(cls, type) and getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    if not (frozen and issubclass(cls, Schedule)):
        raise ValueError(f"expected a frozen dataclass that is a Schedule, got {cls!r}")
    taken = SCHEDULES.get(name, cls)
    if (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"expected a name of its own for {cls.__name__}, got {name!r}, the name of {taken}")
    SCHEDULES[name] = cls


def linear_betas(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return the table of Ho et al. (2020, sec. 4): beta_1..beta_T evenly spaced, (T,) float64 (eq. 2.7)."""
    return torch.linspace(first, last, T, dtype=torch.float64)


def scaled_linear_betas(T: int, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """Return Stable Diffusion's table: sqrt(beta) evenly spaced, (T,) float64 (Rombach et al. 2022, eq. 2.9)."""
    return torch.linspace(first**0.5, last**0.5, T, dtype=torch.float64) ** 2


def sigmoid_betas(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return a sigmoid from first to last over [-6, 6], (T,) float64 (Xu et al. 2022, GeoDiff; eq. 2.10)."""
    return first + (last - first) * torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()


def cosine_betas(T: int, s: float = 0.008, largest: float = 0.999) -> Tensor:
    """Return the table whose alpha-bar is a squared cosine, (T,) float64 (Nichol & Dhariwal 2021, eq. 17; eq. 2.11)."""
    k = torch.arange(T + 1, dtype=torch.float64)
    f = torch.cos((k / T + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=largest)
