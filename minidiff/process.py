"""The forward process, its exact posterior, and the five things a network may predict.

A noisy image is one point of the plane spanned by a clean image and a noise image,
    x_t = alpha x0 + sigma eps,    (eq. 2.4)
and so is every prediction target, y = a x0 + b eps (eq. 5.9): two equations, two unknowns.
Times are () or (B,); images are (B, ...). Coefficients are computed in the dtype of the time,
the result has the dtype and the device of the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.schedule import Schedule, as_time


def expand(c: Tensor, x: Tensor) -> Tensor:
    """Shapes coefficients () or (B,) so that they multiply x of shape (B, ...), in x's dtype and device."""
    c = torch.as_tensor(c)
    if c.ndim > 1 or (c.ndim == 1 and len(c) != len(x)):
        raise ValueError(f"expected times () or ({len(x)},) for data of shape {tuple(x.shape)}, got {tuple(c.shape)}")
    return c.reshape(c.shape + (1,) * (x.ndim - c.ndim)).to(x)


def same_shape(x: Tensor, other: Tensor, names: str) -> None:
    """ValueError unless two images that are to be mixed have one shape: broadcasting would hide the mistake."""
    if x.shape != other.shape:
        raise ValueError(f"expected {names} of one shape, got {tuple(x.shape)} and {tuple(other.shape)}")


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of x's shape: drawn on the CPU, so that every device starts from the same numbers."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std^2 I): mean (B, ...), std a number or a tensor that broadcasts against it."""

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """mean + std z with z standard normal, of the shape of mean."""
        return self.mean + self.std * noise_like(self.mean, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of x in nats, summed over all but the batch: (B,)."""
        std = torch.as_tensor(self.std).to(x).expand_as(x)
        normal = torch.distributions.Normal(self.mean, std, validate_args=False)
        return normal.log_prob(x).flatten(1).sum(1)  # (B,)

    def kl(self, other: "Gaussian") -> Tensor:
        """KL(self || other) in nats, summed over all but the batch: (B,) (eq. 4.2)."""
        ratio = torch.as_tensor(self.std / other.std).to(self.mean)
        distance = (self.mean - other.mean) / other.std
        return ((distance**2 + ratio**2 - 1) / 2 - ratio.log()).flatten(1).sum(1)  # (B,)


def add_noise(x0: Tensor, eps: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """x_t = alpha x0 + sigma eps: any number of forward steps in one jump (eq. 2.4)."""
    same_shape(x0, eps, "x0 and eps")
    alpha, sigma = schedule(t)
    return expand(alpha, x0) * x0 + expand(sigma, x0) * eps


def transition(s: float | Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(alpha_ts, sigma_ts) of q(x_t | x_s) = N(alpha_ts x_s, sigma_ts^2 I) for s < t (eq. 2.5)."""
    s, t = as_time(s), as_time(t)
    if not (s < t).all():
        raise ValueError(f"expected s < t (s nearer the data), got s = {s.max():.4g} and t = {t.min():.4g}")
    (alpha_s, _), (alpha_t, sigma_t) = schedule(s), schedule(t)
    # sigma_t^2 - alpha_ts^2 sigma_s^2 as sigma_t^2 (1 - SNR_t / SNR_s), which rounding cannot make negative
    return alpha_t / alpha_s, sigma_t * (-torch.expm1(schedule.log_snr(t) - schedule.log_snr(s))).sqrt()


def posterior(x_t: Tensor, x0: Tensor, s: float | Tensor, t: float | Tensor, schedule: Schedule) -> Gaussian:
    """q(x_s | x_t, x0) for s < t (Ho et al. 2020, eq. 7; eq. 3.4). At s = 0 it is x0 itself, without noise."""
    same_shape(x_t, x0, "x_t and x0")
    (alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
    alpha_ts, sigma_ts = transition(s, t, schedule)
    from_noisy = alpha_ts * sigma_s**2 / sigma_t**2
    from_clean = alpha_s * sigma_ts**2 / sigma_t**2
    mean = expand(from_noisy, x_t) * x_t + expand(from_clean, x_t) * x0
    return Gaussian(mean, expand(sigma_ts * sigma_s / sigma_t, x_t))


ROWS = {
    "x0": lambda t, schedule: (torch.ones_like(t), torch.zeros_like(t)),
    "eps": lambda t, schedule: (torch.zeros_like(t), torch.ones_like(t)),
    "v": lambda t, schedule: (-schedule(t)[1], schedule(t)[0]),
    "velocity": lambda t, schedule: schedule.rates(t),
    "score": lambda t, schedule: (torch.zeros_like(t), -1 / schedule(t)[1]),
}


def row(prediction: str, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(a, b) of the target y = a x0 + b eps, of the shape of t (eq. 5.9). v is Salimans & Ho's (2022)."""
    if prediction not in ROWS:
        raise ValueError(f"expected a prediction among {', '.join(ROWS)}, got {prediction!r}")
    return ROWS[prediction](as_time(t), schedule)


def target(prediction: str, x0: Tensor, eps: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """y = a x0 + b eps, what a network of that prediction is trained to give (eq. 5.9)."""
    same_shape(x0, eps, "x0 and eps")
    a, b = row(prediction, t, schedule)
    return expand(a, x0) * x0 + expand(b, x0) * eps


def solve(prediction: str, y: Tensor, x_t: Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(x0, eps) from the two equations x_t = alpha x0 + sigma eps and y = a x0 + b eps (eq. 5.10).

    ValueError where they say the same thing twice (eps-prediction at pure noise, x0-prediction at the data), or where
    y has no finite coefficients (the score at the data).
    """
    same_shape(y, x_t, "the prediction and x_t")
    (alpha, sigma), (a, b) = schedule(t), row(prediction, t, schedule)
    det = alpha * b - sigma * a
    singular = ~(det.isfinite() & (det != 0))
    if singular.any():
        raise ValueError(
            f"a prediction of {prediction} does not determine x0 and eps at t = {as_time(t)[singular][0]:.4g} "
            f"with {schedule}: expected a finite alpha b - sigma a other than 0, got {det[singular][0]:.4g}"
        )
    x0 = expand(b / det, x_t) * x_t - expand(sigma / det, x_t) * y
    eps = expand(alpha / det, x_t) * y - expand(a / det, x_t) * x_t
    return x0, eps
