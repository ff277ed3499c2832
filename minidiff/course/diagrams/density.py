"""Densities on a line: bells, kernels, and the ribbon over time."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minidiff.course.diagrams.base import BACKWARD, BLACK, FORWARD, WORDS
from minidiff.course.plot import COLOURS, Picture
from minidiff.oracle import Mixture
from minidiff.process import Gaussian
from minidiff.schedule import Schedule


def round_cloud(a: float, b: float, n: int = 4000, seed: int = 0) -> Picture:
    """Draw n points (z1, z2) of the standard normal in the plane, and their shadows on the lines of two arrows.

    The arrows are (1, 0) and (a, b), drawn to scale.
    """
    alt = (
        "Left, a round cloud of points with two short arrows, one along an axis and one slanted, each on a dashed "
        "line. Right, histograms of the points' shadows on the two lines, both under the same bell curve."
    )
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))  # (n, 2)
    slanted = torch.tensor([a, b]) / (a**2 + b**2) ** 0.5
    picture = Picture(alt, 7.0, 3.1)
    left, right = picture.subplots(1, 2, width_ratios=[1, 1.25])
    left.scatter(z[:, 0], z[:, 1], s=2, color="0.65", linewidths=0)
    bars, ground = torch.linspace(-3.6, 3.6, 37), {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "lw": 3, "shrinkA": 0, "shrinkB": 0}
    for axis, length, colour, name, where in (
        (torch.tensor([1.0, 0.0]), 1.0, COLOURS[3], "$(1, 0)$", (1.5, -0.75)),
        (slanted, (a**2 + b**2) ** 0.5, COLOURS[0], rf"$({a:g}, {b:g})$", (0.3, 1.45)),
    ):
        left.plot(*(torch.tensor([[-4.5], [4.5]]) * axis).T.numpy(), "--", color=colour, lw=1.3)
        left.annotate("", (length * axis).tolist(), (0, 0), arrowprops=arrow | {"color": colour})
        long = "" if length == 1 else f",\n{length:.2f} long"
        left.text(*where, name + long, color=colour, fontsize=WORDS, ha="center", va="center", bbox=ground)
        label = f"on the line of {name}: std {(z @ axis).std():.2f}"
        right.hist(
            (z @ axis).numpy(), bins=bars.tolist(), density=True, histtype="step", lw=1.8, color=colour, label=label
        )
    bell = torch.distributions.Normal(0.0, 1.0).log_prob(bars).exp()
    right.plot(bars, bell, color="black", lw=1.5, label=r"$\mathcal{N}(0, 1)$")
    left.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    right.set(xlabel="position of the shadow on the line", ylabel="density", ylim=(0, 0.72))
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


def two_bells(
    panels: Mapping[str, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]], names: Sequence[str], alt: str
) -> Picture:
    """Draw in each panel two bells, each (mean, variance), and their product (eq. 3.3); `names` are the three's."""
    picture = Picture(alt, 7.0, 3.4)
    x = torch.linspace(-2.5, 2.5, 1001, dtype=torch.float64)
    for k, (title, pair) in enumerate(panels.items(), 1):
        (m_1, v_1), (m_2, v_2) = ((float(m), float(v)) for m, v in pair)
        v = 1 / (1 / v_1 + 1 / v_2)
        bells = [(m_1, v_1, COLOURS[0]), (m_2, v_2, COLOURS[1]), (v * (m_1 / v_1 + m_2 / v_2), v, BLACK)]
        ax, top = picture.add_subplot(1, len(panels), k), 0.0
        for (mean, variance, colour), name in zip(bells, names, strict=True):
            height = torch.distributions.Normal(mean, variance**0.5).log_prob(x).exp()
            top = max(top, 1.05 * float(height.max()))
            ax.fill_between(x, height, color=colour, alpha=0.25 if colour != BLACK else 0.0, linewidth=0)
            ax.plot(x, height, color=colour, lw=2.5 if colour == BLACK else 1.5, label=name)
        ax.set(xlim=(-2.5, 2.5), ylim=(0, top), yticks=[], ylabel="density" if k == 1 else "")
        ax.set_xlabel("$x_s$", fontsize=WORDS)
        ax.set_title(title, fontsize=WORDS)
    picture.legend(*picture.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=12)
    return picture


def kernels(mixture: Mixture, schedule: Schedule, t: float, lengths: Sequence[float], x_t: Tensor) -> Picture:
    """Draw where x_t (1,) came from, q(x_s | x_t), for strides t - s of some lengths, each over its nearest Gaussian.

    The nearest is the one of the same mean and variance. A kernel too narrow to be seen on the scale of the others is
    enlarged, and the scale says so.
    """
    alt = (
        "Panels for shorter and shorter strides: two humps, far from the dashed bell, then narrower bells over it; "
        "the narrowest is enlarged."
    )
    picture = Picture(alt, 7.0, 3.0)
    for ax, length in zip(picture.subplots(1, len(lengths)), lengths, strict=True):
        kernel = mixture.reverse(x_t, t - length, t, schedule)
        mean = (kernel.weights * kernel.means[:, 0]).sum()
        second = (kernel.weights * (kernel.stds[:, 0] ** 2 + kernel.means[:, 0] ** 2)).sum()
        bell = torch.distributions.Normal(mean, (second - mean**2).sqrt())
        zoom = 10 if bell.stddev < 0.15 else 1
        x = torch.linspace(-3, 3, 2401, dtype=torch.float64) / zoom
        true = kernel.log_prob(x[:, None], 0.0, schedule).exp()
        ax.fill_between(x, true, color=FORWARD, alpha=0.35, linewidth=0, label="true")
        ax.plot(x, bell.log_prob(x).exp(), color=BACKWARD, lw=2, linestyle=(0, (4, 2)), label="Gaussian")
        ax.set_title(f"$t - s = {length:g}$", fontsize=WORDS)
        ax.set_xlabel(f"$x_s$ ({zoom} times enlarged)" if zoom > 1 else "$x_s$", fontsize=WORDS)
        ax.set(yticks=[], xlim=(-3 / zoom, 3 / zoom), xticks=[-2 / zoom, 0, 2 / zoom])
        ax.set_ylim(0, 1.1 * max(float(true.max()), float(bell.log_prob(mean).exp())))
        ax.grid(False)
    picture.axes[0].legend(loc="upper left", fontsize=11, handlelength=1.2, borderaxespad=0)
    return picture


def under_bells(panels: Mapping[str, tuple[Tensor, float | Tensor, float | Tensor]], alt: str) -> Picture:
    """Draw for each (sample (N,), mean, std) its histogram and the normal density, each panel to its own height."""
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


def components(x: Tensor, panels: Mapping[str, tuple[Sequence[Tensor], float, str]], alt: str) -> Picture:
    """Draw the parts of a mixture over x (N,), one colour each, and their sum: a panel for each mixture.

    Each panel is the parts, a place to mark by a dotted line, and its name.
    """
    picture = Picture(alt, 7.0, 3.0)
    for ax, (title, (parts, place, name)) in zip(picture.subplots(1, len(panels)), panels.items(), strict=True):
        total = torch.stack(list(parts)).sum(0)
        for part, colour in zip(parts, [COLOURS[k] for k in (0, 1, 2, 4, 5)], strict=False):
            ax.fill_between(x, part, color=colour, alpha=0.35, linewidth=0)
            ax.plot(x, part, color=colour)
        ax.plot(x, total, color=BLACK, linestyle="--")
        ax.axvline(place, color=BLACK, linestyle=":")
        top = 1.2 * float(total.max())
        ax.text(place + 0.08, 0.99 * top, name, fontsize=WORDS, va="top")
        ax.set(xlim=(-2.5, 2.5), ylim=(0, top))
        ax.set_title(title, fontsize=WORDS)
    picture.axes[0].set_ylabel("density", fontsize=12)
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
