"""Images in rows, with words beside them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minidiff.course.diagrams.base import BLACK, WORDS, canvas
from minidiff.course.plot import COLOURS, Picture


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
    picture, ax = canvas(alt, left + most * side, height, left + most * side, height, 0.0)
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
    right.plot(edges, bell.sqrt(), color=BLACK, lw=1.5, label="standard normal")
    right.legend(loc="upper right", fontsize=12)
    ticks = (0.1, 0.4, 1, 2, 4)
    right.set_yticks([tick**0.5 for tick in ticks], [str(tick) for tick in ticks])
    right.set(ylim=(0, 2.05), xlabel="value of a pixel")
    right.set_title("density", fontsize=WORDS)
    return picture


def contest(
    drawn: Mapping[str, Tensor | str],
    bits: Mapping[str, float],
    alt: str,
    most: float = 8.0,
    colours: Sequence[int] = (),
    words: tuple[str, str] = ("draws", "all levels alike"),
) -> Picture:
    """Draw one row for each code: what it draws, images (6, C, H, W) or a word, and the bits it spends, as a bar.

    `most` is the length of the bars' scale, a dotted line; `colours` are numbers in the course's list, one a row.
    `words` stand above the images and beside the dotted line.
    """
    if list(drawn) != list(bits):
        raise ValueError(f"expected bits for {list(drawn)}, got them for {list(bits)}")
    height = 1.55 * len(drawn) + 0.75
    picture, ax = canvas(alt, width=7.0, height=7.0 * height / 9.7, right=9.7, top=height, bottom=0.0)
    ax.text(0, height - 0.15, words[0], va="top", fontsize=WORDS)
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
        ax.barh(y + 0.5, length, 0.55, left=6.5, color=COLOURS[(colours or range(len(COLOURS)))[row]])
        ax.text(6.62 + length, y + 0.5, f"{bits[name]:.2f}", va="center", fontsize=WORDS + 2, weight="bold")
    ax.plot([9.4, 9.4], [0.05, height - 1.05], color="0.4", linestyle=":")
    ax.text(9.6, height - 0.6, f"{words[1]}: {most:g}", ha="right", va="top", fontsize=WORDS, color="0.35")
    return picture
