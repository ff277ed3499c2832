"""What a training says of each step, and a bar that shows it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One finished step: number, mean weighted loss of the batch, training seconds so far, share of the budget used."""

    step: int
    loss: float
    lr: float
    seconds: float
    images_per_second: float
    fraction: float


def progress_bar(progress: Iterable[Progress]) -> Iterator[Progress]:
    """Pass progress on and show it as a bar, in the terminal or the notebook, with the smoothed loss and images/s."""
    from tqdm.auto import tqdm  # importing the package stays as quick as importing torch

    with tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as shown:
        smooth = None
        for p in progress:
            smooth = p.loss if smooth is None else 0.98 * smooth + 0.02 * p.loss
            shown.set_postfix_str(
                f"step {p.step}, loss {smooth:.3f}, {p.images_per_second:.0f} images/s", refresh=False
            )
            shown.update(100 * p.fraction - shown.n)
            yield p
