"""The forward process, its exact posterior, and the six things a network may predict.

A noisy image is one point of the plane spanned by a clean image and a noise image,
    x_t = alpha x0 + sigma eps,    (eq. 2.4)
and so is every prediction target, y = a x0 + b eps (eq. 5.9): two equations, two unknowns.
Times are () or (B,); images are (B, ...). Coefficients are computed in the dtype of the time,
the result has the dtype and the device of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.schedule import Schedule, as_time, validating


def match_dims(c: Tensor, x: Tensor) -> Tensor:
    """Return coefficients () or (B,) shaped so that they multiply x (B, ...), in its dtype and on its device.

    A single number stays on the CPU: arithmetic takes it from there without making a GPU wait for a copy.
    """
    c = torch.as_tensor(c)
    if c.ndim > 1 or (c.ndim == 1 and c.shape[0] != x.shape[0]):
        raise ValueError(f"expected times () or ({len(x)},) for data of shape {tuple(x.shape)}, got {tuple(c.shape)}")
    c = c.to(x.dtype)  # before the device: some have no float64
    if c.ndim == 0 and c.device.type == "cpu":
        return c
    return c.to(x.device).reshape(c.shape + (1,) * (x.ndim - c.ndim))


def check_same_shape(x: Tensor, other: Tensor, names: str) -> None:
    """Raise a ValueError unless two images to be mixed have one shape: broadcasting would hide the mistake."""
    if x.shape != other.shape:
        raise ValueError(f"expected {names} of one shape, got {tuple(x.shape)} and {tuple(other.shape)}")


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return standard normal noise of x's shape, drawn on the CPU: every device starts from the same numbers."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std^2 I): mean (B, ...), std a number or a tensor that broadcasts against it."""

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return mean + std z with z standard normal, of the shape of mean."""
        return self.mean + self.std * noise_like(self.mean, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density of x in nats, summed over all but the batch: (B,)."""
        std = torch.as_tensor(self.std).to(x).expand_as(x)
        normal = torch.distributions.Normal(self.mean, std, validate_args=False)
        return normal.log_prob(x).flatten(1).sum(1)  # (B,)

    def kl(self, other: "Gaussian") -> Tensor:
        """Return KL(self || other) in nats, summed over all but the batch: (B,) (eq. 4.2)."""
        ratio = torch.as_tensor(self.std / other.std).to(self.mean)
        distance = (self.mean - other.mean) / other.std
        return ((distance**2 + ratio**2 - 1) / 2 - ratio.log()).flatten(1).sum(1)  # (B,)


def add_noise(x0: Tensor, eps: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """Return x_t = alpha x0 + sigma eps: any number of forward steps in one jump (eq. 2.4)."""
    check_same_shape(x0, eps, "x0 and eps")
    alpha, sigma = schedule(t)
    return match_dims(alpha, x0) * x0 + match_dims(sigma, x0) * eps


def transition(s: float | Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return (alpha_ts, sigma_ts) of q(x_t | x_s) = N(alpha_ts x_s, sigma_ts^2 I) for s < t (eq. 2.5)."""
    s, t = as_time(s), as_time(t)
    if validating(s) and validating(t) and not (s < t).all():
        raise ValueError(f"expected s < t (s nearer the data), got s = {s.max():.4g} and t = {t.min():.4g}")
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.at(s), schedule.at(t)
    log_snr_s, log_snr_t = 2 * (alpha_s.log() - sigma_s.log()), 2 * (alpha_t.log() - sigma_t.log())
    # sigma_t^2 - alpha_ts^2 sigma_s^2 as sigma_t^2 (1 - SNR_t / SNR_s); times that are one rounding apart may have
    # their SNRs the wrong way round, which counts as no noise
    return alpha_t / alpha_s, sigma_t * (-torch.expm1(log_snr_t - log_snr_s)).clamp(min=0).sqrt()


def posterior_std(s: float | Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """Return the std of q(x_s | x_t, x0) for s < t, DDPM's sqrt(beta-tilde), of the shape of the times (eq. 3.4)."""
    (_, sigma_s), (_, sigma_t), (_, sigma_ts) = schedule(s), schedule(t), transition(s, t, schedule)
    return sigma_ts * sigma_s / sigma_t


def posterior(x_t: Tensor, x0: Tensor, s: float | Tensor, t: float | Tensor, schedule: Schedule) -> Gaussian:
    """Return q(x_s | x_t, x0) for s < t (Ho et al. 2020, eq. 7; eq. 3.4): at s = 0 it is x0 itself, without noise."""
    check_same_shape(x_t, x0, "x_t and x0")
    (alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
    alpha_ts, sigma_ts = transition(s, t, schedule)
    from_noisy = alpha_ts * sigma_s**2 / sigma_t**2
    from_clean = alpha_s * sigma_ts**2 / sigma_t**2
    mean = match_dims(from_noisy, x_t) * x_t + match_dims(from_clean, x_t) * x0
    return Gaussian(mean, match_dims(posterior_std(s, t, schedule), x_t))


Rates = Callable[[], tuple[Tensor, Tensor]]  # only a velocity asks for them


def edm_coefficients(alpha: Tensor, sigma: Tensor, rates: Rates) -> tuple[Tensor, Tensor]:
    """Return (sigma, -alpha) / sqrt(alpha^2 + sigma^2): EDM's target (Karras et al. 2022, sigma_data = 1)."""
    norm = (alpha**2 + sigma**2).sqrt()
    return sigma / norm, -alpha / norm


# A prediction is its row (a, b), as a function of alpha, sigma and their rates.
PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Rates], tuple[Tensor, Tensor]]] = {
    "x0": lambda alpha, sigma, rates: (torch.ones_like(alpha), torch.zeros_like(alpha)),
    "eps": lambda alpha, sigma, rates: (torch.zeros_like(alpha), torch.ones_like(alpha)),
    "v": lambda alpha, sigma, rates: (-sigma, alpha),
    "velocity": lambda alpha, sigma, rates: rates(),
    "score": lambda alpha, sigma, rates: (torch.zeros_like(alpha), -1 / sigma),
    "edm": edm_coefficients,
}


def target_coefficients(prediction: str, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return (a, b) of the target y = a x0 + b eps, of the shape of t (eq. 5.9). v is Salimans & Ho's (2022)."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"expected a prediction among {', '.join(PREDICTIONS)}, got {prediction!r}")
    t = as_time(t)
    return PREDICTIONS[prediction](*schedule.at(t), lambda: schedule.rates_at(t))


def target(prediction: str, x0: Tensor, eps: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """Return y = a x0 + b eps, what a network of that prediction is trained to give (eq. 5.9)."""
    check_same_shape(x0, eps, "x0 and eps")
    a, b = target_coefficients(prediction, t, schedule)
    return match_dims(a, x0) * x0 + match_dims(b, x0) * eps


def to_x0_eps(prediction: str, y: Tensor, x_t: Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return (x0, eps) from the two equations x_t = alpha x0 + sigma eps and y = a x0 + b eps (eq. 5.10).

    ValueError where they say the same thing twice (eps-prediction at pure noise, x0-prediction at the data), or where
    y has no finite coefficients (the score at the data).
    """
    check_same_shape(y, x_t, "the prediction and x_t")
    (alpha, sigma), (a, b) = schedule(t), target_coefficients(prediction, t, schedule)
    det = alpha * b - sigma * a
    if validating(det):
        check_regular(det, prediction, t, schedule)
    x0 = match_dims(b / det, x_t) * x_t - match_dims(sigma / det, x_t) * y
    eps = match_dims(alpha / det, x_t) * y - match_dims(a / det, x_t) * x_t
    return x0, eps


def check_regular(det: Tensor, prediction: str, t: float | Tensor, schedule: Schedule) -> None:
    """Raise a ValueError where the determinant alpha b - sigma a is 0 or not finite."""
    singular = ~(det.isfinite() & (det != 0))
    if singular.any():
        raise ValueError(
            f"a prediction of {prediction} does not determine x0 and eps at t = {as_time(t)[singular][0]:.4g} "
            f"with {schedule}: expected a finite alpha b - sigma a other than 0, got {det[singular][0]:.4g}"
        )
