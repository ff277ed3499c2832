"""Images in rows, with words beside them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minidiff.course.diagrams.base import BACKWARD, BLACK, WORDS, canvas, square
from minidiff.course.plot import COLOURS, Picture


def pictures(rows: Mapping[str, Tensor], alt: str, above: Sequence[str] = (), columns: int = 0) -> Picture:
    """Draw named rows of images (B, C, H, W) in [-1, 1] (others are clipped) over the whole width, dot by dot.

    `above` has words for each column, or for each image, row by row. If more images than `columns` stand in a row, all
    rows go on below with the next ones; 0 is no limit.
    """
    most = max(map(len, rows.values()))
    if len(above) not in (0, most, sum(map(len, rows.values()))):
        raise ValueError(f"expected words for {most} columns or for all images, got {len(above)}")
    columns = columns or most
    left = 0.13 * max(len(line) for name in rows for line in name.split("\n")) + 0.1 if any(rows) else 0.0
    side = min(1.7, (7.0 - left) / columns)
    each = len(above) > most
    words, head = iter(above), 0.32 * (1 + max((text.count("\n") for text in above), default=0)) * bool(above)
    starts = range(0, most, columns)
    height = len(starts) * (len(rows) * side + head * (len(rows) if each else 1))
    picture, ax = canvas(alt, left + columns * side, height, left + columns * side, height, 0.0)
    low = height
    for start in starts:
        for row, (name, x) in enumerate(rows.items()):
            headed = above and (each or row == 0)
            low -= side + head * bool(headed)
            ax.text(left - 0.12, low + side / 2, name, ha="right", va="center", fontsize=WORDS)
            for k, image in enumerate(x[start : start + columns]):
                grey = (image.float().permute(1, 2, 0).clamp(-1, 1) + 1) / 2
                box = (left + k * side, left + k * side + 0.95 * side, low + 0.05 * side, low + side)
                ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=box, interpolation="nearest")
                if headed:
                    middle = box[0] + 0.475 * side, low + side + 0.05
                    ax.text(*middle, next(words), ha="center", va="bottom", fontsize=WORDS)
    return picture


def weighted_mean(
    candidates: Tensor,
    rows: Mapping[str, tuple[Tensor, Sequence[float], Tensor]],
    words: tuple[str, str, str],
    alt: str,
) -> Picture:
    """Draw candidates (N, C, H, W) in a row and below them, for each named row, a noisy image (C, H, W) on the left,
    a bar with each candidate's weight, and on the right their weighted mean (C, H, W).

    `words` stand above the noisy images, the candidates and the means.
    """
    if any(len(weights) != len(candidates) for _, weights, _ in rows.values()):
        raise ValueError(
            f"expected {len(candidates)} weights in each row, got {[len(weights) for _, weights, _ in rows.values()]}"
        )
    right = 2.2 + 1.1 * len(candidates)
    width, height = right + 1.05, 1.25 * len(rows) + 1.75
    picture, ax = canvas(alt, 7.0, 7.0 * height / width, width, height, 0.0)
    for place, text in zip((1.35, 2.03 + 0.55 * len(candidates), right + 0.5), words, strict=True):
        ax.text(place, height - 0.3, text, ha="center", va="center", fontsize=WORDS)
    for k, x in enumerate(candidates):
        square(ax, x[None], (2.05 + 1.1 * k, height - 1.6))
    for row, (name, (noisy, weights, mean)) in enumerate(rows.items()):
        low = height - 2.85 - 1.25 * row
        ax.text(0.75, low + 0.5, name, ha="right", va="center", fontsize=WORDS)
        square(ax, noisy[None], (0.85, low))
        square(ax, mean[None], (right, low))
        for k, weight in enumerate(weights):
            ax.barh(low + 0.12, 1.0, 0.24, left=2.05 + 1.1 * k, color="0.9")
            ax.barh(low + 0.12, float(weight), 0.24, left=2.05 + 1.1 * k, color=BACKWARD)
            ax.text(2.55 + 1.1 * k, low + 0.62, f"{float(weight):.0%}", ha="center", va="center", fontsize=WORDS)
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
    right.set_title("density, on a root scale", fontsize=WORDS)
    return picture


def contest(
    drawn: Mapping[str, Tensor | str],
    bits: Mapping[str, float],
    alt: str,
    most: float = 8.0,
    colours: Sequence[int] = (),
    words: tuple[str, str] = ("draws", "all levels alike"),
    constants: Mapping[str, float] | None = None,
) -> Picture:
    """Draw one row for each code: what it draws, images (6, C, H, W) or a word, and the bits it spends, as a bar.

    `most` is the length of the bars' scale, a dotted line; `colours` are numbers in the course's list, one a row.
    `words` stand above the images and beside the dotted line. Of the bits, `constants` are drawn grey, at the end of a
    bar.
    """
    if list(drawn) != list(bits):
        raise ValueError(f"expected bits for {list(drawn)}, got them for {list(bits)}")
    height = 1.55 * len(drawn) + 0.75
    picture, ax = canvas(alt, width=7.0, height=7.0 * height / 9.7, right=9.7, top=height, bottom=0.0)
    ax.text(0, height - 0.15, words[0], va="top", fontsize=WORDS)
    heading = "bits for each pixel" if constants is None else "wrong guesses + constants"
    edge, side = (6.5, "left") if constants is None else (9.6, "right")  # the second is wider than the bars
    ax.text(edge, height - 0.15, heading, ha=side, va="top", fontsize=WORDS)
    for row, (name, x) in enumerate(drawn.items()):
        y = height - 2.25 - 1.55 * row  # of the lower edge
        ax.text(0, y + 1.06, name, va="bottom", fontsize=WORDS, weight="bold")
        if isinstance(x, str):
            ax.text(0, y + 0.5, x, va="center", fontsize=WORDS, color="0.35")
        else:
            for k, image in enumerate(x[:6]):
                shown = (image.permute(1, 2, 0).clamp(-1, 1) + 1) / 2
                ax.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, extent=(1.04 * k, 1.04 * k + 1, y, y + 1))
        constant = (constants or {}).get(name, 0.0)
        length, grey = (2.9 * each / most for each in (bits[name], constant))
        ax.barh(y + 0.5, length - grey, 0.55, left=6.5, color=COLOURS[(colours or range(len(COLOURS)))[row]])
        number = f"{bits[name] - constant:.2f}"
        if grey:
            ax.barh(y + 0.5, grey, 0.55, left=6.5 + length - grey, color="0.75")
            number += f" + {constant:.2f}"
        ax.text(6.62 + length, y + 0.5, number, va="center", fontsize=WORDS + 2, weight="bold")
    ax.plot([9.4, 9.4], [0.05, height - 1.05], color="0.4", linestyle=":")
    ax.text(9.6, height - 0.6, f"{words[1]}: {most:g}", ha="right", va="top", fontsize=WORDS, color="0.35")
    return picture
