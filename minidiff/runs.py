"""What does a training run leave on disk?

A folder with one checkpoint (all that is needed to go on, and the averaged weights to sample from), a JSON log and
a picture of samples. The checkpoint is written before the first step, once a minute and at the end.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from minidiff import checkpoint
from minidiff.checkpoint import CheckpointError
from minidiff.data import Images
from minidiff.denoiser import Denoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine
from minidiff.train import Progress, TrainConfig, Training, train

CHECKPOINT, LOG, SAMPLES = "checkpoint.safetensors", "log.json", "samples.png"
SAVE_EVERY, LOG_EVERY = 60.0, 1.0  # seconds


class Run:
    """A training in its folder. `start` makes a new one, `resume` goes on with one."""

    def __init__(self, folder: Path, training: Training, about: dict, history: list[dict]):
        self.folder, self.training, self.about, self.history = folder, training, about, history

    @classmethod
    def start(cls, folder: Path, images: Images, config: TrainConfig, device: torch.device) -> "Run":
        """A new run with fresh weights from the config's seed. ValueError if the folder holds one already."""
        if (folder / CHECKPOINT).exists():
            raise ValueError(f"{folder} holds a run already: go on with it by --resume, or choose another --out")
        torch.manual_seed(config.seed)
        channels, height, _ = images.shape
        net = UNet(UNetConfig(channels=channels, classes=len(images.classes)))
        about = {
            "data": images.name,
            "classes": list(images.classes),
            "size": list(images.shape),
            "config": asdict(config),
        }
        run = cls(folder, Training(Denoiser(net, Cosine()).to(device), config), about, [])
        run.save()
        return run

    @classmethod
    def resume(cls, folder: Path, images: Images, device: torch.device) -> "Run":
        """The run in the folder, as it was saved. CheckpointError if there is none or it learned from other data."""
        tensors, meta = checkpoint.load(folder / CHECKPOINT)
        if meta["data"] != images.name:
            raise CheckpointError(
                f"{folder}: expected --data {meta['data']}, which the run began with, got {images.name}"
            )
        training = Training(checkpoint.build(meta["denoiser"]).to(device), TrainConfig(**meta["config"]))
        training.restore(tensors, meta["step"], meta["seconds"])
        about = {key: meta[key] for key in ("data", "classes", "size", "config")}
        log = folder / LOG
        history = json.loads(log.read_text())["history"] if log.exists() else []
        return cls(folder, training, about, [entry for entry in history if entry["step"] <= meta["step"]])

    def train(self, images: Images, steps: int | None = None, seconds: float | None = None) -> Iterator[Progress]:
        """`minidiff.train.train`, written down: whatever ends it, Ctrl-C too, the last whole step is saved."""
        saved, logged = time.monotonic(), 0.0
        try:
            for progress in train(self.training, images, steps, seconds):
                if progress.seconds - logged >= LOG_EVERY or progress.fraction == 1:
                    self.history.append({k: v for k, v in asdict(progress).items() if k != "fraction"})
                    logged = progress.seconds
                if time.monotonic() - saved >= SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                yield progress
        finally:
            self.save()

    def save(self) -> None:
        """Writes the checkpoint and the log, each in one piece."""
        meta = {
            **self.about,
            "denoiser": checkpoint.describe(self.training.denoiser),
            "step": self.training.step,
            "seconds": self.training.seconds,
        }
        checkpoint.save(self.folder / CHECKPOINT, self.training.tensors(), meta)
        log = json.dumps({**self.about, "history": self.history}, indent=1)
        checkpoint.write_atomically(self.folder / LOG, log.encode())


def load_trained(path: str | Path) -> tuple[Denoiser, dict]:
    """(denoiser with the averaged weights, meta) of a run's folder or of a checkpoint file."""
    path = Path(path)
    if path.is_dir():
        return checkpoint.load_denoiser(path / CHECKPOINT, prefix="ema.")
    return checkpoint.load_denoiser(path)
