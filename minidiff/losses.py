"""Objectives of training, and the variational bound.

Every objective of the course is a weighted error of the denoiser,
    w(t) |x0_hat(x_t, t) - x0|^2,    (eq. 5.11)
and the choice of prediction is a choice of w: a network for y = a x0 + b eps with plain squared error has
w = (a - b alpha / sigma)^2. Losses are per sample, (B,); vlb is in nats and summed over dimensions.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Generator, Tensor

from minidiff.process import PREDICTIONS, Gaussian, add_noise, match_dims, noise_like, posterior, transition
from minidiff.schedule import Schedule, as_time, shift_times

WEIGHTINGS = *PREDICTIONS, "min_snr", "vlb"


def sample_times(n: int, generator: Generator | None = None, start: float = 1e-3, shift: float = 1.0) -> Tensor:
    """Return one uniform time in each of n equal parts of [start, 1], then shifted: (n,) float32 (eq. 7.2).

    The mean loss of n images is steadier than with n independent draws.
    """
    if n < 1 or not 0 <= start < 1:
        raise ValueError(f"expected n >= 1 and 0 <= start < 1, got n = {n}, start = {start}")
    u = torch.rand(n, generator=generator)
    t = start + (1 - start) * (torch.arange(n) + u) / n
    return shift_times(t, shift)


def denoising_loss(denoise: Callable, x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule, cond=None) -> Tensor:
    """Return |x0_hat - x0|^2, averaged over dimensions: (B,) (eq. 5.11 with w = 1). Multiply by `weight`."""
    x_t = add_noise(x0, eps, t, schedule)
    x0_hat = denoise(x_t, t) if cond is None else denoise(x_t, t, cond)
    return (x0_hat - x0).square().flatten(1).mean(1)  # (B,)


def weight(name: str, t: float | Tensor, schedule: Schedule) -> Tensor:
    """Return w(t) of the shape of t (eq. 5.11): a prediction's plain squared error seen from x0, or "min_snr",
    min(SNR, 5) (Hang et al. 2023), or "vlb", -SNR'(t) / 2 (Kingma et al. 2021, eq. 17; eq. 5.12)."""
    t = as_time(t)
    alpha, sigma = schedule.at(t)
    if name in PREDICTIONS:
        a, b = PREDICTIONS[name](alpha, sigma, lambda: schedule.rates_at(t))
        return (a - b * alpha / sigma) ** 2
    if name == "min_snr":
        return (alpha / sigma).square().clamp(max=5.0)
    if name == "vlb":
        alpha_rate, sigma_rate = schedule.rates_at(t)
        return alpha / sigma**3 * (alpha * sigma_rate - sigma * alpha_rate)
    raise ValueError(f"expected a weighting among {', '.join(WEIGHTINGS)}, got {name!r}")


def vlb_terms(
    denoise: Callable,
    x0: Tensor,
    ts: Tensor,
    schedule: Schedule,
    generator: Generator | None = None,
    bins: int | None = None,
) -> Iterator[Tensor]:
    """Yield the terms L_T, ..., L_s, ..., L_0 of the bound: (B,) nats each (Ho et al. 2020, eq. 5; eq. 4.10).

    ts falls from 1 to 0 (`samplers.times`). p(x_1) is N(0, sigma(1)^2 I), which is eq. 4.4's for sigma(1) = 1.
    The steps back have variance sigma_ts^2, DDPM's beta_t. With bins, x0 is one of that many even levels in [-1, 1].
    """
    alpha, sigma = (match_dims(c, x0) for c in schedule(ts[0]))
    yield Gaussian(alpha * x0, sigma).kl(Gaussian(torch.zeros_like(x0), match_dims(schedule(1.0)[1], x0)))  # L_T
    for t, s in pairwise(ts):
        x_t = add_noise(x0, noise_like(x0, generator), t, schedule)
        _, sigma_ts = transition(s, t, schedule)
        model = Gaussian(posterior(x_t, denoise(x_t, t), s, t, schedule).mean, match_dims(sigma_ts, x0))  # p(x_s | x_t)
        if s > 0:
            yield posterior(x_t, x0, s, t, schedule).kl(model)  # L_s
        else:
            yield -(model.log_prob(x0) if bins is None else discretized_log_likelihood(model, x0, bins))  # L_0


def vlb(
    denoise: Callable,
    x0: Tensor,
    ts: Tensor,
    schedule: Schedule,
    generator: Generator | None = None,
    bins: int | None = None,
) -> Tensor:
    """Return the variational bound on -log p(x0), the sum of `vlb_terms`: (B,) nats (eq. 4.10).

    ValueError for times that do not go from 1 to 0: without its first or last term the sum bounds nothing.
    """
    if ts[0] != 1 or ts[-1] != 0:
        raise ValueError(f"expected times from 1 to 0, got {float(ts[0]):.3g} to {float(ts[-1]):.3g}")
    return sum(vlb_terms(denoise, x0, ts, schedule, generator, bins), start=torch.zeros(()))


def discretized_log_likelihood(decoder: Gaussian, x0: Tensor, bins: int) -> Tensor:
    """Return log of the mass in x0's bin, outer bins reaching to infinity: (B,) (Ho et al. 2020, eq. 13; eq. 4.12)."""
    half = 1 / (bins - 1)
    a, b = ((edge - decoder.mean) / decoder.std for edge in (x0 - half, x0 + half))
    a = torch.where(x0 < half - 1, -math.inf, a)  # after the division: an infinite edge would have nan as its gradient
    b = torch.where(x0 > 1 - half, math.inf, b)
    flip = a > 0  # far in the right tail both cumulatives round to 1: use the left tail's mirror image
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    return (log_b + torch.log1p(-torch.exp(log_a - log_b))).flatten(1).sum(1)  # (B,)


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Return bits for each of dims dimensions, given nats summed over them (eq. 4.13)."""
    return nats / (dims * math.log(2))
