"""Figures: each function draws one and returns it, and a notebook shows what a cell ends with.

`alt` says in a sentence what a figure shows, for screen readers and where pictures cannot stand. Colours are those of
Okabe and Ito, and viridis: colour-blind eyes tell them apart, also in grey. The style belongs to the figures here;
matplotlib's global settings stay as they are.
"""

import inspect
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from torch import Tensor

if TYPE_CHECKING:
    from IPython.display import Markdown

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442"]


class StyledAxes(Axes):
    """Axes with the course's colours, a faint grid, two spines and legends without a frame."""

    def clear(self) -> None:
        super().clear()  # also called when axes are made
        self.set_prop_cycle(color=COLOURS)
        self.spines[["top", "right"]].set_visible(False)
        self.grid(True, alpha=0.25)

    def legend(self, *args: Any, **kwargs: Any) -> Legend:
        return super().legend(*args, **{"frameon": False} | kwargs)


class Picture(Figure):
    """A matplotlib figure in the course's style, with a text for those who cannot see it; notebooks show it as PNG."""

    def __init__(self, alt: str, width: float, height: float):
        super().__init__(figsize=(width, height), dpi=100, layout="constrained")
        self.alt = alt

    def add_subplot(self, *args: Any, **kwargs: Any) -> Axes:
        return super().add_subplot(*args, axes_class=StyledAxes, **kwargs)

    def add_axes(self, *args: Any, **kwargs: Any) -> Axes:
        return super().add_axes(*args, axes_class=StyledAxes, **kwargs)

    def png(self) -> bytes:
        """Return the figure as PNG: the same bytes for the same figure."""
        self.draw_without_rendering()
        self.set_layout_engine("none")  # laid out once: a second pass would move the axes by a hair
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def figure(alt: str, columns: int = 1, width: float = 7.0, height: float = 3.2) -> tuple[Picture, list[Axes]]:
    """Return an empty figure and its row of axes."""
    picture = Picture(alt, width, height)
    return picture, list(picture.subplots(1, columns, squeeze=False)[0])


def images(x: Tensor, alt: str, columns: int = 10, titles: Sequence[str] = ()) -> Picture:
    """Draw images (B, C, H, W) in [-1, 1] (others are clipped) row by row, with an optional title each."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"expected images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    columns = min(columns, len(x))
    rows = math.ceil(len(x) / columns)
    cell = min(1.1, 9 / columns)
    picture = Picture(alt, columns * cell, rows * cell * (1.3 if titles else 1))
    for i, image in enumerate(_unit(x)):
        ax = picture.add_subplot(rows, columns, i + 1)
        ax.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
        if titles:
            ax.set_title(titles[i], fontsize=9)
    return picture


def strips(rows: Mapping[str, Tensor], alt: str, above: Sequence[str] = (), size: int = 64) -> Picture:
    """Draw named rows of images (B, C, H, W) in [-1, 1] (others are clipped), dot by dot: no pixel is smoothed.

    `above` has words for each column. Images under `size` pixels are enlarged by a whole factor.
    """
    for x in rows.values():
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"expected rows of images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    first = next(iter(rows.values()))
    zoom, most = max(1, size // first.shape[3]), max(map(len, rows.values()))
    h, w = first.shape[2] * zoom + 3, first.shape[3] * zoom + 3
    left, top = 16 + 7 * max(map(len, rows)), max((4 + 16 * (1 + text.count("\n")) for text in above), default=0)
    width, height = left + most * w, top + len(rows) * h
    picture = Picture(alt, width / 100, height / 100)
    picture.set_layout_engine("none")
    for i, (name, x) in enumerate(rows.items()):
        y = height - top - i * h  # of the row's upper edge
        picture.text(left / width - 0.006, (y - h / 2) / height, name, ha="right", va="center", fontsize=9)
        big = _unit(x).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3).expand(-1, 3, -1, -1)
        for k, image in enumerate(big.permute(0, 2, 3, 1).numpy()):
            picture.figimage(image, xo=left + k * w, yo=y - h + 3)
    for k, text in enumerate(above):
        picture.text((left + (k + 0.5) * w) / width, 1 - 2 / height, text, ha="center", va="top", fontsize=8)
    return picture


def curves(
    x: Tensor,
    lines: Mapping[str, Tensor],
    alt: str,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
    title: str = "",
) -> Picture:
    """Draw named lines over x (N,); xscale and yscale are matplotlib's ("linear", "log")."""
    picture, (ax,) = figure(alt)
    for name, y in lines.items():
        ax.plot(_numpy(x), _numpy(y), label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale, title=title)
    ax.legend()
    return picture


def scatter(points: Mapping[str, Tensor], alt: str, size: float = 3.0) -> Picture:
    """Draw point clouds (N, 2), one named panel each, on common axes that show all but a few stray points."""
    picture, axes = figure(alt, len(points), width=min(10.0, 2.6 * len(points)), height=2.9)
    reach = 1.15 * max(float(p.abs().flatten().quantile(0.999)) for p in points.values())
    for ax, (name, p), colour in zip(axes, points.items(), COLOURS * len(axes), strict=False):
        ax.scatter(*_xy(p), s=size, linewidths=0, color=colour, alpha=0.6)
        ax.set(title=name, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    return picture


def trajectories(paths: Tensor, alt: str) -> Picture:
    """Draw the paths (steps, N, 2) of N points, with their starts (noise) and ends (data) marked."""
    picture, (ax,) = figure(alt, width=4.2, height=4.0)
    ax.plot(*_xy(paths), color=COLOURS[0], alpha=0.25, linewidth=0.8)
    ax.scatter(*_xy(paths[0]), s=6, color=COLOURS[1], label="start: noise", zorder=3)
    ax.scatter(*_xy(paths[-1]), s=6, color=COLOURS[3], label="end: data", zorder=3)
    ax.set(aspect="equal")
    ax.legend()
    return picture


def field(points: Tensor, arrows: Tensor, alt: str, behind: Tensor | None = None) -> Picture:
    """Draw arrows (N, 2) at points (N, 2), over an optional cloud (M, 2)."""
    picture, (ax,) = figure(alt, width=4.2, height=4.0)
    if behind is not None:
        ax.scatter(*_xy(behind), s=2, linewidths=0, color=COLOURS[1], alpha=0.5)
    ax.quiver(*_xy(points), *_xy(arrows), color=COLOURS[0], angles="xy")
    ax.set(aspect="equal")
    return picture


def show_source(*things: Callable) -> "Markdown":
    """Return the live source of functions or classes as a highlighted listing."""
    from IPython.display import Markdown  # only notebooks need it

    source = "\n".join(map(inspect.getsource, things))
    return Markdown(f"```python\n{source}```")


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()


def _xy(points: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the two coordinates of points (..., 2)."""
    return _numpy(points[..., 0]), _numpy(points[..., 1])


def _unit(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as matplotlib takes them, in [0, 1]."""
    return x.detach().float().cpu().clamp(-1, 1).add(1).div(2)
