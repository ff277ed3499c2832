"""How does one look at it?

Each function draws one figure and returns it; a notebook shows what a cell ends with. `alt` says in a sentence what
the figure shows: it is the figure's text for screen readers, and what stands where pictures cannot.
Colours are Okabe and Ito's, and viridis: they stay apart for colour-blind eyes and in grey.
"""

import inspect
import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure
from torch import Tensor

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442"]
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "image.cmap": "viridis",
        "legend.frameon": False,
        "font.size": 10,
    }
)


class Picture(Figure):
    """A matplotlib figure with a sentence for those who cannot see it; notebooks show it as PNG."""

    def __init__(self, alt: str, width: float, height: float):
        super().__init__(figsize=(width, height), dpi=100, layout="constrained")
        self.alt = alt

    def png(self) -> bytes:
        """The figure as PNG, the same bytes for the same figure."""
        self.draw_without_rendering()
        self.set_layout_engine("none")  # laid out once: a second pass would move the axes by a hair
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def figure(alt: str, columns: int = 1, width: float = 7.0, height: float = 3.2) -> tuple[Picture, list]:
    """An empty figure with a row of axes in the course's style: (figure, axes)."""
    picture = Picture(alt, width, height)
    return picture, list(picture.subplots(1, columns, squeeze=False)[0])


def images(x: Tensor, alt: str, columns: int = 10, titles: Sequence[str] = ()) -> Picture:
    """Images (B, C, H, W) in [-1, 1] (others are clipped), row by row, with an optional title each."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"expected images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    columns = min(columns, len(x))
    rows = math.ceil(len(x) / columns)
    cell = min(1.1, 9 / columns)
    picture = Picture(alt, columns * cell, rows * cell * (1.3 if titles else 1))
    for i, image in enumerate(x.detach().float().cpu().clamp(-1, 1).add(1).div(2)):
        ax = picture.add_subplot(rows, columns, i + 1)
        ax.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
        if titles:
            ax.set_title(titles[i], fontsize=9)
    return picture


def strips(rows: Mapping[str, Tensor], alt: str, above: Sequence[str] = ()) -> Picture:
    """Named rows of images (B, C, H, W) in [-1, 1] (others are clipped), dot by dot: no pixel is smoothed.

    `above` has words for each column. Images under 64 pixels are enlarged by a whole factor.
    """
    for x in rows.values():
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"expected rows of images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    first = next(iter(rows.values()))
    zoom, most = max(1, 64 // first.shape[3]), max(map(len, rows.values()))
    h, w = first.shape[2] * zoom + 3, first.shape[3] * zoom + 3
    left, top = 16 + 7 * max(map(len, rows)), max((4 + 16 * (1 + text.count("\n")) for text in above), default=0)
    width, height = left + most * w, top + len(rows) * h
    picture = Picture(alt, width / 100, height / 100)
    picture.set_layout_engine("none")
    for i, (name, x) in enumerate(rows.items()):
        y = height - top - i * h  # of the row's upper edge
        picture.text(left / width - 0.006, (y - h / 2) / height, name, ha="right", va="center", fontsize=9)
        big = x.detach().float().cpu().clamp(-1, 1).add(1).div(2)
        big = big.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3).expand(-1, 3, -1, -1)
        for k, image in enumerate(big.permute(0, 2, 3, 1).numpy()):
            picture.figimage(image, xo=left + k * w, yo=y - h + 3)
    for k, text in enumerate(above):
        picture.text((left + (k + 0.5) * w) / width, 1 - 2 / height, text, ha="center", va="top", fontsize=8)
    return picture


def curves(x: Tensor, lines: Mapping[str, Tensor], alt: str, xlabel: str, ylabel: str, **scale: str) -> Picture:
    """Named lines over x (N,); scale passes xscale= and yscale= ("log") to the axes."""
    picture, (ax,) = figure(alt)
    for name, y in lines.items():
        ax.plot(_numpy(x), _numpy(y), label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, **scale)
    ax.legend()
    return picture


def scatter(points: Mapping[str, Tensor], alt: str, size: float = 3.0) -> Picture:
    """Point clouds (N, 2), one named panel each, on common axes that show all but a few stray points."""
    picture, axes = figure(alt, len(points), width=min(10.0, 2.6 * len(points)), height=2.9)
    reach = 1.15 * max(float(p.abs().flatten().quantile(0.999)) for p in points.values())
    for ax, (name, p), colour in zip(axes, points.items(), COLOURS * len(axes), strict=False):
        ax.scatter(*_numpy(p).T, s=size, linewidths=0, color=colour, alpha=0.6)
        ax.set(title=name, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    return picture


def trajectories(paths: Tensor, alt: str) -> Picture:
    """Paths (steps, N, 2) of N points, from pale (noise) to dark (data), with their ends marked."""
    picture, (ax,) = figure(alt, width=4.2, height=4.0)
    paths = _numpy(paths)
    ax.plot(paths[:, :, 0], paths[:, :, 1], color=COLOURS[0], alpha=0.25, linewidth=0.8)
    ax.scatter(*paths[0].T, s=6, color=COLOURS[1], label="start: noise", zorder=3)
    ax.scatter(*paths[-1].T, s=6, color=COLOURS[3], label="end: data", zorder=3)
    ax.set(aspect="equal")
    ax.legend()
    return picture


def field(points: Tensor, arrows: Tensor, alt: str, behind: Tensor | None = None) -> Picture:
    """Arrows (N, 2) at points (N, 2), over an optional cloud (M, 2)."""
    picture, (ax,) = figure(alt, width=4.2, height=4.0)
    if behind is not None:
        ax.scatter(*_numpy(behind).T, s=2, linewidths=0, color=COLOURS[1], alpha=0.5)
    ax.quiver(*_numpy(points).T, *_numpy(arrows).T, color=COLOURS[0], angles="xy")
    ax.set(aspect="equal")
    return picture


def show_source(thing) -> "object":
    """The live source of a function or class, as a highlighted listing."""
    from IPython.display import Markdown  # only notebooks need it

    return Markdown(f"```python\n{inspect.getsource(thing)}```")


def _numpy(x: Tensor):
    return x.detach().cpu().numpy()
