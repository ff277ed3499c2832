"""How does noise become data?

A sampler walks a falling grid of times, asks a denoiser for x0 at each, and takes a step: one generator a paper.
It yields State(t, x, x0): where it is, and the clean image it believed in when it stepped there.
    x = final(ddim(denoise, noise, times(50), schedule))
Conventions: t > s, s nearer the data; the step to t = 0 returns x0 itself, without noise. Coefficients
are float64, the data keep their dtype. Start from x ~ N(0, sigma^2) at ts[0].
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.process import expand, noise_like, posterior
from minidiff.schedule import Schedule, as_time


class State(NamedTuple):
    """After a step: the time reached (), the sample x (B, ...) there, the denoiser's x0 (B, ...) it came from."""

    t: Tensor
    x: Tensor
    x0: Tensor


def times(n: int, start: float = 1.0, stop: float = 0.0) -> Tensor:
    """n steps from start down to stop: (n + 1,) float64."""
    if n < 1 or not 0 <= stop < start <= 1:
        raise ValueError(f"expected n >= 1 and 0 <= stop < start <= 1, got n = {n}, start = {start}, stop = {stop}")
    return torch.linspace(start, stop, n + 1, dtype=torch.float64)


def steps(ts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs (t, s) of a falling grid (n + 1,), as float64 numbers ()."""
    ts = as_time(torch.as_tensor(ts, dtype=torch.float64).cpu())
    if ts.ndim != 1 or len(ts) < 2 or not (ts[1:] < ts[:-1]).all():
        raise ValueError(
            f"expected at least two strictly falling times, got {ts.tolist()[:4]}{'...' if ts.numel() > 4 else ''}"
        )
    return pairwise(ts)


def final(states: Iterable[State]) -> Tensor:
    """Runs a sampler to its end and returns the last x."""
    last = deque(states, maxlen=1)
    if not last:
        raise ValueError("expected a sampler with at least one step, got none (was it run before?)")
    return last[0].x


def noise_in(x: Tensor, x0: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """eps = (x_t - alpha x0) / sigma, the noise that x_t holds if x0 is right (eq. 2.4)."""
    alpha, sigma = schedule(t)
    return (x - expand(alpha, x) * x0) / expand(sigma, x)


@torch.no_grad()
def ddpm(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule, generator=None) -> Iterator[State]:
    """Ancestral sampling (Ho et al. 2020, Alg. 2; eq. 3.10), on any grid of times, with any denoiser."""
    for t, s in steps(ts):
        x0 = denoise(x, t)
        x = posterior(x, x0, s, t, schedule).sample(generator)
        yield State(s, x, x0)


@torch.no_grad()
def ddim(
    denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule, eta: float = 0.0, generator=None
) -> Iterator[State]:
    """The non-Markovian family (Song et al. 2020, eq. 12): eta = 0 draws no noise, eta = 1 is ddpm (eq. 8.3)."""
    for t, s in steps(ts):
        x0 = denoise(x, t)
        alpha_s, sigma_s = schedule(s)
        std = eta * posterior(x, x0, s, t, schedule).std
        towards = (expand(sigma_s, x) ** 2 - std**2).clamp(min=0).sqrt()  # rounding may leave -1e-17 at eta = 1
        x = expand(alpha_s, x) * x0 + towards * noise_in(x, x0, t, schedule)
        x = x + std * noise_like(x, generator) if eta else x
        yield State(s, x, x0)


def velocity(x: Tensor, x0: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """dx/dt of the probability-flow ODE, alpha' x0 + sigma' eps (Song et al. 2021, eq. 13; eq. 8.5)."""
    alpha_rate, sigma_rate = schedule.rates(t)
    return expand(alpha_rate, x) * x0 + expand(sigma_rate, x) * noise_in(x, x0, t, schedule)


@torch.no_grad()
def euler(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule) -> Iterator[State]:
    """Euler steps along the probability-flow ODE: first order."""
    for t, s in steps(ts):
        x0 = denoise(x, t)
        x = x + float(s - t) * velocity(x, x0, t, schedule) if s > 0 else x0
        yield State(s, x, x0)


@torch.no_grad()
def heun(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule) -> Iterator[State]:
    """Euler, then the mean of both ends' slopes: second order, two calls (Karras et al. 2022, Alg. 1; eq. 8.6)."""
    for t, s in steps(ts):
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
    """DPM-Solver++(2M) (Lu et al. 2022, Alg. 2; eq. 8.7): second order with one denoiser call a step."""
    x0_before, h_before = None, None
    for t, s in steps(ts):
        x0 = denoise(x, t)
        h = (schedule.log_snr(s) - schedule.log_snr(t)) / 2
        if x0_before is None or s == 0:
            guess = x0
        else:  # extrapolate x0 in log-SNR to the middle of the step
            guess = x0 + float(h / h_before) / 2 * (x0 - x0_before)
        (alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
        x = expand(sigma_s / sigma_t, x) * x - expand(alpha_s * torch.expm1(-h), x) * guess
        x0_before, h_before = x0, h
        yield State(s, x, x0)


@torch.no_grad()
def langevin(
    denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule, inner: int = 20, generator=None
) -> Iterator[State]:
    """Annealed Langevin dynamics (Song & Ermon 2019, Alg. 1): inner noisy steps of size sigma^2 / 10 at each time."""
    for t, s in steps(ts):
        alpha, sigma = (expand(c, x) for c in schedule(t))
        step = sigma**2 / 10
        for _ in range(inner):
            score = (alpha * denoise(x, t) - x) / sigma**2  # Tweedie's formula (eq. 5.14)
            x = x + step / 2 * score + step.sqrt() * noise_like(x, generator)
        x0 = denoise(x, t)
        if s == 0:
            x = x0
        elif (alpha > 0).all():  # the signal grows by this much; small steps would not catch up with it
            x = expand(schedule(s)[0], x) / alpha * x
        yield State(s, x, x0)
