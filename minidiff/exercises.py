"""Is my answer right?

`check` compares a learner's function with the course's own on given inputs and prints one line: correct, or not yet
and why. It never raises: a notebook runs to its end with its exercises unsolved.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def check(answer: Callable, solution: Callable, inputs: Sequence[tuple], hint: str, tolerance: float = 1e-5) -> None:
    """Prints "correct" if answer(*args) equals solution(*args) on all inputs, else "not yet", why, and a hint."""
    problem = next(filter(None, (compare(answer, solution, args, tolerance) for args in inputs)), None)
    print("correct" if problem is None else f"not yet: {problem}. Hint: {hint}")


def compare(answer: Callable, solution: Callable, args: tuple, tolerance: float) -> str | None:
    """What is wrong with answer(*args), in a few words; None if nothing is."""
    try:
        got = answer(*args)
    except NotImplementedError:
        return "nothing there so far"
    except Exception as error:  # whatever a learner's code raises is an answer too
        return f"{type(error).__name__}: {error}"
    for mine, wanted in zip(*map(parts, (got, solution(*args))), strict=False):
        if mine is None:
            return "it returns None; is a return missing?"
        try:
            mine, wanted = torch.as_tensor(mine).double(), torch.as_tensor(wanted).double()
        except (TypeError, ValueError, RuntimeError):
            return f"expected numbers, got {type(mine).__name__}"
        if mine.shape != wanted.shape:
            return f"shape {tuple(mine.shape)}, wanted {tuple(wanted.shape)}"
        if not torch.allclose(mine, wanted, rtol=tolerance, atol=tolerance):
            return f"off by up to {(mine - wanted).abs().max():.3g}"
    if len(parts(got)) != len(parts(solution(*args))):
        return f"{len(parts(got))} values, wanted {len(parts(solution(*args)))}"
    return None


def parts(value) -> tuple:
    """A function's value as a tuple: one tensor or number, or several."""
    return tuple(value) if isinstance(value, tuple | list) and not isinstance(value, Tensor) else (value,)
