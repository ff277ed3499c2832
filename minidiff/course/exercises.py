"""Checks that never raise, so that a notebook runs to its end whatever is in it.

`check` compares a learner's function with the course's own on given inputs and prints "correct", or "not yet", why, a
hint, and the smallest input that shows it. `yours` does the same and returns the function to go on with: the learner's
if it is right, else the course's. `expect` says whether a claim about a training that has just run holds on
this machine.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

RIGHT = "correct"
FEW = 6  # a tensor of so many numbers is shown as it is
STUB = "your turn"  # what the place of an answer raises, a NotImplementedError, until there is one


class Problem(NamedTuple):
    """Why an answer is not right on one input, the lines that show it, and slips that would explain a wrong number."""

    why: str
    case: tuple[str, ...] = ()
    where: str = ""
    slips: tuple[str, ...] = ()


def check(answer: Callable, solution: Callable, inputs: Sequence[tuple], hint: str, tolerance: float = 1e-5) -> None:
    """Print "correct" if answer(*args) equals solution(*args) on all inputs, else why not, a hint and a small case."""
    print(*verdict(answer, solution, inputs, hint, tolerance), sep="\n")


def yours(
    answer: Callable, solution: Callable, inputs: Sequence[tuple], hint: str, tolerance: float = 1e-5
) -> Callable:
    """Print what `check` prints, and return the answer if it is right, else the solution, to go on with."""
    said = verdict(answer, solution, inputs, hint, tolerance)
    print(*said, sep="\n")
    return answer if said == [RIGHT] else solution


def expect(claim: Any, text: str) -> None:
    """Print "✓ text" if a claim about a live training holds (in every element, if it has several), else a warning."""
    if torch.as_tensor(claim).all():
        print(f"✓ {text}")
    else:
        print(f"⚠ not in this run: {text}. Compare its steps and its loss with the stored ones: fewer steps learn less")


def verdict(answer: Callable, solution: Callable, inputs: Sequence[tuple], hint: str, tolerance: float) -> list[str]:
    """Return the lines that `check` prints."""
    by_size = sorted(inputs, key=lambda args: sum(a.numel() if isinstance(a, Tensor) else 1 for a in args))
    problems = [p for args in by_size if (p := compare(answer, solution, args, tolerance))]
    if not problems:
        return [RIGHT]
    least, *others = problems
    # one number may be the square of another by chance, but not on every input
    slips = [slip for slip in least.slips if all(slip in other.slips for other in others)]
    why = least.where + (slips[0] if slips else least.why)
    return [f"not yet: {why}{'' if why.endswith('?') else '.'} Hint: {hint}", *least.case]


def compare(answer: Callable, solution: Callable, args: tuple, tolerance: float) -> Problem | None:
    """Return what is wrong with answer(*args); None if nothing is."""
    given = (f"  given   {', '.join(arguments(answer, args))}",) if args else ()
    wanted = solution(*args)
    wanted = tuple(wanted) if isinstance(wanted, tuple | list) else (wanted,)
    copies = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)  # an answer may write into its input
    try:
        got = results(answer(*copies), wanted)
    except Exception as error:  # whatever a learner's code raises is an answer too
        if isinstance(error, NotImplementedError) and str(error) == STUB:
            return Problem("nothing there so far")
        return Problem(raised(error), given)
    if len(got) == 1 and got[0] is None:
        return Problem("it returns None; is a return missing?")
    if len(got) != len(wanted):
        return Problem(f"{len(got)} result{'s' * (len(got) != 1)}, wanted {len(wanted)}", given)
    for number, (mine, right) in enumerate(zip(got, wanted, strict=True), 1):
        if problem := difference(mine, torch.as_tensor(right).double(), tolerance):
            where = f"in result {number} of {len(got)}, " if len(got) > 1 else ""
            return problem._replace(where=where, case=given + problem.case)
    if any(not torch.equal(a, b) for a, b in zip(args, copies, strict=True) if isinstance(a, Tensor)):
        return Problem("right, but it writes into its input", given)
    return None


def results(value: Any, wanted: tuple) -> tuple:
    """Return a function's value as a tuple: numbers in a list are one tensor where one is wanted, and the reverse."""
    if len(wanted) > 1 and isinstance(value, Tensor) and value.ndim and len(value) == len(wanted):
        return tuple(value)
    if not isinstance(value, tuple | list):
        return (value,)
    if len(wanted) == 1:
        try:
            whole = torch.stack([torch.as_tensor(part) for part in value])
        except (TypeError, ValueError, RuntimeError):
            return tuple(value)
        if whole.ndim == torch.as_tensor(wanted[0]).ndim:
            return (whole,)
    return tuple(value)


def raised(error: Exception) -> str:
    """Return what a learner's code stopped with, or the slip behind it."""
    message = str(error).partition("\n")[0].rstrip(".")
    if "bitwise_xor" in message or "for ^:" in message:
        return "in Python ^ is no power; that is **"
    return f"{type(error).__name__}: {message}"


def difference(mine: Any, right: Tensor, tolerance: float) -> Problem | None:
    """Return how a result differs: by a slip that has a name if there is one, else by how much; None if it does not."""
    try:
        mine = torch.as_tensor(mine).detach()
    except (TypeError, ValueError, RuntimeError):
        return Problem(f"expected numbers, got {type(mine).__name__}")
    if mine.is_complex():
        return Problem("complex numbers; is there a root of something negative?")
    mine, right = mine.double(), right.detach()
    if mine.shape != right.shape:
        return Problem(f"shape {tuple(mine.shape)}, wanted {tuple(right.shape)}")
    off = ~torch.isclose(mine, right, rtol=tolerance, atol=tolerance)
    if not off.any():
        return None
    slips = slips_between(mine, right, tolerance)
    digits = next((d for d in range(4, 18) if shown(mine[off][0], d) != shown(right[off][0], d)), 4)
    if mine.ndim == 0:
        return Problem(f"got {shown(mine, digits)}, wanted {shown(right, digits)}", slips=slips)
    why, place = slips[0] if slips else amount(mine, right, tolerance), ""
    if mine.numel() > FEW:
        first = off.nonzero()[0].tolist()
        mine, right, place = mine[tuple(first)], right[tuple(first)], f" at {first}"
    case = f"  yours   {shown(mine, digits)}{place}", f"  wanted  {shown(right, digits)}{place}"
    return Problem(why, case)


def slips_between(mine: Tensor, right: Tensor, tolerance: float) -> tuple[str, ...]:
    """Return the usual slips that turn one tensor into another of its shape."""
    slips = {
        "the sign is the other way round": (mine, -right),
        "this is the square of what is wanted": (mine, right**2),
        "this is the root of what is wanted": (mine**2, right),
        "this is one over what is wanted": (mine * right, torch.ones_like(right)),
        "this is one minus what is wanted": (mine, 1 - right),
        "the order is reversed": (mine, right.flip(tuple(range(right.ndim)))),
    }
    return tuple(slip for slip, (a, b) in slips.items() if torch.allclose(a, b, rtol=tolerance, atol=tolerance))


def amount(mine: Tensor, right: Tensor, tolerance: float) -> str:
    """Return by how much two tensors of one shape differ."""
    if not mine.isfinite().all():
        return "some values are not finite"
    factor, shift = (mine * right).sum() / (right**2).sum(), (mine - right).mean()
    if factor != 0 and torch.allclose(mine, factor * right, rtol=tolerance, atol=tolerance):
        return f"every value is {factor:.3g} times what is wanted"
    if torch.allclose(mine, right + shift, rtol=tolerance, atol=tolerance):
        return f"every value is {abs(shift):.3g} too {'large' if shift > 0 else 'small'}"
    return f"off by up to {(mine - right).abs().max():.3g}"


def arguments(answer: Callable, args: tuple) -> list[str]:
    """Return the arguments of a call as words, each after its name in the answer if it has one."""
    try:
        names = [f"{name} = " for name in inspect.signature(answer).parameters]
    except (TypeError, ValueError):
        names = []
    names = names if len(names) >= len(args) else [""] * len(args)
    return [name + shown(value) for name, value in zip(names, args, strict=False)]


def shown(value: Any, digits: int = 4) -> str:
    """Return a value as a few words: small things rounded, of large ones the shape or the kind."""
    if isinstance(value, Tensor):
        return shown(value.tolist(), digits) if value.numel() <= FEW else f"a tensor {tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, tuple | list) and len(value) <= FEW:
        return f"[{', '.join(shown(part, digits) for part in value)}]"
    text = getattr(value, "__name__", repr(value))
    return type(value).__name__ if "<" in text or len(text) > 30 else text
