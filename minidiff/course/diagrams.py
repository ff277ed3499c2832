"""Annotated pictures of ideas, drawn from real data: the chain, the round cloud, the ribbon of densities.

They are used in more than one chapter. Words stand in them, so fonts are larger than in `plot` and figures are
narrow: a phone shows 700 pixels at half size.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from torch import Tensor

from minidiff.course.plot import COLOURS, Picture
from minidiff.oracle import Mixture
from minidiff.process import Gaussian, transition
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
    left.scatter(*z.T.numpy(), s=2, color="0.65", linewidths=0)
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

    At the left stands the density of the data, at the right that of t = 1. `arrow` is what happens in the direction of
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
    for k, path in enumerate(paths.T):
        middle.plot(times, path, color=colours[k % len(colours)], lw=1.3)
        middle.plot(times[-1:], path[-1:], "o", color=colours[k % len(colours)], markersize=5, clip_on=False, zorder=3)
    for ax, k, title in ((first, 0, "data"), (last, -1, "$t = 1$")):
        ax.fill_betweenx(x, density[:, k], color="0.55")
        ax.set_title(title, fontsize=WORDS)
        ax.set(xticks=[])
    first.invert_xaxis()
    for ax in (first, middle, last):
        ax.grid(False)
        ax.spines[["left", "bottom"]].set_visible(ax is middle)
        ax.tick_params(left=False)
    middle.set_xlabel("time $t$", fontsize=WORDS)
    middle.set_ylim(-3.2, 3.2)
    first.set_ylabel("$x_t$", fontsize=WORDS)
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
        "minus log q, struck out. Under x_1 stands only plus log q, which remains."
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
        for y, sign, gone in ((0.0, "+", name != "x_1"), (-0.75, "-", True)):
            if sign == "-" and name == "x_1":
                continue
            term = f"${sign}\\log q({name}|x_0)$"
            ax.text(place, y, term, ha="center", va="center", color="0.5" if gone else FORWARD, fontsize=WORDS)
            if gone:
                ax.plot([place - 1.15, place + 1.15], [y - 0.02, y - 0.02], color=BACKWARD, lw=1.5)
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


def score_arrows(panels: Sequence[tuple[Mixture, float, Tensor, str]], schedule: Schedule, alt: str) -> Picture:
    """Draw the score of a mixture in the plane as arrows over its density, with points (N, 2) on them.

    Each panel is a mixture, a time, the points and a line of words below. Arrows are as long as the score times sigma,
    where that is short; longer ones are compressed.
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
        ax.scatter(*points.T.numpy(), s=5, color=COLOURS[0], linewidths=0, alpha=0.8)
        ax.quiver(
            *places.T.numpy(), *arrows.T.numpy(), color=BACKWARD, angles="xy", scale_units="xy", scale=1, width=0.008
        )
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
        ax.grid(False)
        ax.set_title(f"$t = {float(t):.2g}$", fontsize=WORDS)
        ax.set_xlabel(words, fontsize=WORDS)
    return picture


def guess_and_mix(noise: Tensor, states: Sequence[State], words: Sequence[str], alt: str) -> Picture:
    """Draw a sampler's walk of one image (1, C, H, W) from noise at t = 1: its states above, its guesses below.

    A black arrow leads from a state to the guess that is made of it, a red one from the guess to the next state.
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

    `stages` are the clouds (N, 2) of a diffusion walk from the noise, the samples last.
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
        ax.scatter(*at.T.numpy(), s=1.5, linewidths=0, color=FORWARD, alpha=0.6)

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
        ax.scatter(*x.T.numpy(), s=3, linewidths=0, c=colours)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), xticks=[], yticks=[], aspect="equal")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(name, fontsize=WORDS)
    if title:
        picture.suptitle(title, fontsize=WORDS)
    return picture


def two_by_two(panels: Mapping[str, Tensor], behind: Sequence[Tensor], alt: str) -> Picture:
    """Draw four sets of paths (S, N, 2) in the plane, each over a pale cloud: all ends, and two of the ways there.

    The starts are black. Titles may have two lines.
    """
    if not len(panels) == len(behind) == 4:
        raise ValueError(f"expected four panels and clouds, got {len(panels)} and {len(behind)}")
    picture = Picture(alt, 7.0, 7.9)
    for k, ((name, paths), cloud) in enumerate(zip(panels.items(), behind, strict=True), 1):
        ax = picture.add_subplot(2, 2, k)
        ax.scatter(*cloud.T.numpy(), s=3, linewidths=0, color="0.85")
        ax.scatter(*paths[-1].T.numpy(), s=8, linewidths=0, color=FORWARD)
        for n in range(min(2, paths.shape[1])):
            colour = (BACKWARD, COLOURS[2])[n]
            ax.plot(*paths[:, n].T.numpy(), color=colour, lw=1.3)
            ax.plot(*paths[-1, n].numpy(), "o", color=colour, markersize=10, markeredgecolor="white", zorder=4)
        ax.plot(*paths[0, 0].numpy(), "o", color=BLACK, markersize=10, markeredgecolor="white", zorder=5)
        ax.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), xticks=[], yticks=[], aspect="equal")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(name, fontsize=WORDS)
    return picture
