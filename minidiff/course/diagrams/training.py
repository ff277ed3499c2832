"""Who does what: in the four families, and in one step of training; how a network hears the time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minidiff.course.diagrams.base import BACKWARD, BLACK, FORWARD, WORDS, canvas, square
from minidiff.course.plot import Picture


def families(noise: Tensor, stages: Sequence[Tensor]) -> Picture:
    """Draw how a GAN, a VAE, a flow and diffusion turn noise (N, 2) into samples, and what else each is trained with.

    `stages` are the clouds (N, 2) of a diffusion walk from the noise; the last are ideal samples, drawn in every row.
    """
    alt = (
        "Four rows from a cloud of noise to eight clusters. GAN: noise, generator, samples; trained against a "
        "discriminator. VAE: noise, decoder, samples; trained with an encoder. Flow: one network that runs both ways. "
        "Diffusion: noise, a denoiser many times with clouds in between, samples; trained with noise that is added."
    )
    picture, ax = canvas(alt, width=7.0, height=5.3, right=14, top=10.6, bottom=0.0)
    learned = {"boxstyle": "round,pad=0.35", "facecolor": "#FDE2B3", "edgecolor": "none"}
    fixed = {"boxstyle": "round,pad=0.35", "facecolor": "0.88", "edgecolor": "none"}

    def cloud(x: Tensor, place: float, y: float, scale: float = 0.36) -> None:
        at = x.clamp(-2.6, 2.6) * scale + torch.tensor([place, y])
        ax.scatter(at[:, 0], at[:, 1], s=1.5, linewidths=0, color=FORWARD, alpha=0.6)

    def arrow(start: float, end: float, y: float, style: str = "-|>") -> None:
        drawn = {"arrowstyle": style, "color": BLACK, "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (end, y), (start, y), arrowprops=drawn)

    for place, word in ((3.15, "noise"), (6.0, "sampling"), (8.85, "ideal samples"), (12.05, "in training")):
        ax.text(place, 10.55, word, ha="center", va="top", fontsize=WORDS, color="0.35")
    rows = (
        ("GAN", "generator", "-|>", "discriminator", learned),
        ("VAE", "decoder", "-|>", "encoder", learned),
        ("flow", "invertible", "<|-|>", "itself, inverted", learned),
        ("diffusion", "", "", "adds noise", fixed),
    )
    for y, (name, box, style, helper, look) in zip((8.85, 6.45, 4.05, 1.65), rows, strict=True):
        ax.text(0.0, y, name, va="center", fontsize=WORDS, weight="bold")
        scale = 0.36 if box else 0.3
        cloud(noise, 3.15, y, scale)
        cloud(stages[-1], 8.85, y, scale)
        if box:
            ax.text(6.0, y, box, ha="center", va="center", fontsize=WORDS, bbox=learned)
            arrow(4.1, 4.6, y, style)
            arrow(7.4, 7.9, y, style)
        else:
            for k, x in enumerate(stages[:-1], 1):
                cloud(x, 3.15 + 5.7 * k / len(stages), y, scale)
            for k in range(len(stages)):
                middle = 3.15 + 5.7 * (k + 0.5) / len(stages)
                arrow(middle - 0.22, middle + 0.22, y)
            ax.text(6.0, y - 1.25, "denoiser, 50 times", ha="center", va="center", fontsize=WORDS, bbox=learned)
        ax.text(12.05, y, helper, ha="center", va="center", fontsize=WORDS, bbox=look)
        ax.plot([9.8, 10.25], [y, y], color="0.6", lw=1.8)
    return picture


def guess_the_noise(x0: Tensor, eps: Tensor, x_t: Tensor, guess: Tensor) -> Picture:
    """Draw one step of training on an image (1, C, H, W): x0 and eps make x_t, the network guesses eps, the two differ.

    The difference is drawn twice as strong.
    """
    alt = (
        "A clean picture and a picture of noise are added to a noisy picture. A network makes of it a guess at the "
        "noise. An arrow compares noise and guess; their difference shows faint outlines of the clean picture."
    )
    picture, ax = canvas(alt, width=7.0, height=3.3, right=8.6, top=3.35, bottom=-0.7)
    size: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": WORDS}
    for x, corner, words in (
        (x0, (0, 0), r"clean $x_0$"),
        (eps, (0, 1.75), ""),
        (x_t, (2.2, 0), r"noisy $x_t$"),
        (guess, (5.2, 0), "its guess"),
        (2 * (eps - guess), (7.5, 0), "missed"),
    ):
        square(ax, x, corner)
        ax.text(corner[0] + 0.5, -0.12, words, **size)
    ax.text(0.5, 2.82, r"noise $\epsilon$", ha="center", va="bottom", fontsize=WORDS)
    arrow = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "lw": 2, "shrinkA": 0, "shrinkB": 0, "color": BLACK}
    ax.annotate("", (2.12, 0.4), (1.08, 0.4), arrowprops=arrow)
    ax.annotate("", (2.12, 0.85), (1.08, 1.85), arrowprops=arrow)
    ax.text(1.6, 0.28, r"$\times\,\alpha_t$", **size)
    ax.text(1.75, 1.5, r"$\times\,\sigma_t$", ha="left", va="center", fontsize=WORDS)
    ax.annotate("", (5.12, 0.5), (3.28, 0.5), arrowprops=arrow)
    box = {"boxstyle": "round,pad=0.35", "facecolor": "#FDE2B3", "edgecolor": "none"}
    ax.text(4.15, 0.5, "network", ha="center", va="center", fontsize=WORDS, bbox=box)
    loss = {
        "arrowstyle": "<|-|>,head_width=0.35,head_length=0.6",
        "lw": 2,
        "color": BACKWARD,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", (5.7, 1.08), (1.08, 2.3), arrowprops=loss | {"connectionstyle": "arc3,rad=-0.3"})
    ax.text(
        4.5,
        2.62,
        r"loss $|\epsilon - \epsilon_\theta(x_t, t)|^2$",
        color=BACKWARD,
        ha="left",
        va="center",
        fontsize=WORDS,
    )
    ax.annotate("", (7.42, 0.5), (6.28, 0.5), arrowprops=arrow | {"color": "0.6"})
    return picture


def clock_hands(waves: Tensor, times: Sequence[str], chosen: Sequence[int], alt: str) -> Picture:
    """Draw some waves of time embeddings (N, 2h), cosines then sines, as hands of clocks: a row for each time.

    The hands of the first row stand in the other rows too, in grey.
    """
    if len(times) != len(waves):
        raise ValueError(f"expected a name for each of {len(waves)} times, got {len(times)}")
    half, columns = waves.shape[1] // 2, len(chosen)
    picture, ax = canvas(
        alt, 7.0, 0.5 + 7.0 * 2.4 * len(times) / (2.4 * columns + 2.6), 2.4 * columns + 2.6, 0.6, -2.4 * len(times)
    )
    turn = torch.linspace(0, 2 * torch.pi, 91)
    hand = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "shrinkA": 0, "shrinkB": 0}
    for column, k in enumerate(chosen):
        x = 2.6 + 2.4 * column + 1.0
        ax.text(x, 0.1, f"$i = {k}$", ha="center", va="bottom", fontsize=WORDS)
        for row in range(len(times)):
            y = -1.2 - 2.4 * row
            ax.plot(x + turn.cos(), y + turn.sin(), color="0.8", lw=1.2)
            for which, colour, width in ((0, "0.6", 1.6), (row, BACKWARD if row else BLACK, 2.4)):
                tip = (x + float(waves[which, k]), y + float(waves[which, half + k]))
                ax.annotate("", tip, (x, y), arrowprops=hand | {"color": colour, "lw": width})
    for row, name in enumerate(times):
        ax.text(0.0, -1.2 - 2.4 * row, name, va="center", fontsize=WORDS)
    return picture
