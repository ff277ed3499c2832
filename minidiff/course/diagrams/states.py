"""States in a row, from data to noise and back."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from minidiff.course.diagrams.base import BACKWARD, BLACK, FORWARD, WORDS, bow, canvas, square
from minidiff.course.plot import Picture
from minidiff.process import transition
from minidiff.samplers import State
from minidiff.schedule import Schedule


def chain(
    x0: Tensor,
    schedule: Schedule,
    times: Sequence[float],
    names: Sequence[str],
    forward: str,
    backward: str,
) -> Picture:
    """Draw the Markov chain of one image (1, C, H, W): four states at rising times, the middle two one step apart.

    `forward` and `backward` are the words at the arrows to the right (above) and to the left (dashed, below), `names`
    the states' letters in TeX. Each state is drawn given the one before it, so what is shown is one walk.
    """
    if x0.ndim != 4 or len(x0) != 1 or x0.shape[1] not in (1, 3) or not len(times) == len(names) == 4:
        raise ValueError(f"expected one image (1, 1 or 3, H, W) and four times and names, got {tuple(x0.shape)}")
    alt = (
        f"A chain of four pictures, from a clear one to noise. Arrows to the right: {forward}. To the left: {backward}."
    )
    picture, ax = canvas(alt, width=7.0, height=3.0, right=7.6, top=1.95, bottom=-1.2)
    places = [0.0, 2.05, 4.55, 6.6]
    for left, x, name in zip(places, _walk(x0, times, schedule), names, strict=True):
        grey = (x[0].permute(1, 2, 0).clamp(-1, 1) + 1) / 2
        ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=(left, left + 1, 0, 1), interpolation="nearest")
        ax.text(left + 0.5, -0.14, f"${name}$", ha="center", va="top", fontsize=WORDS + 2)
    for left in (places[0], places[2]):
        ax.text(left + 1.525, 0.45, r"$\cdots$", ha="center", va="center", fontsize=22)
    ax.text(0.5, 1.1, "data", ha="center", va="bottom", fontsize=WORDS)
    ax.text(7.1, 1.1, "noise", ha="center", va="bottom", fontsize=WORDS)
    _, before, after, _ = names
    near, far = places[1] + 0.62, places[2] + 0.38
    bow(ax, (near, 1.06), (far, 1.06), FORWARD, "-")
    ax.text(3.8, 1.52, f"$q({after}\\,|\\,{before})$   {forward}", color=FORWARD, ha="center", fontsize=WORDS)
    bow(ax, (far, -0.42), (near, -0.42), BACKWARD, (0, (4, 2.5)))
    ax.text(3.8, -1.14, f"$p({before}\\,|\\,{after})$   {backward}", color=BACKWARD, ha="center", fontsize=WORDS)
    return picture


def telescope() -> Picture:
    """Draw what cancels in the bound of a walk 0 < a < b < 1: each noisy state's density, once with +, once with -."""
    alt = (
        "Four states in a row, x_0, x_a, x_b, x_1, joined by three steps. Under x_a and under x_b stand plus log q and "
        "minus log q, in a bracket that says 0. Under x_1 stands only plus log q, which remains."
    )
    picture, ax = canvas(alt, width=7.0, height=2.5, right=9.8, top=2.0, bottom=-1.5)
    places, names = (0.5, 3.0, 6.0, 9.0), ("x_0", "x_a", "x_b", "x_1")
    steps = ("first step", "turned round", "turned round")
    for left, right, word in zip(places, places[1:], steps, strict=False):
        bow(ax, (left + 0.25, 1.12), (right - 0.25, 1.12), FORWARD, "-")
        ax.text((left + right) / 2, 1.62, word, ha="center", va="bottom", color=FORWARD, fontsize=WORDS)
    for place, name in zip(places, names, strict=True):
        ax.text(place, 0.8, f"${name}$", ha="center", va="center", fontsize=WORDS + 6)
    for place, name in zip(places[1:], names[1:], strict=True):
        gone = name != "x_1"
        colour = "0.45" if gone else FORWARD
        ax.text(place, 0.0, f"$+\\log q({name}|x_0)$", ha="center", va="center", color=colour, fontsize=WORDS)
        if gone:  # a bracket round what adds up to nothing
            ax.text(place, -0.75, f"$-\\log q({name}|x_0)$", ha="center", va="center", color=colour, fontsize=WORDS)
            right = place + 1.25
            ax.plot([right - 0.1, right, right, right - 0.1], [0.25, 0.25, -1.0, -1.0], color=BACKWARD, lw=1.5)
            ax.text(right + 0.1, -0.375, "0", va="center", color=BACKWARD, fontsize=WORDS + 2, weight="bold")
    ax.text(9.0, -0.75, "stays", ha="center", va="center", color=FORWARD, fontsize=WORDS)
    ax.text(0.5, -0.37, "these\ncancel:", ha="center", va="center", fontsize=WORDS)
    return picture


def guess_and_mix(noise: Tensor, states: Sequence[State], words: Sequence[str], alt: str) -> Picture:
    """Draw a sampler's walk of one image (1, C, H, W) from noise at t = 1: its states above, its guesses below.

    A black arrow leads from a state to the guess that is made of it; an orange one from the guess, and a grey one from
    the state's noise, while there is any, lead to the next state.
    `words` stand under the guesses.
    """
    if noise.ndim != 4 or len(noise) != 1 or not 1 <= len(states) == len(words) <= 3:
        raise ValueError(
            "expected one image (1, C, H, W), 1 to 3 states and words for each, "
            f"got {tuple(noise.shape)}, {len(states)} and {len(words)}"
        )
    picture, ax = canvas(alt, width=7.0, height=3.75, right=7.0, top=3.25, bottom=-0.5)
    walk = [(1.0, noise), *((float(state.t), state.x) for state in states)]
    for k, (t, x) in enumerate(walk):
        square(ax, x, (2 * k, 1.75))
        ax.text(2 * k + 0.5, 2.85, f"$t = {t:.2g}$", ha="center", va="bottom", fontsize=WORDS)
    straight = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "lw": 2, "shrinkA": 0, "shrinkB": 0}
    for k, state in enumerate(states):
        left = 2 * k
        square(ax, state.x0, (left, 0))
        ax.annotate("", (left + 0.5, 1.04), (left + 0.5, 1.7), arrowprops=straight | {"color": BLACK})
        ax.annotate("", (left + 1.95, 2.0), (left + 1.05, 0.75), arrowprops=straight | {"color": BACKWARD})
        if state.t > 0:  # at the end no noise is left
            ax.annotate("", (left + 1.93, 2.25), (left + 1.07, 2.25), arrowprops=straight | {"color": "0.6"})
    ax.text(0.38, 1.37, "guess", ha="right", va="center", fontsize=WORDS)
    ax.text(1.62, 1.2, "mix", color=BACKWARD, va="center", fontsize=WORDS)
    ax.text(1.5, 2.32, "noise", color="0.4", ha="center", va="bottom", fontsize=WORDS)
    for k, text in enumerate(words):
        ax.text(2 * k + 0.5, -0.12, text, ha="center", va="top", fontsize=WORDS)
    return picture


def _walk(x0: Tensor, times: Sequence[float], schedule: Schedule, seed: int = 1) -> list[Tensor]:
    """Return x0 and its states at the later times, each drawn given the one before."""
    generator, states = torch.Generator().manual_seed(seed), [x0]
    for s, t in pairwise(times):
        alpha_ts, sigma_ts = (c.to(x0.dtype) for c in transition(s, t, schedule))
        states.append(alpha_ts * states[-1] + sigma_ts * torch.randn(x0.shape, generator=generator, dtype=x0.dtype))
    return states
