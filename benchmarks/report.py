"""How is a result of bench.py read: as a table with the ratios that matter, and as a plot?"""

from minidiff.course import plot


def table(result: dict) -> str:
    """The result as a Markdown table with the targets under it."""
    columns = ("", "parameters", "MFLOP", "train im/s fp32", "bf16", "of matrix rate", "MB", "sample im/s", "steps",
               "Fréchet", "right label")  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, r in result["contenders"].items():
        rate = r["training_images_per_second"]
        cells = (name, f"{r['parameters']:,}", f"{r['megaflop_per_image']:.0f}", f"{rate['fp32']:.0f}",
                 f"{rate['bf16']:.0f}", f"{r['share_of_matrix_rate']:.0%} ({r['precision']})",
                 f"{r['peak_memory_megabytes']:.0f}", f"{r['sampling_images_per_second']:.0f}", f"{r['steps']:,}",
                 f"{r['frechet']:.2f}", f"{r['label_accuracy']:.0%}")  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    ours, *peers = result["contenders"].values()

    def best(r: dict) -> float:
        return max(r["training_images_per_second"].values())

    fp32 = [r["training_images_per_second"]["fp32"] for r in (ours, *peers)]
    closest, real = min(r["frechet"] for r in peers), result["real_frechet"]
    lines += [
        "",
        f"{result['machine']}; " + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + f"; {result['date']}" + ("; torch.compile" if result["compiled"] else ""),
        "- Matrix rate " + ", ".join(f"{rate:.0f} GFLOP/s in {p}" for p, rate in result["matrix_gflops"].items()) + ".",
        f"- Training images a second against the best peer's: {best(ours) / max(map(best, peers)):.1f} times, each in "
        f"its best precision; {fp32[0] / max(fp32[1:]):.1f} times in fp32.",
        f"- 100 pictures in 20 steps: {100 / ours['sampling_images_per_second']:.2f} s.",
        f"- Fréchet distance after {result['seconds']:.0f} s: {ours['frechet']:.2f}, 1/{closest / ours['frechet']:.0f} "
        f"of the best peer's, {ours['frechet'] / real:.1f} times that of as many real pictures ({real:.2f}).",
    ]  # fmt: skip
    return "\n".join(lines)


def draw(result: dict) -> plot.Picture:
    """Rates and distances side by side."""
    rows, names = result["contenders"].values(), list(result["contenders"])
    panels = {
        "training, images/s": [max(r["training_images_per_second"].values()) for r in rows],
        "sampling 20 steps, images/s": [r["sampling_images_per_second"] for r in rows],
        f"Fréchet after {result['seconds']:.0f} s": [r["frechet"] for r in rows],
    }
    alt = "; ".join(f"{title}: " + ", ".join(f"{n} {v:.3g}" for n, v in zip(names, values, strict=True))
                    for title, values in panels.items())  # fmt: skip
    picture, axes = plot.figure(alt, 3, width=10, height=2.6)
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        bars = ax.barh(names[::-1], values[::-1], color=[plot.COLOURS[0]] * (len(names) - 1) + [plot.COLOURS[3]])
        ax.bar_label(bars, fmt="%.3g", padding=3)
        ax.set(title=title, xscale="log", xlim=(min(values) / 3, max(values) * 4))
        ax.tick_params(axis="y", labelleft=ax is axes[0])
    axes[2].axvline(result["real_frechet"], color="black", linestyle=":", linewidth=1)
    axes[2].set(xlim=(result["real_frechet"] / 2, None), xlabel="dotted: real pictures")
    return picture
