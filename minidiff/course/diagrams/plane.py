"""Points in the plane: clouds, walks and scores."""

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from torch import Tensor

from minidiff.course.diagrams.base import BACKWARD, BLACK, FORWARD, WORDS
from minidiff.course.plot import COLOURS, Picture
from minidiff.oracle import Mixture
from minidiff.schedule import Schedule


def clouds(
    panels: Mapping[str, Tensor],
    alt: str,
    colours: Mapping[str, Sequence[str]] | Sequence[str] | str = FORWARD,
    columns: int = 3,
    title: str = "",
    window: tuple[float, float] = (-2.5, 2.5),
    width: float = 7.0,
    circles: tuple[Tensor, Tensor] | None = None,
) -> Picture:
    """Draw point clouds (N, 2) in rows of equal panels.

    `colours` is one for all, or one for each of N points, or these for each panel. `window` is what each panel shows of
    both axes. `circles` are centres (K, 2) and radii (K,) of circles in every panel.
    """
    rows = -(-len(panels) // columns)
    picture = Picture(alt, width, width / columns * rows * 1.1 + 0.3 * bool(title))
    for k, (name, x) in enumerate(panels.items(), 1):
        ax = picture.add_subplot(rows, columns, k)
        dots = ax.scatter(
            x[:, 0], x[:, 1], s=3, linewidths=0, c=colours[name] if isinstance(colours, Mapping) else colours
        )
        dots.set_antialiased(not isinstance(colours, Mapping))  # mixed colours without soft edges: a fifth of the bytes
        for centre, radius in zip(*circles, strict=True) if circles else ():
            ax.add_patch(Circle(centre.tolist(), float(radius), fill=False, color=BLACK, linewidth=0.8))
        ax.set(xlim=window, ylim=window, xticks=[], yticks=[], aspect="equal")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(name, fontsize=WORDS)
    if title:
        picture.suptitle(title + "\n", fontsize=WORDS)  # the empty line keeps it from the panels' titles
    return picture


def guesses(panels: Mapping[str, tuple[Tensor, Tensor]], alt: str) -> Picture:
    """Draw points (N, 2) and, over them, the guesses (N, 2) at where they come from, in a row of equal panels.

    Lines join the first ten points in the frame to their guesses.
    """
    width = 7.0 if len(panels) > 1 else 4.4
    picture = Picture(alt, width, width / len(panels) + 0.7)
    for k, (title, (points, guessed)) in enumerate(panels.items(), 1):
        ax = picture.add_subplot(1, len(panels), k)
        framed = (points.abs() < 2.6).all(1)
        joined = torch.stack([points[framed][:10], guessed[framed][:10]])  # (2, 10, 2)
        ax.plot(joined[..., 0], joined[..., 1], color=BLACK, linewidth=0.7, zorder=3)
        ax.scatter(points[:, 0], points[:, 1], s=5, linewidths=0, color=FORWARD, label="point")
        ax.scatter(guessed[:, 0], guessed[:, 1], s=5, linewidths=0, color=COLOURS[1], label="its guess")
        ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
        ax.grid(False)
        ax.set_title(title, fontsize=WORDS)
    handles = picture.axes[0].get_legend_handles_labels()
    picture.legend(*handles, loc="outside lower center", ncols=2, markerscale=4, fontsize=12, handletextpad=0)
    return picture


def predictions(
    panels: Sequence[tuple[str, Tensor, str]],
    columns: int,
    rows: Sequence[str],
    alt: str,
    line: Tensor | None = None,
    marked: Sequence[Tensor] = (),
) -> Picture:
    """Draw point clouds (N, 2) in rows of panels on one scale, over a pale line (M, 2) if one is given.

    Each panel has a title and a note below; rows have names. The points of a row at which its mask (N,) in `marked`
    is true are larger and orange.
    """
    if len(panels) != columns * len(rows):
        raise ValueError(f"expected {columns} panels for each of {len(rows)} rows, got {len(panels)}")
    noted = max(len(note.splitlines()) for _, _, note in panels)  # lines below a panel
    picture = Picture(alt, 7.0, (6.9 / columns + 0.4 + 0.25 * noted) * len(rows))
    for k, (title, x, note) in enumerate(panels):
        ax = picture.add_subplot(len(rows), columns, k + 1)
        if line is not None:
            ax.plot(line[:, 0], line[:, 1], color="0.8", lw=1.5, zorder=0)
        ax.scatter(x[:, 0], x[:, 1], s=4, linewidths=0, color=FORWARD)
        if marked:
            chosen = x[marked[k // columns]]
            ax.scatter(chosen[:, 0], chosen[:, 1], s=9, linewidths=0, color=BACKWARD)
        ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
        ax.set_title(title, fontsize=WORDS)
        ax.set_xlabel(note, fontsize=WORDS)
        if k % columns == 0:
            ax.set_ylabel(rows[k // columns], fontsize=WORDS)
    return picture


def over(panels: Mapping[str, Tensor], behind: Tensor, alt: str, reach: float = 3.5, columns: int = 0) -> Picture:
    """Draw point clouds (N, 2) in one row, or in rows of `columns`, each over the same pale one, as far as `reach`."""
    lines = 1 + max(name.count("\n") for name in panels)
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    picture = Picture(alt, 7.0, (7.0 / columns + 0.3 * lines) * rows)
    picture.set_layout_engine("constrained", h_pad=0.1)
    for k, (name, x) in enumerate(panels.items(), 1):
        ax = picture.add_subplot(rows, columns, k)
        _points(ax, behind, x, reach)
        ax.set_title(name, fontsize=WORDS)
    return picture


def bent_grids(
    panels: Mapping[str, Callable[[Tensor], Tensor]],
    alt: str,
    cells: tuple[tuple[float, float], tuple[float, float]],
    reach: float = 6.0,
) -> Picture:
    """Draw what maps of points (N, 2) make of a grid of unit squares from -3 to 3, in a row of panels on one scale.

    Two of the squares, given by their lower left corners, are orange and blue; their areas under each map stand below.
    """
    picture = Picture(alt, 7.0, 7.0 / len(panels) + 1.1)
    fine = torch.linspace(-3, 3, 241)
    for ax, (name, change) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for level in range(-3, 4):
            line = torch.full_like(fine, float(level))
            for x, y in ((line, fine), (fine, line)):
                ax.plot(*change(torch.stack([x, y], 1)).T.numpy(), color="0.45", lw=1.1)
        areas = []
        for cell, (word, colour) in zip(cells, (("orange", COLOURS[1]), ("blue", COLOURS[5])), strict=True):
            x, y = change(_square_outline(*cell)).T  # (400,) each
            areas.append(f"{word} {float((x * y.roll(-1) - y * x.roll(-1)).sum().abs() / 2):.2f}")
            ax.fill(x.numpy(), y.numpy(), color=colour, zorder=2)
        ax.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        ax.grid(False)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(name, fontsize=WORDS)
        ax.set_xlabel("\n".join(areas), fontsize=WORDS)
    return picture


def _square_outline(left: float, low: float) -> Tensor:
    """Return points (400, 2) around a square of side one, against the clock."""
    u = torch.linspace(0, 1, 101)[:-1]
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    x, y = torch.cat([u, one, 1 - u, zero]), torch.cat([zero, u, one, 1 - u])
    return torch.stack([left + x, low + y], 1)


def walks(
    panels: Mapping[str, Tensor],
    behind: Sequence[Tensor],
    marks: tuple[tuple[str, Tensor], tuple[str, Tensor]],
    alt: str,
    reach: float = 3.1,
) -> Picture:
    """Draw sets of paths (S, N, 2), two in a row, each over a pale cloud: at most 400 ends, and two of the ways there.

    Ends are blue, and of the two shown red and green. Two named points (2,) are marked in every panel, by a black dot
    and by a diamond; a legend says so. Titles may have two lines.
    """
    if len(panels) != len(behind):
        raise ValueError(f"expected a cloud behind each panel, got {len(panels)} panels and {len(behind)} clouds")
    odd, rows = len(panels) % 2, -(-len(panels) // 2)
    picture = Picture(alt, 7.0, 4.0 * rows + (0 if odd else 0.9))
    axes = [picture.add_subplot(rows, 2, k + 1) for k in range(len(panels))]
    looks = (("o", BLACK, "white"), ("D", COLOURS[7], BLACK))  # marker, colour, edge
    for ax, (name, paths), cloud in zip(axes, panels.items(), behind, strict=True):
        _points(ax, cloud, paths[-1, :400], reach)
        ax.collections[1].set_zorder(3)  # the ends over the walks
        for n, colour in zip(range(paths.shape[1]), (BACKWARD, COLOURS[2]), strict=False):
            ax.plot(*paths[:, n].T.numpy(), color=colour, lw=2 if paths.shape[1] == 1 else 1)
            ax.plot(*paths[-1, n].numpy(), "o", color=colour, markersize=8, markeredgecolor="white", zorder=4)
        for (_, place), (marker, colour, edge) in zip(marks, looks, strict=True):
            ax.plot(*place.numpy(), marker, color=colour, markersize=8, markeredgecolor=edge, zorder=5)
        ax.set_title(name, fontsize=WORDS)
    keys = {"one walk": (BACKWARD, 8), "another": (COLOURS[2], 8), "all ends": (FORWARD, 4)}
    handles = [
        Line2D([], [], linewidth=0, marker=marker, color=colour, markersize=8, markeredgecolor=edge, label=word)
        for (word, _), (marker, colour, edge) in zip(marks, looks, strict=True)
    ]
    handles += [
        Line2D([], [], color=colour, linewidth=0 if size < 8 else 1.5, marker="o", markersize=size, label=word)
        for word, (colour, size) in keys.items()
    ]
    if odd:  # there is an empty place beside the last panel
        picture.legend(handles=handles, loc="center", bbox_to_anchor=(0.76, 0.25), fontsize=WORDS, frameon=False)
    else:
        picture.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=WORDS, frameon=False, borderpad=0)
    return picture


def _points(ax: Axes, behind: Tensor, x: Tensor, reach: float) -> None:
    ax.scatter(behind[:, 0], behind[:, 1], s=3, linewidths=0, color="0.82")
    ax.scatter(x[:, 0], x[:, 1], s=5, linewidths=0, color=FORWARD)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    ax.spines[["left", "bottom"]].set_visible(False)


def score_arrows(
    panels: Sequence[tuple[Mixture, float, Tensor, str]],
    schedule: Schedule,
    alt: str,
    crosses: Tensor | None = None,
    columns: int = 0,
) -> Picture:
    """Draw the score of a mixture in the plane as arrows over its density, with points (N, 2) on them.

    Each panel is a mixture, a time, the points and a line of words below. Arrows are as long as the score times sigma,
    where that is short; longer ones are compressed. `crosses` are points (K, 2) of the data to mark, shrunk as at t.
    All panels stand in one row, or in rows of `columns`.
    """
    for mixture, _, points, _ in panels:
        if mixture.means.shape[1] != 2 or points.shape[1:] != (2,):
            raise ValueError(
                "expected mixtures and points (N, 2) in the plane, "
                f"got {mixture.means.shape[1]} dimensions and points {tuple(points.shape)}"
            )
    fine, coarse = (torch.linspace(-2.4, 2.4, n, dtype=torch.float64) for n in (97, 13))
    plane, places = torch.cartesian_prod(fine, fine), torch.cartesian_prod(coarse, coarse)  # (9409, 2), (169, 2)
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    picture = Picture(alt, 7.0, (7.0 / columns + 0.6) * rows)
    for k, (mixture, t, points, words) in enumerate(panels, 1):
        ax = picture.add_subplot(rows, columns, k)
        density = mixture.log_prob(plane, t, schedule).exp().reshape(97, 97).T
        # in a few greys: smooth shades would make the picture twice as large
        ax.contourf(fine, fine, (density / density.max()).sqrt(), levels=12, cmap="Greys", vmax=1.8)
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
