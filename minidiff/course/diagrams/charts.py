"""Lines and bars that carry their names."""

from collections.abc import Mapping, Sequence

from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from minidiff.course.diagrams.base import BACKWARD, BLACK, FORWARD, WORDS
from minidiff.course.plot import COLOURS, Picture


def labelled(
    x: Tensor,
    lines: Mapping[str, tuple[Tensor, tuple[float, float]]],
    alt: str,
    xlabel: str,
    ylabel: str,
    rules: Sequence[Tensor] | Tensor = (),
    level: float | None = None,
    log_ticks: Sequence[float] = (),
) -> Picture:
    """Draw lines over x (N,), each a pair of its values and of the place of its name, which has its colour.

    `rules` (N,) are what theory says of the lines, dashed; a dotted line stands at `level`. With `log_ticks` the scale
    of the values is a logarithm, with numbers at these.
    """
    picture = Picture(alt, 6.4, 3.2)
    ax = picture.add_subplot(1, 1, 1)
    for (name, (y, place)), colour in zip(lines.items(), [COLOURS[k] for k in (0, 3, 2, 4, 1, 5)], strict=False):
        ax.plot(x, y, color=colour)
        ax.text(*place, name, color=colour, fontsize=WORDS, ha="center")
    for k, rule in enumerate(rules):
        ax.plot(x, rule, color=BLACK, lw=1.3, linestyle=(0, (4, 3)), label="" if k else "by the rule")
    if level is not None:
        ax.axhline(level, color=BLACK, lw=1, linestyle=":", label=f"{level:g}")
    if len(rules):
        ax.legend(loc="upper left", fontsize=12)
    if log_ticks:
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_yticks(log_ticks, [f"{tick:g}" for tick in log_ticks])
    ax.set_xlabel(xlabel, fontsize=12)
    ax.set_ylabel(ylabel, fontsize=12)
    return picture


def bars(panels: Mapping[str, Mapping[str, float | None]], alt: str, odd: str = "") -> Picture:
    """Draw panels side by side, a blue bar for each name, the same in all; the first name, the truth, is grey.

    The bar of the name `odd` is hatched: it is of another kind. A value that is None is no bar, but the word "unknown".
    """
    picture = Picture(alt, 7.0, 1.3 + 0.4 * max(map(len, panels.values())))
    for ax, (title, values) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        lengths = [value or 0.0 for value in values.values()]
        drawn = ax.barh(list(values), lengths, color=["0.6"] + [FORWARD] * (len(values) - 1))
        for name, bar in zip(values, drawn, strict=True):
            if name == odd:
                bar.set(facecolor="white", edgecolor=FORWARD, hatch="///")
        words = ["unknown" if value is None else f"{value:.2g}" for value in values.values()]
        ax.bar_label(drawn, words, padding=3, fontsize=13)
        ax.set(xticks=[], xlim=(0, 1.5 * max(lengths)))
        ax.set_title(title, fontsize=WORDS)
        ax.tick_params(labelleft=ax is picture.axes[0], left=False, labelsize=WORDS)
        ax.spines["bottom"].set_visible(False)
        ax.grid(False)
        ax.invert_yaxis()
    return picture


def paired_bars(
    rows: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str, alt: str, ylabel: str = ""
) -> Picture:
    """Draw panels side by side, in each row of each a bar for every name, the same two names in all panels.

    Behind each pair stands the length of its second bar. `ylabel` says what stands beside the rows.
    """
    picture = Picture(alt, 7.0, 1.3 + 0.36 * len(rows))
    axes = picture.subplots(1, len(panels), sharex=True, sharey=True)
    for ax, (title, pair) in zip(axes, panels.items(), strict=True):
        for k, ((name, values), colour) in enumerate(zip(pair.items(), (COLOURS[5], BACKWARD), strict=True)):
            places = [row - 0.19 + 0.38 * k for row in range(len(rows))]
            ax.barh(places, [float(value) for value in values], 0.38, color=colour, label=name)
        for row, both in enumerate(zip(*pair.values(), strict=True)):
            place, value = (max(map(float, both)), row), float(both[1])
            words = f"{value:.0f}" if value >= 0.95 else f"{value:.1f}"
            ax.annotate(words, place, (4, 0), textcoords="offset points", va="center", color=BACKWARD, fontsize=WORDS)
        ax.margins(x=0.3)
        ax.set_title(title, fontsize=WORDS)
        ax.set_xlabel(xlabel, fontsize=12)
        ax.set_yticks(range(len(rows)), list(rows), fontsize=WORDS)
        ax.tick_params(axis="y", left=False, labelleft=ax is picture.axes[0])
        ax.grid(axis="y", visible=False)
    picture.axes[0].invert_yaxis()
    picture.axes[0].set_ylabel(ylabel, fontsize=12)
    names = picture.axes[0].get_legend_handles_labels()
    picture.legend(*names, loc="outside upper center", ncols=2, fontsize=WORDS, frameon=False)
    return picture


def split_bars(
    rows: Mapping[str, Sequence[Tensor | float]],
    names: Sequence[str],
    label: str,
    alt: str,
    others: Mapping[str, Tensor | float] | None = None,
) -> Picture:
    """Draw one bar for each row, of its named parts, and one without parts for each of the others: the shortest on top.

    A part's length stands in it, the sum behind the bar. The last three colours are grey, orange and blue, as in
    `contest`; the others are green. The shortest bar has a frame.
    """
    if any(len(parts) != len(names) for parts in rows.values()):
        raise ValueError(f"expected {len(names)} parts in every row, got {[len(parts) for parts in rows.values()]}")
    lengths = {row: [float(part) for part in parts] for row, parts in rows.items()}
    lengths |= {row: [float(length)] for row, length in (others or {}).items()}
    lengths = dict(sorted(lengths.items(), key=lambda row: sum(row[1])))
    picture = Picture(alt, 7.0, 0.5 * len(lengths) + 1.2)
    ax = picture.add_subplot(1, 1, 1)
    longest, colours = max(map(sum, lengths.values())), ("0.75", COLOURS[1], COLOURS[5])[-len(names) :]
    for y, (row, parts) in enumerate(lengths.items()):
        left = 0.0
        for part, colour in zip(parts, colours if row in rows else (COLOURS[2],), strict=True):
            ax.barh(y, part, 0.7, left=left, color=colour)
            if row in rows and part > 0.1 * longest:  # a label is as wide as that
                ax.text(left + part / 2, y, f"{part:.2f}", ha="center", va="center", fontsize=WORDS)
            left += part
        ax.text(left, y, f"  {left:.2f}", va="center", fontsize=WORDS, weight="bold")
    ax.add_patch(Rectangle((0, -0.35), sum(next(iter(lengths.values()))), 0.7, fill=False, linewidth=2.5))
    ax.set(xlim=(0, 1.15 * longest), xlabel=label)
    ax.set_yticks(range(len(lengths)), list(lengths), fontsize=WORDS)
    ax.get_yticklabels()[0].set_fontweight("bold")
    ax.invert_yaxis()
    handles = [Patch(color=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    ax.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(names), fontsize=13, frameon=False
    )
    ax.grid(False)
    return picture


def two_judges(runs: Mapping[str, Sequence[tuple[float, float]]], real: float, error: float) -> Picture:
    """Draw four trainings of each recipe as (bits, % misread): one, two with other seeds, one with a larger batch.

    The second and third are small dots, an arrow leads from the first to the fourth; `real` is misread of real
    digits, `error` its standard error.
    """
    alt = "Dots for three recipes: weights has long codes and many misread digits; arrows to larger batches lead down."
    picture = Picture(alt, 6.4, 4.0)
    ax = picture.add_subplot(1, 1, 1)
    for (name, (first, *seeds, larger)), colour in zip(runs.items(), [COLOURS[k] for k in (2, 3, 0)], strict=True):
        bits, misread = zip(*seeds, strict=True)
        ax.scatter(bits, misread, s=32, color=colour, edgecolor="white", linewidths=0.8, zorder=4)
        ax.plot(*first, "o", color=colour, markersize=10)
        ax.plot(*larger, "o", color=colour, markersize=10, markerfacecolor="white", markeredgewidth=2)
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.5, "shrinkA": 6, "shrinkB": 6}
        ax.annotate("", larger, first, arrowprops=style)
        side, ha = (-8, "right") if colour == COLOURS[0] else (9, "left")  # where no other arrow passes
        ax.annotate(
            name, first, (side, 4), textcoords="offset points", color=colour, fontsize=WORDS, ha=ha, va="bottom"
        )
    ax.axhline(real, color=BLACK, linestyle=":")
    ax.axhspan(real - error, real + error, color="0.92", zorder=0)
    ax.text(3.7, real * 0.97, "real digits, ± 1 standard error", fontsize=WORDS, ha="right", va="top")
    ax.plot([2.9], [38], "o", color="0.4", markersize=10, markerfacecolor="white", markeredgewidth=2)
    ax.text(2.925, 38, "batch of 768", fontsize=WORDS, va="center", color="0.35")
    ax.plot([2.9], [26], "o", color="0.4", markersize=10)
    ax.text(2.925, 26, "of 128", fontsize=WORDS, va="center", color="0.35")
    ax.plot([2.9], [18], "o", color="0.6", markersize=5)
    ax.text(2.925, 18, "of 128, two more seeds", fontsize=WORDS, va="center", color="0.35")
    ax.set(yscale="log", xlim=(2.85, 3.72), ylim=(0.9, 70))
    ax.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    ax.minorticks_off()
    ax.set_xlabel("bits a pixel", fontsize=12)
    ax.set_ylabel("% of digits misread", fontsize=12)
    return picture
