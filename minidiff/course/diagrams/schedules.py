"""Curves that schedules and their weights draw."""

from collections.abc import Mapping

import torch

from minidiff.course.diagrams.base import BLACK, WORDS
from minidiff.course.plot import COLOURS, Picture
from minidiff.losses import weight
from minidiff.process import target_coefficients
from minidiff.schedule import Schedule


def schedule_curves(schedules: Mapping[str, Schedule], alt: str) -> Picture:
    """Draw alpha (solid) and sigma (dashed) of schedules against time, and log SNR, with a grey band at -4..4."""
    picture = Picture(alt, 7.0, 3.8)
    left, right = picture.subplots(1, 2, width_ratios=[1, 1.25])
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    inside = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    for k, (name, each) in enumerate(schedules.items()):
        (alpha, sigma), colour = each(t), COLOURS[(0, 3, 2, 4)[k % 4]]
        left.plot(t, alpha, color=colour, lw=2, label=name)
        left.plot(t, sigma, color=colour, lw=1.6, linestyle=(0, (3, 2)))
        right.plot(inside, each.log_snr(inside), color=colour, lw=2)
    names = left.get_legend_handles_labels()
    picture.legend(*names, loc="outside upper center", ncols=3, fontsize=WORDS, frameon=False)
    right.axhspan(-4, 4, color="0.93", lw=0)
    right.axhline(0, color=BLACK, lw=1)
    right.text(0.97, 8, "more signal than noise", ha="right", fontsize=WORDS)
    right.text(0.03, -12.8, "more noise than signal", fontsize=WORDS)
    left.set_title(r"$\alpha_t$ (solid), $\sigma_t$ (dashed)", fontsize=WORDS)
    right.set_title("log SNR", fontsize=WORDS)
    left.set(ylim=(0, 1.05))
    right.set(xlim=(0, 1), ylim=(-14, 10), yticks=range(-12, 9, 4))
    for ax in (left, right):
        ax.set_xlabel("time $t$", fontsize=12)
    return picture


def schedule_paths(schedules: Mapping[str, Schedule], alt: str) -> Picture:
    """Draw the paths of schedules in the plane of alpha and sigma.

    At each tenth of the time stands a mark: a stroke for the first schedule, which starts on its path, dots for others.
    """
    picture = Picture(alt, 4.6, 4.0)
    ax = picture.add_subplot(1, 1, 1)
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    for k, (name, each) in enumerate(schedules.items()):
        (alpha, sigma), colour = each(t), COLOURS[(0, 3, 2, 4)[k % 4]]
        ax.plot(alpha, sigma, color=colour, lw=2, label=name)
        if k == 0:  # a short stroke outwards
            tenth = torch.stack([alpha[::20], sigma[::20]])
            ax.plot(*torch.stack([tenth, 1.1 * tenth], 1).numpy(), color=colour, lw=2)
        else:
            ax.plot(alpha[::20], sigma[::20], "o", color=colour, markersize=5)
    ax.legend(loc="lower left", fontsize=12)
    ax.text(1.15, -0.04, "data", fontsize=WORDS)
    ax.text(0.16, 1.12, "noise", fontsize=WORDS)
    ax.set(xlim=(-0.06, 1.4), ylim=(-0.08, 1.24), aspect="equal")
    ax.set_xlabel(r"signal $\alpha_t$", fontsize=12)
    ax.set_ylabel(r"noise $\sigma_t$", fontsize=12)
    return picture


def rows_and_weights(schedule: Schedule, t: float) -> Picture:
    """Draw what a network may predict: as arrows y = a x0 + b eps beside x_t at a time, and as weights over time.

    The weights are those of |x0 - x0_hat|^2 (eq. 5.11), and dashed that of the bound for small steps (eq. 5.12).
    """
    alt = (
        "Left, arrows in the plane of x0 and eps: x_t on a quarter circle, v at a right angle to it, velocity longer "
        "the same way, x0 along one axis, eps along the other, the score down. Right, the weights over time: the "
        "score falls most, then bound and eps; velocity and v least, in parallel; x0 is flat."
    )
    picture = Picture(alt, 7.0, 3.9)
    left, right = picture.subplots(1, 2, width_ratios=[1, 1.15])
    colours = {"x0": COLOURS[2], "eps": COLOURS[0], "v": COLOURS[3], "velocity": COLOURS[1], "score": COLOURS[4]}
    quarter = torch.linspace(0, torch.pi / 2, 91)
    left.plot(quarter.cos(), quarter.sin(), color="0.8", lw=1.5)
    turning = {"arrowstyle": "-|>,head_width=0.25,head_length=0.4", "lw": 1.5, "color": "0.45"}
    turning |= {"connectionstyle": "arc3,rad=0.18", "shrinkA": 0, "shrinkB": 0}
    left.annotate("", (0.36, 1.2), (1.08, 0.66), arrowprops=turning)
    left.text(0.66, 1.24, "$t$ grows", color="0.35", fontsize=WORDS)
    alpha, sigma = (float(c) for c in schedule(t))
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "lw": 2.2, "shrinkA": 0, "shrinkB": 0}
    left.annotate("", (alpha, sigma), (0, 0), arrowprops=arrow | {"color": BLACK})
    left.text(alpha + 0.06, sigma - 0.06, "$x_t$", fontsize=WORDS)
    words = {
        "x0": (1.05, -0.2),
        "eps": (0.08, 1.08),
        "v": (-0.36, 0.98),
        "velocity": (-1.2, 1.52),
        "score": (0.1, -1.2),
    }
    names = {"x0": "$x_0$", "eps": r"$\epsilon$", "v": "$v$", "velocity": "velocity", "score": "score"}
    for name in ("velocity", "v", "x0", "eps", "score"):
        a, b = (float(c) for c in target_coefficients(name, t, schedule))
        left.annotate("", (a, b), (0, 0), arrowprops=arrow | {"color": colours[name]})
        left.text(*words[name], names[name], color=colours[name], fontsize=WORDS)
    corner = 0.13 * torch.tensor([[alpha, sigma], [alpha - sigma, sigma + alpha], [-sigma, alpha]])
    left.plot(*corner.T.numpy(), color="0.3", lw=1)
    left.set(xlim=(-1.3, 1.45), ylim=(-2.4, 1.8), aspect="equal", xticks=[-1, 0, 1], yticks=[-2, -1, 0, 1])
    left.set_xlabel("$a$: how much $x_0$", fontsize=WORDS)
    left.set_ylabel(r"$b$: how much $\epsilon$", fontsize=WORDS)
    u = torch.linspace(0.02, 0.98, 193, dtype=torch.float64)
    lines = {"score": "-", "velocity": "-", "v": "-", "eps": "-", "x0": "-", "vlb": "--"}
    for name, style in lines.items():
        right.plot(u, weight(name, u, schedule), style, color=colours.get(name, BLACK), lw=2)
    for name, place in {
        "score": (0.1, 6e3),
        "vlb": (0.29, 35),
        "velocity": (0.66, 5.2),
        "v": (0.93, 1.3),
        "x0": (0.02, 0.42),
        "eps": (0.83, 0.12),
    }.items():
        label = names.get(name, "bound")
        right.text(*place, label, color=colours.get(name, BLACK), fontsize=WORDS)
    right.set(yscale="log", ylim=(5e-3, 3e4), xlim=(0, 1))
    right.set_xlabel("time $t$", fontsize=WORDS)
    left.set_title(f"targets at $t = {t:.2g}$", fontsize=WORDS)
    right.set_title("weights", fontsize=WORDS)
    return picture
