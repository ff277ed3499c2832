"""Guidance: functions that take a denoiser and return a denoiser, so that no sampler knows that it is being guided.

Classifier-free guidance is uncond + w (cond - uncond) (eq. 9.4): w = 1 plain, w = 0 unconditional, w > 1 sharper
(papers that write (1 + s) cond - s uncond have s = w - 1). A condition is a tensor (B, ...) or a dict of them;
the null condition (unconditional) is a number or a tensor of one condition's shape, or a dict of these.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minidiff.denoiser import Condition, Null
from minidiff.process import match_dims
from minidiff.schedule import Schedule, validating


def map_condition(function: Callable, *conds: Any) -> Condition:
    """Return function(*conds) of tensors, or the dict of its values over the entries of dicts."""
    if isinstance(conds[0], dict):
        return {name: function(*(cond[name] for cond in conds)) for name in conds[0]}
    return function(*conds)


def null_like(cond: Condition, null: Null | None) -> Condition:
    """Return the null condition for a whole batch, made like cond (B, ...); ValueError if it does not fit."""
    if isinstance(cond, dict):
        if not isinstance(null, dict) or null.keys() != cond.keys():
            got = f"a dict of {', '.join(null)}" if isinstance(null, dict) else str(null)
            raise ValueError(f"expected a null condition for each of {', '.join(cond)}, got {got}")
        return map_condition(null_like, cond, null)
    if null is None or isinstance(null, dict):
        raise ValueError(f"expected a null condition, a number or a tensor, got {type(null).__name__}")
    value = torch.as_tensor(null)
    if value.shape not in {(), cond.shape[1:], (1, *cond.shape[1:])}:
        raise ValueError(f"expected a null condition of shape {tuple(cond.shape[1:])}, got {tuple(value.shape)}")
    return value.to(cond).expand_as(cond)


def check_labels(cond: Condition, null: Null | None) -> None:
    """Raise a ValueError for labels (B,) beyond 0..null; other conditions are their network's concern."""
    if isinstance(cond, Tensor) and cond.ndim == 1 and isinstance(null, int) and len(cond) and validating(cond):
        low, high = cond.aminmax()
        if low < 0 or high > null:
            raise ValueError(f"expected labels 0..{null - 1}, or {null} for none, got {low}..{high}")


def drop_labels(cond: Condition, null: Null | None, p: float, generator: Generator | None = None) -> Condition:
    """Return cond (B, ...) with the whole condition of a sample replaced by null with probability p.

    So one network learns to denoise with and without a condition (Ho & Salimans 2022, Alg. 1).
    """
    sizes = {len(entry) for entry in (cond.values() if isinstance(cond, dict) else [cond])}
    if not 0 <= p <= 1 or len(sizes) != 1:
        raise ValueError(f"expected a probability p and entries of one batch size, got p = {p} and {sorted(sizes)}")
    dropped = torch.rand(sizes.pop(), generator=generator) < p  # (B,)

    def drop(cond: Tensor, null: Tensor) -> Tensor:
        return torch.where(dropped.to(cond.device).reshape(-1, *(1,) * (cond.ndim - 1)), null, cond)

    return map_condition(drop, cond, null_like(cond, null) if p else cond)


def cfg(denoise: Callable, cond: Condition, null: Null | None, w: float) -> Callable:
    """Return denoise(x, t, cond) guided without a classifier, as a function of x and t (Ho & Salimans 2022; eq. 9.4).

    w is one finite number for the batch. Without null (None) only w = 1 is possible.
    """
    w = finite_number(w)
    if w == 1:
        return lambda x, t: denoise(x, t, cond)
    uncond = null_like(cond, null)
    if w == 0:
        return lambda x, t: denoise(x, t, uncond)
    both_conds = map_condition(lambda first, second: torch.cat([first, second]), uncond, cond)

    def guided(x: Tensor, t: float | Tensor) -> Tensor:
        t = torch.as_tensor(t)
        both_times = torch.cat([t, t]) if t.ndim else t
        x0_uncond, x0_cond = denoise(torch.cat([x, x]), both_times, both_conds).chunk(2)  # one call of 2B
        return x0_uncond + w * (x0_cond - x0_uncond)

    return guided


def classifier_guidance(denoise: Callable, log_prob: Callable, w: float, schedule: Schedule) -> Callable:
    """Return x0 + w sigma^2 / alpha grad log p(y | x_t) as a function of x_t and t (Dhariwal & Nichol 2021; eq. 9.2).

    log_prob(x_t, t) -> (B,) is the log-probability of the wanted label. Needs alpha > 0: start below t = 1 where
    the schedule ends in pure noise.
    """
    w = finite_number(w)

    def guided(x: Tensor, t: float | Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        if validating(alpha) and (alpha == 0).any():
            raise ValueError(
                f"expected a time with alpha > 0, got t = {float(torch.as_tensor(t).max()):.4g}: "
                "pure noise holds nothing to classify"
            )
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(x, t).sum(), x)
        return denoise(x.detach(), t) + match_dims(w * sigma**2 / alpha, x) * gradient

    return guided


def finite_number(w: float | Tensor) -> float:
    """Return the strength w of a guidance as a float; ValueError unless it is one finite number."""
    if (isinstance(w, Tensor) and w.ndim) or not math.isfinite(w):
        raise ValueError(f"expected one finite number for the guidance w, got {w}")
    return float(w)
