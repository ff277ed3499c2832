"""Training: the loop, its objectives and optimisers, and what makes a run safe to interrupt."""

from minidiff.training.device import autocast_dtype, best_device
from minidiff.training.ema import Ema
from minidiff.training.loop import Progress, TrainConfig, TrainState, batch_indices, train, train_step
from minidiff.training.muon import Muon
from minidiff.training.progress import progress_bar

__all__ = [
    "Ema",
    "Muon",
    "Progress",
    "TrainConfig",
    "TrainState",
    "autocast_dtype",
    "batch_indices",
    "best_device",
    "progress_bar",
    "train",
    "train_step",
]
