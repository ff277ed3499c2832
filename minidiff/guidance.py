"""How is a denoiser steered?

Each function here takes a denoiser and returns a denoiser, so no sampler knows that it is being guided.
Classifier-free guidance is uncond + w (cond - uncond) (eq. 9.4): w = 1 plain, w = 0 unconditional, w > 1 sharper
(papers that write (1 + s) cond - s uncond have s = w - 1).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minidiff.process import expand
from minidiff.schedule import Schedule


def drop_labels(cond: Tensor, null: int | Tensor, p: float, generator: torch.Generator | None = None) -> Tensor:
    """cond (B, ...) with each sample's label replaced by null with probability p, so that one network learns both."""
    dropped = torch.rand(len(cond), generator=generator).to(cond.device) < p  # (B,)
    return torch.where(dropped.reshape(-1, *(1,) * (cond.ndim - 1)), torch.as_tensor(null).to(cond), cond)


def cfg(denoise: Callable, cond: Tensor, null: int | Tensor, w: float) -> Callable:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6; eq. 9.4): denoise(x, t, cond) -> guided denoise(x, t)."""
    uncond = torch.as_tensor(null).to(cond).expand_as(cond)
    if w == 1:
        return lambda x, t: denoise(x, t, cond)
    if w == 0:
        return lambda x, t: denoise(x, t, uncond)

    def guided(x: Tensor, t: float | Tensor) -> Tensor:
        t = torch.as_tensor(t)
        both = torch.cat([t, t]) if t.ndim else t
        without, given = denoise(torch.cat([x, x]), both, torch.cat([uncond, cond])).chunk(2)  # one call of 2B
        return without + w * (given - without)

    return guided


def classifier_guidance(denoise: Callable, log_prob: Callable, w: float, schedule: Schedule) -> Callable:
    """x0 + w sigma^2 / alpha grad log p(y | x_t) (Dhariwal & Nichol 2021, Alg. 1; eq. 9.2).

    log_prob(x_t, t) -> (B,) is the log-probability of the wanted label. Needs alpha > 0: start below t = 1 where
    the schedule ends in pure noise.
    """

    def guided(x: Tensor, t: float | Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        if (alpha == 0).any():
            raise ValueError(
                f"expected a time with alpha > 0, got t = {float(torch.as_tensor(t).max()):.4g}: "
                "pure noise holds nothing to classify"
            )
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(x, t).sum(), x)
        return denoise(x.detach(), t) + expand(w * sigma**2 / alpha, x) * gradient

    return guided
