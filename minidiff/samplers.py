"""Samplers: from noise to data, one generator a paper.

A sampler walks a falling grid of times, asks a denoiser for x0 at each, and takes a step. It yields
State(t, x, x0): the time and the sample that it has reached, and the denoiser's x0 that the step was made with.
    x = final(ddim(denoise, noise, times(50), schedule))
Conventions: t > s, s nearer the data; the step to t = 0 returns x0 itself, without noise. Coefficients
are float64 on the CPU, the data keep their dtype and device. Start from x ~ N(0, sigma^2) at ts[0].
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from minidiff.process import match_dims, noise_like, posterior, posterior_std
from minidiff.schedule import Schedule, as_time, shift_times

MAX_STEPS = 10**6


class State(NamedTuple):
    """After a step: the time reached (), the sample x (B, ...) there, the denoiser's x0 (B, ...) it came from."""

    t: Tensor
    x: Tensor
    x0: Tensor


def times(n: int, start: float = 1.0, stop: float = 0.0, shift: float = 1.0) -> Tensor:
    """Return n steps from start down to stop: (n + 1,) float64. A shift above 1 puts more of them near noise."""
    if not isinstance(n, Integral) or not 1 <= n <= MAX_STEPS or not 0 <= stop < start <= 1:
        raise ValueError(
            f"expected a whole number n of 1 to {MAX_STEPS} steps and 0 <= stop < start <= 1, "
            f"got n = {n}, start = {start}, stop = {stop}"
        )
    return shift_times(torch.linspace(start, stop, int(n) + 1, dtype=torch.float64), shift)


def step_pairs(ts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the pairs (t, s) of a falling grid (n + 1,), as float64 numbers () on the CPU."""
    ts = as_time(torch.as_tensor(ts).to("cpu", torch.float64))
    if ts.ndim != 1 or len(ts) < 2 or not (ts[1:] < ts[:-1]).all():
        raise ValueError(
            f"expected at least two strictly falling times, got {ts.tolist()[:4]}{'...' if ts.numel() > 4 else ''}"
        )
    return pairwise(ts)


def final(states: Iterable[State]) -> Tensor:
    """Run a sampler to its end and return the last x."""
    last = deque(states, maxlen=1)
    if not last:
        raise ValueError("expected a sampler with at least one step, got none (was it run before?)")
    return last[0].x


def predicted_eps(x: Tensor, x0: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return eps = (x_t - alpha x0) / sigma, the noise that x_t holds if x0 is right (eq. 2.4)."""
    alpha, sigma = schedule(t)
    return (x - match_dims(alpha, x) * x0) / match_dims(sigma, x)


@torch.no_grad()
def ddpm(
    denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule, generator: Generator | None = None
) -> Iterator[State]:
    """Sample ancestrally (Ho et al. 2020, Alg. 2; eq. 3.8), on any grid of times, with any denoiser."""
    for t, s in step_pairs(ts):
        x0 = denoise(x, t)
        x = posterior(x, x0, s, t, schedule).sample(generator)
        yield State(s, x, x0)


@torch.no_grad()
def ddim(
    denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule, eta: float = 0.0, generator: Generator | None = None
) -> Iterator[State]:
    """Sample by the non-Markovian family (Song et al. 2020, eq. 12; eq. 8.3): eta = 0 is an ODE, eta = 1 is ddpm."""
    for t, s in step_pairs(ts):
        x0 = denoise(x, t)
        alpha_s, sigma_s = schedule(s)
        std = eta * posterior_std(s, t, schedule)
        towards = (sigma_s**2 - std**2).clamp(min=0).sqrt()  # rounding may leave -1e-17 at eta = 1
        x = match_dims(alpha_s, x) * x0 + match_dims(towards, x) * predicted_eps(x, x0, t, schedule)
        x = x + match_dims(std, x) * noise_like(x, generator) if eta else x
        yield State(s, x, x0)


def velocity(x: Tensor, x0: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return dx/dt of the probability-flow ODE, alpha' x0 + sigma' eps (Song et al. 2021, eq. 13; eq. 8.5)."""
    alpha_rate, sigma_rate = schedule.rates(t)
    return match_dims(alpha_rate, x) * x0 + match_dims(sigma_rate, x) * predicted_eps(x, x0, t, schedule)


@torch.no_grad()
def euler(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule) -> Iterator[State]:
    """Follow the probability-flow ODE by Euler steps: first order."""
    for t, s in step_pairs(ts):
        x0 = denoise(x, t)
        x = x + float(s - t) * velocity(x, x0, t, schedule) if s > 0 else x0
        yield State(s, x, x0)


@torch.no_grad()
def heun(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule) -> Iterator[State]:
    """Follow the ODE by the mean slope of both ends: second order, two calls (Karras et al. 2022, Alg. 1; eq. 8.6)."""
    for t, s in step_pairs(ts):
        x0 = denoise(x, t)
        if s > 0:
            slope = velocity(x, x0, t, schedule)
            guess = x + float(s - t) * slope
            slope_there = velocity(guess, denoise(guess, s), s, schedule)
            x = x + float(s - t) * (slope + slope_there) / 2
        else:
            x = x0
        yield State(s, x, x0)


@torch.no_grad()
def dpmpp_2m(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule) -> Iterator[State]:
    """Follow the ODE by DPM-Solver++(2M) (Lu et al. 2022, Alg. 2; eq. 8.7): second order, one call a step."""
    before: tuple[Tensor, Tensor] | None = None
    for t, s in step_pairs(ts):
        x0 = denoise(x, t)
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
        h = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
        if before is None or s == 0:
            guess = x0
        else:  # extrapolate x0 in log-SNR to the middle of the step
            x0_before, h_before = before
            guess = x0 + float(h / h_before) / 2 * (x0 - x0_before)
        x = match_dims(sigma_s / sigma_t, x) * x - match_dims(alpha_s * torch.expm1(-h), x) * guess
        before = x0, h
        yield State(s, x, x0)


@torch.no_grad()
def langevin(
    denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule, inner: int = 20, generator: Generator | None = None
) -> Iterator[State]:
    """Sample by annealed Langevin dynamics (Song & Ermon 2019, Alg. 1): `inner` steps of size sigma^2 / 10 a time."""
    for t, s in step_pairs(ts):
        alpha, sigma = (match_dims(c, x) for c in schedule(t))
        step = sigma**2 / 10
        for _ in range(inner):
            score = (alpha * denoise(x, t) - x) / sigma**2  # Tweedie's formula (eq. 5.14)
            x = x + step / 2 * score + step.sqrt() * noise_like(x, generator)
        x0 = denoise(x, t)
        if s == 0:
            x = x0
        elif (alpha > 0).all():  # the signal grows by this much; small steps would not catch up with it
            x = match_dims(schedule(s)[0], x) / alpha * x
        yield State(s, x, x0)
