"""Annotated pictures of ideas, drawn from real data: the chain, the round cloud, the ribbon of densities.

They are used in more than one chapter. Words stand in them, so fonts are larger than in `plot` and figures are
narrow: a phone shows 700 pixels at half size.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from minidiff.course.plot import COLOURS, Picture
from minidiff.losses import weight
from minidiff.oracle import Mixture
from minidiff.process import Gaussian, target_coefficients, transition
from minidiff.samplers import State
from minidiff.schedule import Schedule

BLACK = COLOURS[6]
FORWARD, BACKWARD = COLOURS[0], COLOURS[3]  # blue with the noise, red against it, in all chapters
WORDS = 14  # points, for what a reader must see: 8 pixels on a phone


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
    picture, ax = _canvas(alt, width=7.0, height=3.0, right=7.6, top=1.95, bottom=-1.2)
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
    _bow(ax, (near, 1.06), (far, 1.06), FORWARD, "-")
    ax.text(3.8, 1.52, f"$q({after}\\,|\\,{before})$   {forward}", color=FORWARD, ha="center", fontsize=WORDS)
    _bow(ax, (far, -0.42), (near, -0.42), BACKWARD, (0, (4, 2.5)))
    ax.text(3.8, -1.14, f"$p({before}\\,|\\,{after})$   {backward}", color=BACKWARD, ha="center", fontsize=WORDS)
    return picture


def round_cloud(a: float, b: float, n: int = 4000, seed: int = 0) -> Picture:
    """Draw n points (z1, z2) of the standard normal in the plane, and their shadows along axis 1 and along (a, b)."""
    alt = (
        "Left, a round cloud of points with two arrows, one along an axis and one slanted. Right, the points' "
        "histograms along the two arrows, both under the same bell curve."
    )
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))  # (n, 2)
    slanted = torch.tensor([a, b]) / (a**2 + b**2) ** 0.5
    picture = Picture(alt, 7.0, 3.1)
    left, right = picture.subplots(1, 2, width_ratios=[1, 1.25])
    left.scatter(z[:, 0], z[:, 1], s=2, color="0.65", linewidths=0)
    bars, ground = torch.linspace(-3.6, 3.6, 37), {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
    for axis, colour, name, where in (
        (torch.tensor([1.0, 0.0]), COLOURS[3], "along $z_1$", (2.2, -0.85)),
        (slanted, COLOURS[0], r"along $(a, b)$", (1.1, 2.5)),
    ):
        left.annotate("", (3.2 * axis).tolist(), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.5})
        left.text(*where, name, color=colour, fontsize=WORDS, ha="center", weight="bold", bbox=ground)
        label = f"{name}: std {(z @ axis).std():.2f}"
        right.hist(
            (z @ axis).numpy(), bins=bars.tolist(), density=True, histtype="step", lw=1.8, color=colour, label=label
        )
    bell = torch.distributions.Normal(0.0, 1.0).log_prob(bars).exp()
    right.plot(bars, bell, color="black", lw=1.5, label=r"$\mathcal{N}(0, 1)$")
    left.set(xlim=(-3.6, 3.6), ylim=(-3.6, 3.6), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    right.set(xlabel="position along the arrow", ylabel="density", ylim=(0, 0.68))
    right.legend(loc="upper center", fontsize=11)
    return picture


def ribbon(mixture: Mixture, schedule: Schedule, times: Tensor, paths: Tensor, alt: str, arrow: str = "") -> Picture:
    """Draw the density of a 1-D mixture at all times as a ribbon of grey, with paths (S, N) at times (S,) on it.

    At the left stands the density of the data, at the right that of t = 1. Paths that share their starts have one
    colour for each start. `arrow` is what happens in the direction of
    the paths, which is that of `times`.
    """
    if mixture.means.shape[1] != 1 or paths.ndim != 2 or times.shape != paths.shape[:1]:
        raise ValueError(
            "expected a mixture in one dimension, times (S,) and paths (S, N), "
            f"got {mixture.means.shape[1]} dimensions, {tuple(times.shape)} and {tuple(paths.shape)}"
        )
    x = torch.linspace(-3.2, 3.2, 321, dtype=torch.float64)
    t = torch.linspace(0, 1, 241, dtype=torch.float64)
    density = torch.stack([mixture.log_prob(x[:, None], u, schedule).exp() for u in t], dim=1)  # (321, 241)
    picture = Picture(alt, 7.0, 3.4)
    first, middle, last = picture.subplots(1, 3, width_ratios=[1, 7, 1], sharey=True)
    # the square root keeps the faint parts in sight
    middle.imshow(
        density.sqrt().numpy(), cmap="Greys", vmax=1.3, origin="lower", extent=(0, 1, -3.2, 3.2), aspect="auto"
    )
    colours = [COLOURS[k] for k in (0, 3, 2, 4, 1, 5)]
    starts = paths[0].unique().tolist()
    by_start = 1 < len(starts) < paths.shape[1]  # else each path has its own colour
    for n, path in enumerate(paths.T):
        k = starts.index(float(path[0])) if by_start else n
        middle.plot(times, path, color=colours[k % len(colours)], lw=1.3)
        middle.plot(times[-1:], path[-1:], "o", color=colours[k % len(colours)], markersize=5, clip_on=False, zorder=3)
        middle.plot(times[:1], path[:1], "o", color=BLACK, markersize=6, clip_on=False, zorder=3)
    for ax, k, title in ((first, 0, "data"), (last, -1, "$t = 1$")):
        ax.fill_betweenx(x, density[:, k], color="0.55")
        ax.set_title(title, fontsize=WORDS)
        ax.set(xticks=[])
    first.invert_xaxis()
    for ax in (first, middle, last):
        ax.grid(False)
        ax.spines[["left", "bottom"]].set_visible(ax is middle)
        ax.tick_params(left=False)
    first.tick_params(labelleft=False)
    middle.tick_params(left=True, labelleft=True)
    middle.set_xlabel("time $t$", fontsize=WORDS)
    middle.set_ylim(-3.2, 3.2)
    middle.set_ylabel("$x_t$", fontsize=WORDS, labelpad=-4)
    if arrow:
        middle.set_title(
            arrow + r" $\rightarrow$" if times[-1] > times[0] else r"$\leftarrow$ " + arrow, fontsize=WORDS
        )
    return picture


def contest(drawn: Mapping[str, Tensor | str], bits: Mapping[str, float], alt: str, most: float = 8.0) -> Picture:
    """Draw one row for each code: what it draws, images (6, C, H, W) or a word, and the bits it spends, as a bar.

    `most` is the length of the bars' scale, a dotted line.
    """
    if list(drawn) != list(bits):
        raise ValueError(f"expected bits for {list(drawn)}, got them for {list(bits)}")
    height = 1.55 * len(drawn) + 0.75
    picture, ax = _canvas(alt, width=7.0, height=7.0 * height / 9.7, right=9.7, top=height, bottom=0.0)
    ax.text(0, height - 0.15, "draws", va="top", fontsize=WORDS)
    ax.text(6.5, height - 0.15, "bits for each pixel", va="top", fontsize=WORDS)
    for row, (name, x) in enumerate(drawn.items()):
        y = height - 2.25 - 1.55 * row  # of the lower edge
        ax.text(0, y + 1.06, name, va="bottom", fontsize=WORDS, weight="bold")
        if isinstance(x, str):
            ax.text(0, y + 0.5, x, va="center", fontsize=WORDS, color="0.35")
        else:
            for k, image in enumerate(x[:6]):
                grey = (image.permute(1, 2, 0).clamp(-1, 1) + 1) / 2
                ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=(1.04 * k, 1.04 * k + 1, y, y + 1))
        length = 2.9 * bits[name] / most
        ax.barh(y + 0.5, length, 0.55, left=6.5, color=COLOURS[row % len(COLOURS)])
        ax.text(6.62 + length, y + 0.5, f"{bits[name]:.2f}", va="center", fontsize=WORDS + 2, weight="bold")
    ax.plot([9.4, 9.4], [0.05, height - 1.05], color="0.4", linestyle=":")
    ax.text(9.6, height - 0.6, f"all levels alike: {most:g}", ha="right", va="top", fontsize=WORDS, color="0.35")
    return picture


def bells(
    pairs: Sequence[tuple[Gaussian | float, Gaussian]], titles: Sequence[str], notes: Sequence[str], alt: str
) -> Picture:
    """Draw pairs of bells, one panel each: the truth filled, or a line where it is one number; the model's dashed.

    The Gaussians hold one number each. `notes` stand under the titles.
    """
    if not len(pairs) == len(titles) == len(notes):
        raise ValueError(f"expected a title and a note for each of {len(pairs)} pairs")
    picture = Picture(alt, 7.0, 3.1)
    axes = picture.subplots(1, len(pairs), sharex=True, squeeze=False)[0]
    x = torch.linspace(-2.6, 2.6, 521, dtype=torch.float64)
    for ax, (truth, model), title, note in zip(axes, pairs, titles, notes, strict=True):
        bell = model.log_prob(x[:, None]).exp()
        ax.plot(x, bell, color=BACKWARD, lw=2, linestyle=(0, (4, 2)), label="model")
        if isinstance(truth, Gaussian):
            ax.fill_between(x, truth.log_prob(x[:, None]).exp(), color=FORWARD, alpha=0.35, label="truth")
        else:
            ax.axvline(truth, color=FORWARD, lw=2.5)
        ax.set_title(title, fontsize=WORDS)
        ax.set_xlabel(note, fontsize=WORDS)
        ax.set(yticks=[])
        ax.set_ylim(0)
        ax.grid(False)
    axes[0].legend(loc="upper left", fontsize=11, handlelength=1.2, borderaxespad=0)
    return picture


def telescope() -> Picture:
    """Draw what cancels in the bound of a walk 0 < a < b < 1: each noisy state's density, once with +, once with -."""
    alt = (
        "Four states in a row, x_0, x_a, x_b, x_1, joined by three steps. Under x_a and under x_b stand plus log q and "
        "minus log q, in a bracket that says 0. Under x_1 stands only plus log q, which remains."
    )
    picture, ax = _canvas(alt, width=7.0, height=2.5, right=9.8, top=2.0, bottom=-1.5)
    places, names = (0.5, 3.0, 6.0, 9.0), ("x_0", "x_a", "x_b", "x_1")
    steps = ("first step", "turned round", "turned round")
    for left, right, word in zip(places, places[1:], steps, strict=False):
        _bow(ax, (left + 0.25, 1.12), (right - 0.25, 1.12), FORWARD, "-")
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


def _walk(x0: Tensor, times: Sequence[float], schedule: Schedule, seed: int = 1) -> list[Tensor]:
    """Return x0 and its states at the later times, each drawn given the one before."""
    generator, states = torch.Generator().manual_seed(seed), [x0]
    for s, t in pairwise(times):
        alpha_ts, sigma_ts = (c.to(x0.dtype) for c in transition(s, t, schedule))
        states.append(alpha_ts * states[-1] + sigma_ts * torch.randn(x0.shape, generator=generator, dtype=x0.dtype))
    return states


def _canvas(alt: str, width: float, height: float, right: float, top: float, bottom: float) -> tuple[Picture, Axes]:
    """Return a figure that is one empty plane, of equal units, from (0, bottom) to (right, top)."""
    picture = Picture(alt, width, height)
    ax = picture.add_subplot(1, 1, 1)
    ax.set_axis_off()
    ax.set(aspect="equal")
    ax.set_xlim(0, right)
    ax.set_ylim(bottom, top)
    ax.set_autoscale_on(False)
    return picture, ax


def _bow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, style: object) -> None:
    """Draw a bent arrow, to the left of its direction."""
    bend = {"connectionstyle": "arc3,rad=-0.25", "arrowstyle": "-|>,head_width=0.35,head_length=0.6"}
    ax.annotate(
        "", end, start, arrowprops=bend | {"color": colour, "lw": 2, "linestyle": style, "shrinkA": 0, "shrinkB": 0}
    )


def two_bells(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], names: Sequence[str], alt: str, title: str = ""
) -> Picture:
    """Draw two bells, each (mean, variance), and the one that is their product (eq. 3.3), under their three names."""
    (m_1, v_1), (m_2, v_2) = ((float(m), float(v)) for m, v in (first, second))
    v = 1 / (1 / v_1 + 1 / v_2)
    bells = [(m_1, v_1, COLOURS[0]), (m_2, v_2, COLOURS[1]), (v * (m_1 / v_1 + m_2 / v_2), v, BLACK)]
    x = torch.linspace(-2.5, 2.5, 1001, dtype=torch.float64)
    picture = Picture(alt, 7.0, 3.0)
    ax, top = picture.add_subplot(1, 1, 1), 0.0
    for (mean, variance, colour), name in zip(bells, names, strict=True):
        height = torch.distributions.Normal(mean, variance**0.5).log_prob(x).exp()
        top = max(top, 1.15 * float(height.max()))
        ax.fill_between(x, height, color=colour, alpha=0.25 if colour != BLACK else 0.0, linewidth=0)
        ax.plot(x, height, color=colour, lw=2.5 if colour == BLACK else 1.5, label=name)
    ax.set(xlim=(-2.5, 2.5), ylim=(0, top), ylabel="density")
    ax.set_xlabel("$x_s$", fontsize=WORDS)
    ax.set_title(title, fontsize=WORDS)
    ax.legend(loc="upper left", fontsize=12)
    return picture


def score_arrows(
    panels: Sequence[tuple[Mixture, float, Tensor, str]], schedule: Schedule, alt: str, crosses: Tensor | None = None
) -> Picture:
    """Draw the score of a mixture in the plane as arrows over its density, with points (N, 2) on them.

    Each panel is a mixture, a time, the points and a line of words below. Arrows are as long as the score times sigma,
    where that is short; longer ones are compressed. `crosses` are points (K, 2) of the data to mark, shrunk as at t.
    """
    for mixture, _, points, _ in panels:
        if mixture.means.shape[1] != 2 or points.shape[1:] != (2,):
            raise ValueError(
                "expected mixtures and points (N, 2) in the plane, "
                f"got {mixture.means.shape[1]} dimensions and points {tuple(points.shape)}"
            )
    fine, coarse = (torch.linspace(-2.4, 2.4, n, dtype=torch.float64) for n in (97, 13))
    plane, places = torch.cartesian_prod(fine, fine), torch.cartesian_prod(coarse, coarse)  # (9409, 2), (169, 2)
    picture = Picture(alt, 7.0, 7.0 / len(panels) + 0.6)
    for k, (mixture, t, points, words) in enumerate(panels, 1):
        ax = picture.add_subplot(1, len(panels), k)
        density = mixture.log_prob(plane, t, schedule).exp().reshape(97, 97).T
        ax.imshow(
            (density / density.max()).sqrt().numpy(), cmap="Greys", vmax=1.8, origin="lower", extent=(-2.4, 2.4) * 2
        )
        arrows = schedule(t)[1] * mixture.score(places, t, schedule)  # (169, 2)
        length = arrows.norm(dim=1, keepdim=True).clamp(min=1e-9)
        arrows = 0.38 * (length / 2).tanh() / length * arrows
        ax.scatter(points[:, 0], points[:, 1], s=5, color=COLOURS[0], linewidths=0, alpha=0.8)
        ax.quiver(
            *places.T.numpy(), *arrows.T.numpy(), color=BACKWARD, angles="xy", scale_units="xy", scale=1, width=0.008
        )
        if crosses is not None:
            marks = schedule(t)[0] * crosses  # (K, 2)
            ax.scatter(marks[:, 0], marks[:, 1], s=60, color=BLACK, marker="x", linewidths=1.6, zorder=3)
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
        ax.grid(False)
        ax.set_title(f"$t = {float(t):.2g}$", fontsize=WORDS)
        ax.set_xlabel(words, fontsize=WORDS)
    return picture


def guess_and_mix(noise: Tensor, states: Sequence[State], words: Sequence[str], alt: str) -> Picture:
    """Draw a sampler's walk of one image (1, C, H, W) from noise at t = 1: its states above, its guesses below.

    A black arrow leads from a state to the guess that is made of it, an orange one from the guess to the next state.
    `words` stand under the guesses.
    """
    if noise.ndim != 4 or len(noise) != 1 or not 1 <= len(states) == len(words) <= 3:
        raise ValueError(
            "expected one image (1, C, H, W), 1 to 3 states and words for each, "
            f"got {tuple(noise.shape)}, {len(states)} and {len(words)}"
        )
    picture, ax = _canvas(alt, width=7.0, height=3.75, right=7.0, top=3.25, bottom=-0.5)
    walk = [(1.0, noise), *((float(state.t), state.x) for state in states)]
    for k, (t, x) in enumerate(walk):
        _place(ax, x, (2 * k, 1.75))
        ax.text(2 * k + 0.5, 2.85, f"$t = {t:.2g}$", ha="center", va="bottom", fontsize=WORDS)
    straight = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "lw": 2, "shrinkA": 0, "shrinkB": 0}
    for k, state in enumerate(states):
        left = 2 * k
        _place(ax, state.x0, (left, 0))
        ax.annotate("", (left + 0.5, 1.04), (left + 0.5, 1.7), arrowprops=straight | {"color": BLACK})
        ax.annotate("", (left + 1.95, 2.0), (left + 1.05, 0.75), arrowprops=straight | {"color": BACKWARD})
        ax.annotate("", (left + 1.93, 2.25), (left + 1.07, 2.25), arrowprops=straight | {"color": "0.6"})
    ax.text(0.38, 1.37, "guess", ha="right", va="center", fontsize=WORDS)
    ax.text(1.62, 1.2, "mix", color=BACKWARD, va="center", fontsize=WORDS)
    ax.text(1.5, 2.32, "step", color="0.4", ha="center", va="bottom", fontsize=WORDS)
    for k, text in enumerate(words):
        ax.text(2 * k + 0.5, -0.12, text, ha="center", va="top", fontsize=WORDS)
    return picture


def _place(ax: Axes, x: Tensor, corner: tuple[float, float]) -> None:
    """Draw an image (1, C, H, W) as a square of side one, its lower left corner at a point."""
    grey = (x[0].permute(1, 2, 0).clamp(-1, 1) + 1) / 2
    left, low = corner
    ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=(left, left + 1, low, low + 1), interpolation="nearest")


def families(noise: Tensor, stages: Sequence[Tensor]) -> Picture:
    """Draw how a GAN, a VAE, a flow and diffusion turn noise (N, 2) into samples, and what else each is trained with.

    `stages` are the clouds (N, 2) of a diffusion walk from the noise; the last are samples, drawn in every row.
    """
    alt = (
        "Four rows from a cloud of noise to eight clusters. GAN: noise, generator, samples; trained against a "
        "discriminator. VAE: noise, decoder, samples; trained with an encoder. Flow: one network that runs both ways. "
        "Diffusion: noise, a denoiser many times with clouds in between, samples; trained with noise that is added."
    )
    picture, ax = _canvas(alt, width=7.0, height=5.3, right=14, top=10.6, bottom=0.0)
    learned = {"boxstyle": "round,pad=0.35", "facecolor": "#FDE2B3", "edgecolor": "none"}
    fixed = {"boxstyle": "round,pad=0.35", "facecolor": "0.88", "edgecolor": "none"}

    def cloud(x: Tensor, place: float, y: float, scale: float = 0.36) -> None:
        at = x.clamp(-2.6, 2.6) * scale + torch.tensor([place, y])
        ax.scatter(at[:, 0], at[:, 1], s=1.5, linewidths=0, color=FORWARD, alpha=0.6)

    def arrow(start: float, end: float, y: float, style: str = "-|>", colour: str = BLACK, line: str = "-") -> None:
        drawn = {"arrowstyle": style, "color": colour, "lw": 1.8, "linestyle": line, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (end, y), (start, y), arrowprops=drawn)

    for place, word in ((3.15, "noise"), (6.0, "sampling"), (8.85, "samples"), (12.05, "in training")):
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
        arrow(9.8, 10.25, y, "-" if name == "GAN" else "<|-|>" if name == "VAE" else "-|>", "0.5", "-")
    return picture


def clouds(
    panels: Mapping[str, Tensor], alt: str, colours: Sequence[str] | str = FORWARD, columns: int = 3, title: str = ""
) -> Picture:
    """Draw point clouds (N, 2) in rows of equal panels; `colours` is one for all, or one for each of N points."""
    rows = -(-len(panels) // columns)
    picture = Picture(alt, 7.0, 7.0 / columns * rows * 1.1 + 0.3 * bool(title))
    for k, (name, x) in enumerate(panels.items(), 1):
        ax = picture.add_subplot(rows, columns, k)
        ax.scatter(x[:, 0], x[:, 1], s=3, linewidths=0, c=colours)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), xticks=[], yticks=[], aspect="equal")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(name, fontsize=WORDS)
    if title:
        picture.suptitle(title, fontsize=WORDS)
    return picture


def four_walks(panels: Mapping[str, Tensor], behind: Sequence[Tensor], alt: str) -> Picture:
    """Draw four sets of paths (S, N, 2) in the plane, each over a pale cloud: all ends, and two of the ways there.

    The starts are black. Titles may have two lines.
    """
    if not len(panels) == len(behind) == 4:
        raise ValueError(f"expected four panels and clouds, got {len(panels)} and {len(behind)}")
    picture = Picture(alt, 7.0, 7.9)
    for k, ((name, paths), cloud) in enumerate(zip(panels.items(), behind, strict=True), 1):
        ax = picture.add_subplot(2, 2, k)
        ax.scatter(cloud[:, 0], cloud[:, 1], s=3, linewidths=0, color="0.85")
        ax.scatter(paths[-1][:, 0], paths[-1][:, 1], s=8, linewidths=0, color=FORWARD)
        for n in range(min(2, paths.shape[1])):
            colour = (BACKWARD, COLOURS[2])[n]
            ax.plot(*paths[:, n].T.numpy(), color=colour, lw=1.3)
            ax.plot(*paths[-1, n].numpy(), "o", color=colour, markersize=10, markeredgecolor="white", zorder=4)
        ax.plot(*paths[0, 0].numpy(), "o", color=BLACK, markersize=10, markeredgecolor="white", zorder=5)
        ax.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), xticks=[], yticks=[], aspect="equal")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(name, fontsize=WORDS)
    return picture


def guess_the_noise(x0: Tensor, eps: Tensor, x_t: Tensor, guess: Tensor) -> Picture:
    """Draw one step of training on an image (1, C, H, W): x0 and eps make x_t, the network guesses eps, the two differ.

    The difference is drawn twice as strong.
    """
    alt = (
        "A clean picture and a picture of noise are added to a noisy picture. A network makes of it a guess at the "
        "noise. An arrow compares noise and guess; their difference shows faint outlines of the clean picture."
    )
    picture, ax = _canvas(alt, width=7.0, height=3.3, right=8.6, top=3.35, bottom=-0.7)
    size: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": WORDS}
    for x, corner, words in (
        (x0, (0, 0), r"clean $x_0$"),
        (eps, (0, 1.75), ""),
        (x_t, (2.2, 0), r"noisy $x_t$"),
        (guess, (5.2, 0), "its guess"),
        (2 * (eps - guess), (7.5, 0), "missed"),
    ):
        _place(ax, x, corner)
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


def rows_and_weights(schedule: Schedule, t: float) -> Picture:
    """Draw what a network may predict: as arrows y = a x0 + b eps beside x_t at a time, and as weights over time."""
    alt = (
        "Left, arrows in the plane of x0 and eps: x_t on a quarter circle, v at a right angle to it, velocity longer "
        "the same way, x0 along one axis, eps along the other, the score down. Right, the weights over time: score and "
        "bound fall most steeply, then v and eps; x0 is flat."
    )
    picture = Picture(alt, 7.0, 3.9)
    left, right = picture.subplots(1, 2, width_ratios=[1, 1.15])
    colours = {"x0": COLOURS[2], "eps": COLOURS[0], "v": COLOURS[3], "velocity": COLOURS[1], "score": COLOURS[4]}
    quarter = torch.linspace(0, torch.pi / 2, 91)
    left.plot(quarter.cos(), quarter.sin(), color="0.8", lw=1.5)
    alpha, sigma = (float(c) for c in schedule(t))
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "lw": 2.2, "shrinkA": 0, "shrinkB": 0}
    left.annotate("", (alpha, sigma), (0, 0), arrowprops=arrow | {"color": BLACK})
    left.text(alpha + 0.06, sigma + 0.02, "$x_t$", fontsize=WORDS)
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
    lines = {"score": "-", "v": "-", "eps": "-", "x0": "-", "vlb": "--"}
    for name, style in lines.items():
        right.plot(u, weight(name, u, schedule), style, color=colours.get(name, BLACK), lw=2)
    for name, place in {
        "score": (0.1, 6e3),
        "vlb": (0.62, 4.5),
        "v": (0.86, 1.9),
        "x0": (0.02, 0.42),
        "eps": (0.83, 0.12),
    }.items():
        label = names.get(name, "bound")
        right.text(*place, label, color=colours.get(name, BLACK), fontsize=WORDS)
    right.set(yscale="log", ylim=(5e-3, 3e4), xlim=(0, 1))
    right.set_xlabel("time $t$", fontsize=WORDS)
    left.set_title(f"targets at $t = {t:.2g}$", fontsize=WORDS)
    right.set_title(r"weight of $|x_0 - \hat x_0|^2$", fontsize=WORDS)
    return picture


def predictions(panels: Sequence[tuple[str, Tensor, str]], columns: int, rows: Sequence[str], alt: str) -> Picture:
    """Draw point clouds (N, 2) in rows of panels on one scale; each has a title and a note below; rows have names."""
    if len(panels) != columns * len(rows):
        raise ValueError(f"expected {columns} panels for each of {len(rows)} rows, got {len(panels)}")
    picture = Picture(alt, 7.0, (7.2 / columns + 0.4) * len(rows))
    for k, (title, x, note) in enumerate(panels):
        ax = picture.add_subplot(len(rows), columns, k + 1)
        ax.scatter(x[:, 0], x[:, 1], s=4, linewidths=0, color=FORWARD)
        ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
        ax.set_title(title, fontsize=WORDS)
        ax.set_xlabel(note, fontsize=WORDS)
        if k % columns == 0:
            ax.set_ylabel(rows[k // columns], fontsize=WORDS)
    return picture


def pictures(rows: Mapping[str, Tensor], alt: str, above: Sequence[str] = ()) -> Picture:
    """Draw named rows of images (B, C, H, W) in [-1, 1] (others are clipped) over the whole width, dot by dot.

    `above` has words for each column, or for each image, row by row.
    """
    most = max(map(len, rows.values()))
    if len(above) not in (0, most, sum(map(len, rows.values()))):
        raise ValueError(f"expected words for {most} columns or for all images, got {len(above)}")
    left = 0.13 * max(map(len, rows)) + 0.1 if any(rows) else 0.0
    side = min(1.7, (7.0 - left) / most)
    each = len(above) > most
    head = 0.32 if above else 0.0
    height = len(rows) * side + head * (len(rows) if each else 1)
    picture, ax = _canvas(alt, left + most * side, height, left + most * side, height, 0.0)
    low, n = height - (0.0 if each else head), 0
    for name, x in rows.items():
        low -= side + head * each
        ax.text(left - 0.12, low + side / 2, name, ha="right", va="center", fontsize=WORDS)
        for k, image in enumerate(x):
            grey = (image.float().permute(1, 2, 0).clamp(-1, 1) + 1) / 2
            box = (left + k * side, left + k * side + 0.95 * side, low + 0.05 * side, low + side)
            ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=box, interpolation="nearest")
            if above and (each or n < most):
                ax.text(box[0] + 0.475 * side, low + side + 0.05, above[n], ha="center", va="bottom", fontsize=WORDS)
            n += 1
    return picture


def dissolve(x: Tensor, title: str, alt: str) -> Picture:
    """Draw an image (1, H, W) and the histogram of its pixels, under the standard normal density.

    The root of the density is to scale, so that the high bar of a plain ground and the low bell both show.
    """
    picture = Picture(alt, 7.0, 3.2)
    left, right = picture.subplots(1, 2, width_ratios=[1, 1.3])
    left.imshow(x[0].numpy(), cmap="gray", vmin=-1, vmax=1)
    left.set(xticks=[], yticks=[])
    left.set_title(title, fontsize=WORDS)
    edges = torch.linspace(-3.5, 3.5, 43)
    density = torch.histc(x, 42, -3.5, 3.5) / x.numel() * 6
    right.stairs(density.sqrt().numpy(), edges.numpy(), fill=True, color=COLOURS[5])
    bell = torch.distributions.Normal(0.0, 1.0).log_prob(edges).exp()
    right.plot(edges, bell.sqrt(), color=BLACK, lw=1.5)
    ticks = (0.1, 0.4, 1, 2, 4)
    right.set_yticks([tick**0.5 for tick in ticks], [str(tick) for tick in ticks])
    right.set(ylim=(0, 2.05), xlabel="value of a pixel")
    right.set_title("density (root scale)", fontsize=WORDS)
    return picture


def under_bells(panels: Mapping[str, tuple[Tensor, float | Tensor, float | Tensor]], alt: str) -> Picture:
    """Draw for each (sample (N,), mean, std) the sample's histogram and the normal density, on common axes."""
    picture = Picture(alt, 7.0, 2.9)
    x = torch.linspace(-4, 4, 401, dtype=torch.float64)
    for ax, (title, (sample, mean, std)) in zip(picture.subplots(1, len(panels)), panels.items(), strict=True):
        ax.hist(sample.numpy(), bins=60, density=True, color=COLOURS[5], label="the walk")
        bell = torch.distributions.Normal(mean, std).log_prob(x).exp()
        ax.plot(x, bell, color=BACKWARD, lw=1.8, label="one jump")
        ax.set(xlim=(-4, 4), ylim=(0, 1.25 * float(bell.max())), yticks=[], xlabel="value of the pixel")
        ax.set_title(title, fontsize=WORDS)
    picture.axes[0].legend(loc="upper left", fontsize=11, handlelength=1.2, borderaxespad=0)
    return picture


def kernels(mixture: Mixture, schedule: Schedule, t: float, lengths: Sequence[float], x_t: Tensor) -> Picture:
    """Draw where x_t (1,) came from, q(x_s | x_t), for strides t - s of some lengths, each over its nearest Gaussian.

    The nearest is the one of the same mean and variance. All panels show the same values, so that one sees the kernel
    narrow.
    """
    alt = "Panels for shorter and shorter strides: two humps, far from the dashed bell, then narrow bells over it."
    picture = Picture(alt, 7.0, 2.9)
    x = torch.linspace(-3, 3, 2401, dtype=torch.float64)
    for ax, length in zip(picture.subplots(1, len(lengths)), lengths, strict=True):
        kernel = mixture.reverse(x_t, t - length, t, schedule)
        mean = (kernel.weights * kernel.means[:, 0]).sum()
        second = (kernel.weights * (kernel.stds[:, 0] ** 2 + kernel.means[:, 0] ** 2)).sum()
        bell = torch.distributions.Normal(mean, (second - mean**2).sqrt())
        true = kernel.log_prob(x[:, None], 0.0, schedule).exp()
        ax.fill_between(x, true, color=FORWARD, alpha=0.35, linewidth=0, label="true")
        ax.plot(x, bell.log_prob(x).exp(), color=BACKWARD, lw=2, linestyle=(0, (4, 2)), label="Gaussian")
        ax.set_title(f"$t - s = {length:g}$", fontsize=WORDS)
        ax.set_xlabel("$x_s$", fontsize=WORDS)
        ax.set(yticks=[], xlim=(-3, 3))
        ax.set_ylim(0, 1.1 * max(float(true.max()), float(bell.log_prob(mean).exp())))
        ax.grid(False)
    picture.axes[0].legend(loc="upper left", fontsize=11, handlelength=1.2, borderaxespad=0)
    return picture


def schedule_paths(schedules: Mapping[str, Schedule], alt: str) -> Picture:
    """Draw alpha (solid) and sigma (dashed) of schedules against time, and their paths in the plane of the two.

    A dot stands at each tenth of the time.
    """
    picture = Picture(alt, 7.0, 3.5)
    left, right = picture.subplots(1, 2, width_ratios=[1.15, 1])
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    for k, (name, each) in enumerate(schedules.items()):
        (alpha, sigma), colour = each(t), COLOURS[(0, 3, 2, 4)[k % 4]]
        left.plot(t, alpha, color=colour, lw=2, label=name)
        left.plot(t, sigma, color=colour, lw=1.6, linestyle=(0, (3, 2)))
        right.plot(alpha, sigma, color=colour, lw=2)
        right.plot(alpha[::20], sigma[::20], "o", color=colour, markersize=9 - 3 * k, label=name)
    left.text(0.02, 0.7, r"$\alpha_t$", fontsize=WORDS + 2)
    left.text(0.17, 0.03, r"$\sigma_t$", fontsize=WORDS + 2)
    left.set(xlabel="time t", ylim=(0, 1.05))
    right.legend(loc="lower left", fontsize=11, handlelength=1.2)
    right.text(1.07, -0.02, "data", fontsize=WORDS)
    right.text(0.1, 1.06, "noise", fontsize=WORDS)
    right.set(xlim=(-0.05, 1.32), ylim=(-0.07, 1.2), aspect="equal")
    right.set_xlabel(r"signal $\alpha_t$", fontsize=12)
    right.set_ylabel(r"noise $\sigma_t$", fontsize=12)
    return picture


def log_snr_curves(schedules: Mapping[str, Schedule], alt: str) -> Picture:
    """Draw log SNR of schedules against time; where there is more signal than noise the ground is grey."""
    picture = Picture(alt, 7.0, 3.4)
    ax = picture.add_subplot(1, 1, 1)
    t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    for k, (name, each) in enumerate(schedules.items()):
        ax.plot(t, each.log_snr(t), label=name, color=COLOURS[(0, 3, 2, 4)[k % 4]], lw=2)
    ax.axhspan(0, 10, color="0.94")
    ax.text(0.98, 8, "more signal than noise", ha="right", fontsize=WORDS)
    ax.text(0.98, -12.5, "more noise than signal", ha="right", fontsize=WORDS)
    ax.set(xlabel="time t", ylabel="log SNR", xlim=(0, 1), ylim=(-14, 10), yticks=range(-10, 11, 5))
    ax.legend(loc="lower left", fontsize=12)
    return picture


def shares(bars: Mapping[str, float], alt: str) -> Picture:
    """Draw parts of a whole as bars, each with its per cent; the first, the truth, is grey."""
    picture = Picture(alt, 7.0, 0.5 * len(bars) + 0.4)
    ax = picture.add_subplot(1, 1, 1)
    drawn = ax.barh(list(bars), list(bars.values()), color=["0.6"] + [FORWARD] * (len(bars) - 1))
    ax.bar_label(drawn, [f"{bar:.0%}" for bar in bars.values()], padding=4, fontsize=WORDS)
    ax.set(xticks=[], xlim=(0, 1.15 * max(bars.values())))
    ax.tick_params(axis="y", labelsize=WORDS, length=0)
    ax.spines["bottom"].set_visible(False)
    ax.invert_yaxis()
    ax.grid(False)
    return picture


def named_points(
    curve: tuple[Tensor, Tensor],
    points: Mapping[str, tuple[float, float]],
    level: float,
    alt: str,
    xlabel: str,
    ylabel: str,
) -> Picture:
    """Draw a curve, points (x, y) on it, each under its name, and a dotted level: the data's."""
    picture = Picture(alt, 7.0, 3.4)
    ax = picture.add_subplot(1, 1, 1)
    ax.plot(*curve, color=BACKWARD, lw=2)
    ax.axhline(level, color=BLACK, linestyle=":")
    for name, (x, y) in points.items():
        ax.plot([x], [y], "o", color=BACKWARD, markersize=9)
        ax.annotate(name, (x, y), (10, -6), textcoords="offset points", fontsize=WORDS, va="top")
    right, low, high = float(curve[0].max()), float(curve[1].min()), float(curve[1].max())
    ax.text(1.25 * right, level, "data", ha="right", va="bottom", fontsize=WORDS)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.27 * right))
    ax.set(ylim=(low - 0.16 * (high - low), high + 0.1 * (high - low)))
    return picture


def labelled(
    x: Tensor, lines: Mapping[str, tuple[Tensor, tuple[float, float]]], alt: str, xlabel: str, ylabel: str
) -> Picture:
    """Draw lines over x (N,), each a pair of its values and of the place of its name, which has its colour."""
    picture = Picture(alt, 6.4, 3.2)
    ax = picture.add_subplot(1, 1, 1)
    for (name, (y, place)), colour in zip(lines.items(), [COLOURS[k] for k in (0, 3, 2, 4, 1, 5)], strict=False):
        ax.plot(x, y, color=colour)
        ax.text(*place, name, color=colour, fontsize=WORDS, ha="center")
    ax.set_xlabel(xlabel, fontsize=12)
    ax.set_ylabel(ylabel, fontsize=12)
    return picture


def against(x: Tensor, panels: Mapping[str, tuple[Tensor, Tensor]], names: tuple[str, str], alt: str) -> Picture:
    """Draw panels of two densities over x (N,) on one scale, one shaded, one dashed; `names` are theirs."""
    picture = Picture(alt, 7.0, 3.0)
    top = 1.3 * max(float(density.max()) for pair in panels.values() for density in pair)  # room for the legend
    for k, (title, (shaded, dashed)) in enumerate(panels.items(), 1):
        ax = picture.add_subplot(1, len(panels), k)
        ax.fill_between(x, shaded, color=BACKWARD, alpha=0.4, linewidth=0, label=names[0])
        ax.plot(x, dashed, color=BLACK, linestyle="--", label=names[1])
        ax.set(xlim=(-2, 2), ylim=(0, top), ylabel="density" if k == 1 else "")
        ax.tick_params(labelleft=k == 1)
        ax.set_title(title, fontsize=WORDS)
        ax.set_xlabel("$x_s$", fontsize=WORDS)
    picture.axes[0].legend(loc="upper left", fontsize=11)
    return picture


def bars(panels: Mapping[str, Mapping[str, float]], alt: str, unknown: float | None = None) -> Picture:
    """Draw panels side by side, a bar for each name, the same in all; a value equal to `unknown` is no bar."""
    picture = Picture(alt, 7.0, 1.3 + 0.4 * max(map(len, panels.values())))
    for ax, (title, values) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        drawn = ax.barh(list(values), list(values.values()), color=COLOURS[: len(values)])
        words = ["unknown" if value == unknown else f"{value:.2g}" for value in values.values()]
        ax.bar_label(drawn, words, padding=3, fontsize=12)
        ax.set(xticks=[], xlim=(0, 1.7 * max(values.values())))
        ax.set_title(title, fontsize=WORDS)
        ax.tick_params(labelleft=ax is picture.axes[0], left=False, labelsize=WORDS)
        ax.spines["bottom"].set_visible(False)
        ax.grid(False)
        ax.invert_yaxis()
    return picture


def split_bars(
    parts: Mapping[str, tuple[Tensor, Tensor]], names: Sequence[str], label: str, alt: str, height: float = 3.3
) -> Picture:
    """Draw one bar for each name: (part, whole) as the part and what is left, with both lengths written in it."""
    picture = Picture(alt, 7.0, height)
    ax = picture.add_subplot(1, 1, 1)
    for row, (part, whole) in enumerate((float(part), float(whole)) for part, whole in parts.values()):
        ax.barh(row, part, 0.6, color="0.6", label=names[0] if row == 0 else None)
        ax.barh(row, whole - part, 0.6, left=part, color=BACKWARD, label=names[1] if row == 0 else None)
        ax.text(whole, row, f"  {part:.2f} + {whole - part:.2f}", va="center", fontsize=WORDS)
    longest = max(float(whole) for _, whole in parts.values())
    ax.set(xlim=(0, 1.35 * longest), xlabel=label)
    ax.set_yticks(range(len(parts)), list(parts), fontsize=WORDS)
    ax.invert_yaxis()
    ax.legend(loc="lower right", fontsize=12)
    ax.grid(False)
    return picture
