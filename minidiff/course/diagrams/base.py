"""Colours, type sizes and a few strokes that all diagrams share."""

from matplotlib.axes import Axes
from torch import Tensor

from minidiff.course.plot import COLOURS, Picture

BLACK = COLOURS[6]
FORWARD, BACKWARD = COLOURS[0], COLOURS[3]  # blue with the noise, red against it, in all chapters
WORDS = 14  # points, for what a reader must see: 8 pixels on a phone


def canvas(alt: str, width: float, height: float, right: float, top: float, bottom: float) -> tuple[Picture, Axes]:
    """Return a figure that is one empty plane, of equal units, from (0, bottom) to (right, top)."""
    picture = Picture(alt, width, height)
    ax = picture.add_subplot(1, 1, 1)
    ax.set_axis_off()
    ax.set(aspect="equal")
    ax.set_xlim(0, right)
    ax.set_ylim(bottom, top)
    ax.set_autoscale_on(False)
    return picture, ax


def bow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, style: object) -> None:
    """Draw a bent arrow, to the left of its direction."""
    bend = {"connectionstyle": "arc3,rad=-0.25", "arrowstyle": "-|>,head_width=0.35,head_length=0.6"}
    ax.annotate(
        "", end, start, arrowprops=bend | {"color": colour, "lw": 2, "linestyle": style, "shrinkA": 0, "shrinkB": 0}
    )


def square(ax: Axes, x: Tensor, corner: tuple[float, float]) -> None:
    """Draw an image (1, C, H, W) as a square of side one, its lower left corner at a point."""
    grey = (x[0].permute(1, 2, 0).clamp(-1, 1) + 1) / 2
    left, low = corner
    ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=(left, left + 1, low, low + 1), interpolation="nearest")
