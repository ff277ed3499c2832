"""What does a training run leave on disk?

A folder with one checkpoint (all that is needed to go on, and the averaged weights to sample from), a JSON log and
a picture of samples. The checkpoint is written before the first step, once a minute and at the end.
A run on codes first trains their autoencoder, for a fifth of its budget but no more than two minutes, and keeps it in
the same file.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

from minidiff import checkpoint
from minidiff.checkpoint import CheckpointError
from minidiff.data import Images
from minidiff.generate import Model
from minidiff.latent import Codes, Latent, fit_scale
from minidiff.models import CHECKPOINT, Captioned, Task, as_model, frozen_latent, new_autoencoder, new_denoiser
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.text import Vocabulary
from minidiff.objectives import reconstruction
from minidiff.train import Progress, TrainConfig, Training, train

LOG, SAMPLES = "log.json", "samples.png"
SAVE_EVERY, LOG_EVERY = 60.0, 1.0  # seconds
SHARE, ENOUGH = 0.2, 120.0  # of a budget and in seconds, for the autoencoder


class Run:
    """A training in its folder. `start` makes a new one, `resume` goes on with one."""

    def __init__(self, folder: Path, training: Training, about: dict, history: list[dict], latent: Latent | None):
        self.folder, self.training, self.about, self.history = folder, training, about, history
        self.latent = latent  # None without codes, and while their autoencoder is being trained

    @classmethod
    def start(
        cls,
        folder: Path,
        images: Images,
        config: TrainConfig,
        device: torch.device,
        task: Task = Task(),  # noqa: B008
    ) -> "Run":
        """A new run with fresh weights from the config's seed. ValueError if the folder holds one already."""
        if (folder / CHECKPOINT).exists():
            raise ValueError(f"{folder} holds a run already: go on with it by --resume, or choose another --out")
        if task.text and not images.captions:
            raise ValueError(f"expected --text with data that have captions, emoji or scenes; {images.name} has none")
        about = {
            "data": images.name,
            "classes": list(images.classes),
            "size": list(images.shape),
            "config": asdict(config),
            "task": asdict(task),
            "vocabulary": asdict(Vocabulary.of(images.captions)) if task.text else None,
            "first_stage": None,  # what the autoencoder took, once it is done
        }
        torch.manual_seed(config.seed)
        if task.latent:
            run = cls(folder, first_training(new_autoencoder(images).to(device), config), about, [], None)
        else:
            run = cls(folder, Training(new_denoiser(about, None).to(device), config), about, [], None)
        run.save()
        return run

    @classmethod
    def resume(cls, folder: Path, images: Images, device: torch.device, task: Task = Task()) -> "Run":  # noqa: B008
        """The run in the folder, as it was saved. CheckpointError if there is none or it learned something else."""
        tensors, meta = checkpoint.load(folder / CHECKPOINT)
        began = Task(**meta.get("task", {}))
        if meta["data"] != images.name:
            raise CheckpointError(
                f"{folder}: expected --data {meta['data']}, which the run began with, got {images.name}"
            )
        if began != task:
            raise CheckpointError(f"{folder}: expected {began}, as the run began, got {task}")
        config, latent = TrainConfig(**meta["config"]), frozen_latent(tensors, meta, folder)
        if began.latent and latent is None:
            first = Autoencoder(AutoencoderConfig(**meta["autoencoder"]))
            training = first_training(first.to(device), config)
        else:
            training = Training(checkpoint.build(meta["denoiser"]).to(device), config)
        training.restore(tensors, meta["step"], meta["seconds"])
        about = {"task": asdict(task), "vocabulary": None, "first_stage": None}  # files of old may lack them
        about |= {key: meta[key] for key in meta.keys() - {"autoencoder", "denoiser", "step", "seconds"}}
        log = folder / LOG
        history = json.loads(log.read_text())["history"] if log.exists() else []
        run = cls(folder, training, about, history, latent and Latent(latent.autoencoder.to(device), latent.scale))
        run.history = [entry for entry in history if entry["step"] <= run.step]
        return run

    @property
    def first_stage(self) -> dict:
        """Steps and seconds that the finished autoencoder took, and the scale of its codes."""
        return self.about["first_stage"] or {"steps": 0, "seconds": 0.0}

    @property
    def step(self) -> int:
        """Steps so far, those of the autoencoder among them."""
        return self.first_stage["steps"] + self.training.step

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of the autoencoder among them."""
        return self.first_stage["seconds"] + self.training.seconds

    def model(self) -> Model:
        """The averaged weights, ready to draw."""
        return as_model(self.training.ema.module, self.about, self.latent)

    def train(self, images: Images, steps: int | None = None, seconds: float | None = None) -> Iterator[Progress]:
        """`minidiff.train.train`, written down: whatever ends it, Ctrl-C too, the last whole step is saved."""
        saved, logged = time.monotonic(), 0.0
        try:
            for progress in self.stages(images, steps, seconds):
                if progress.seconds - logged >= LOG_EVERY or progress.fraction == 1:
                    self.history.append({k: v for k, v in asdict(progress).items() if k != "fraction"})
                    logged = progress.seconds
                if time.monotonic() - saved >= SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                yield progress
        finally:
            self.save()

    def stages(self, images: Images, steps: int | None, seconds: float | None) -> Iterator[Progress]:
        """The autoencoder, if there is one to train, then the denoiser, within one budget."""
        done = 0.0
        if self.about["task"]["latent"]:
            first = (steps and max(1, round(SHARE * steps))), (seconds and min(SHARE * seconds, ENOUGH))
            done = first[1] / seconds if seconds else SHARE
            if self.latent is None:
                for progress in train(self.training, images, *first):
                    yield replace(progress, fraction=done * progress.fraction)
                self.freeze(images)
            steps = steps and max(1, steps - self.first_stage["steps"])
            seconds = seconds and max(1e-9, seconds - self.first_stage["seconds"])
        before = self.first_stage
        for p in train(self.training, self.data(images), steps, seconds):
            step, spent = p.step + before["steps"], p.seconds + before["seconds"]
            yield replace(p, step=step, seconds=spent, fraction=done + (1 - done) * p.fraction)

    def freeze(self, images: Images) -> None:
        """Ends the first stage: the averaged autoencoder makes the codes on which a new denoiser is trained."""
        training, config = self.training, TrainConfig(**self.about["config"])
        scale = fit_scale(training.ema.module, images.tensor(slice(0, 2000)).to(training.device))
        latent = Latent(training.ema.module, scale)
        torch.manual_seed(config.seed)
        second = Training(new_denoiser(self.about, latent).to(training.device), config)
        done = {"steps": training.step, "seconds": training.seconds, "scale": scale}
        self.latent, self.training, self.about["first_stage"] = latent, second, done  # all or, after Ctrl-C, nothing

    def data(self, images: Images):
        """What the denoiser learns from: pictures or codes, with labels or tokens."""
        words = self.about["vocabulary"]
        if self.latent is None and not words:
            return images
        cond = Vocabulary(**words).encode(images.captions) if words else images.y
        if self.latent is None:
            return Captioned(images, cond)
        parts = torch.arange(len(images)).split(500)
        device = next(self.latent.autoencoder.parameters()).device
        return Codes(torch.cat([self.latent.encode(images.tensor(k).to(device)).cpu() for k in parts]), cond)

    def save(self) -> None:
        """Writes the checkpoint and the log, each in one piece."""
        first = self.training.model if isinstance(self.training.model, Autoencoder) else None
        meta = {**self.about, "step": self.training.step, "seconds": self.training.seconds}
        tensors = self.training.tensors()
        if first is None:
            meta["denoiser"] = checkpoint.describe(self.training.model)
        if self.latent is not None:
            first = self.latent.autoencoder
            tensors |= {f"autoencoder.{name}": tensor for name, tensor in first.state_dict().items()}
        if first is not None:
            meta["autoencoder"] = asdict(first.config)
        checkpoint.save(self.folder / CHECKPOINT, tensors, meta)
        log = json.dumps({**self.about, "history": self.history}, indent=1)
        checkpoint.write_atomically(self.folder / LOG, log.encode())


def first_training(autoencoder: Autoencoder, config: TrainConfig) -> Training:
    """An autoencoder learns by the same recipe, but for the learning rate, which is the denoiser's."""
    return Training(autoencoder, replace(config, lr=TrainConfig().lr), reconstruction)
