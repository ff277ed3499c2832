"""Checks that never raise, so that a notebook runs to its end whatever is in it.

`check` compares a learner's function with the course's own on given inputs and prints one line: correct, or not yet
and why. `expect` says whether a claim about a training that has just run holds on this machine.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def check(answer: Callable, solution: Callable, inputs: Sequence[tuple], hint: str, tolerance: float = 1e-5) -> None:
    """Print "correct" if answer(*args) equals solution(*args) on all inputs, else "not yet", why, and a hint."""
    problem = next(filter(None, (compare(answer, solution, args, tolerance) for args in inputs)), None)
    end = "" if problem and problem.endswith("?") else "."
    print("correct" if problem is None else f"not yet: {problem}{end} Hint: {hint}")


def expect(claim: Any, text: str) -> None:
    """Print "✓ text" if a claim about a live training holds (in every element, if it has several), else a warning."""
    if torch.as_tensor(claim).all():
        print(f"✓ {text}")
    else:
        print(f"⚠ not in this run: {text}. Compare its steps and its loss with the stored ones: fewer steps learn less")


def compare(answer: Callable, solution: Callable, args: tuple, tolerance: float) -> str | None:
    """Return what is wrong with answer(*args), in a few words; None if nothing is."""
    wanted = parts(solution(*args))
    given = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)  # an answer may write into its input
    try:
        got = parts(answer(*given))
    except NotImplementedError:
        return "nothing there so far"
    except Exception as error:  # whatever a learner's code raises is an answer too
        return f"{type(error).__name__}: {error}"
    for mine, right in zip(got, wanted, strict=False):
        if mine is None:
            return "it returns None; is a return missing?"
        try:
            mine, right = torch.as_tensor(mine), torch.as_tensor(right).double()
        except (TypeError, ValueError, RuntimeError):
            return f"expected numbers, got {type(mine).__name__}"
        if mine.is_complex():
            return "complex numbers; is there a root of something negative?"
        mine = mine.double()
        if mine.shape != right.shape:
            return f"shape {tuple(mine.shape)}, wanted {tuple(right.shape)}"
        if not torch.allclose(mine, right, rtol=tolerance, atol=tolerance):
            return difference(mine.detach(), right.detach(), tolerance)
    if len(got) != len(wanted):
        return f"{len(got)} values, wanted {len(wanted)}"
    if any(not torch.equal(a, b) for a, b in zip(args, given, strict=True) if isinstance(a, Tensor)):
        return "right, but it writes into its input"
    return None


def difference(mine: Tensor, right: Tensor, tolerance: float) -> str:
    """Return how two tensors of one shape differ: by a slip that has a name if there is one, else by how much."""

    def same(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a, b, rtol=tolerance, atol=tolerance)

    if not mine.isfinite().all():
        return "some values are not finite"
    slips = {
        "the sign is the other way round": (mine, -right),
        "this is the square of what is wanted": (mine, right**2),
        "this is the root of what is wanted": (mine**2, right),
        "this is one over what is wanted": (mine * right, torch.ones_like(right)),
        "this is one minus what is wanted": (mine, 1 - right),
        "the order is reversed": (mine, right.flip(tuple(range(right.ndim)))),
    }
    for slip, (a, b) in slips.items():
        if same(a, b):
            return slip
    if mine.numel() == 1:
        return f"got {mine.item():.4g}, wanted {right.item():.4g}"
    factor = (mine * right).sum() / (right**2).sum()
    if factor != 0 and same(mine, factor * right):
        return f"every value is {factor:.3g} times what is wanted"
    shift = (mine - right).mean()
    if same(mine, right + shift):
        return f"every value is {abs(shift):.3g} too {'large' if shift > 0 else 'small'}"
    return f"off by up to {(mine - right).abs().max():.3g}"


def parts(value: Any) -> tuple:
    """Return a function's value, one tensor or number or several, as a tuple."""
    return tuple(value) if isinstance(value, tuple | list) and not isinstance(value, Tensor) else (value,)
