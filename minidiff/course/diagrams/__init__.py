"""Annotated pictures of ideas, drawn from real data, for more than one chapter.

Words stand in them, so fonts are larger than in `plot` and figures are narrow: a phone shows 700 pixels at half size.
"""

from minidiff.course.diagrams.charts import bars, labelled, paired_bars, split_bars, two_judges
from minidiff.course.diagrams.density import (
    against,
    bells,
    components,
    kernels,
    ribbon,
    round_cloud,
    two_bells,
    under_bells,
)
from minidiff.course.diagrams.images import contest, dissolve, pictures, weighted_mean
from minidiff.course.diagrams.plane import bent_grids, clouds, guesses, over, predictions, score_arrows, walks
from minidiff.course.diagrams.schedules import rows_and_weights, schedule_curves, schedule_paths
from minidiff.course.diagrams.states import chain, guess_and_mix, telescope
from minidiff.course.diagrams.training import clock_hands, families, guess_the_noise

__all__ = [
    "against",
    "bars",
    "bells",
    "bent_grids",
    "chain",
    "clock_hands",
    "clouds",
    "components",
    "contest",
    "dissolve",
    "families",
    "guess_and_mix",
    "guess_the_noise",
    "guesses",
    "kernels",
    "labelled",
    "over",
    "paired_bars",
    "pictures",
    "predictions",
    "ribbon",
    "round_cloud",
    "rows_and_weights",
    "schedule_curves",
    "schedule_paths",
    "score_arrows",
    "split_bars",
    "telescope",
    "two_bells",
    "two_judges",
    "under_bells",
    "walks",
    "weighted_mean",
]
