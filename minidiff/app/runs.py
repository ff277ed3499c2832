"""A training in its folder: one checkpoint (all that is needed to go on, and the averaged weights to sample from), the
one before it, a JSON log and a picture of samples.

The checkpoint is written before the first step, once a minute and at the end, whatever ends the training. A run on
codes first trains their autoencoder, for a fifth of its budget but no more than two minutes, and keeps it in the same
file.
"""

import copy
import json
import os
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout  # comes with torch

from minidiff.app import checkpoint
from minidiff.app.files import FileError, write_atomically
from minidiff.app.generate import Model, Sampling
from minidiff.app.metadata import require_keys
from minidiff.app.models import (
    CHECKPOINT,
    PREVIOUS,
    DenoiserConfig,
    Task,
    TokenizedImages,
    as_model,
    load_codec,
    new_autoencoder,
    new_denoiser,
    newest_file,
)
from minidiff.data import ImageSet
from minidiff.latent import LatentCodec, LatentDataset, fit_scale
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.text import Vocabulary
from minidiff.training import Progress, TrainConfig, TrainState, train
from minidiff.training.objectives import reconstruction
from minidiff.training.signals import SignalGuard

LOG, SAMPLES, LOCK = "log.json", "samples.png", ".lock"
SAVE_EVERY, LOG_EVERY = 60.0, 1.0  # seconds
TEXT_SAMPLING = Sampling("ddpm", 25, 3.0, 3.0)  # relations come out right more often with noise on the way
AE_FRACTION, AE_MAX_SECONDS = 0.2, 120.0  # the autoencoder's share of a budget, and at most so long


class Run:
    """A training in its folder. `start` makes a new one, `resume` goes on with one."""

    def __init__(
        self, folder: Path, training: TrainState[Any], metadata: dict, history: list[dict], latent: LatentCodec | None
    ):
        self.folder, self.training, self.metadata, self.history = folder, training, metadata, history
        self.latent = latent  # None without codes, and while their autoencoder is being trained
        self.saved_at: int | None = None  # the step of the checkpoint on disk
        self.stamp: tuple[int, ...] | None = None  # (inode, size, time) of that file
        self.from_previous = False  # whether it was the previous checkpoint that was read
        self.lock = FileLock(folder / LOCK)

    @classmethod
    def start(
        cls,
        folder: Path,
        images: ImageSet,
        config: TrainConfig,
        device: torch.device,
        task: Task = Task(),  # noqa: B008 (frozen)
        recipe: DenoiserConfig = DenoiserConfig(),  # noqa: B008 (frozen)
    ) -> "Run":
        """Make a new run with fresh weights from the config's seed. ValueError if the folder holds one already, or
        files that a run would replace."""
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"expected --out to be a folder, got the file {folder}")
        if (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists():
            raise ValueError(f"{folder} holds a run already: go on with it by --resume, or choose another --out")
        for name in LOG, SAMPLES:
            if (folder / name).exists():
                raise ValueError(f"{folder} holds {name}, which is not of a run: choose another --out, or move it away")
        if task.text and not images.captions:
            raise ValueError(f"expected --text with data that have captions, emoji or scenes; {images.name} has none")
        metadata = {
            "kind": "run",
            **describe_data(images),
            "config": asdict(config),
            "task": asdict(task),
            "recipe": asdict(recipe),
            "vocabulary": asdict(Vocabulary.from_captions(images.captions)) if task.text else None,
            "first_stage": None,  # what the autoencoder took, once it is done
            "sampling": asdict(TEXT_SAMPLING if task.text else Sampling()),
        }
        with _seeded(config.seed):
            if task.latent:
                training = autoencoder_training(new_autoencoder(images).to(device), config)
            else:
                training = TrainState(new_denoiser(metadata, None, recipe).to(device), config)
        run = cls(folder, training, metadata, [], None)
        folder.mkdir(parents=True, exist_ok=True)
        run.acquire_lock()
        run.save()
        run.lock.release()
        return run

    @classmethod
    def resume(
        cls,
        folder: Path,
        images: ImageSet,
        device: torch.device,
        task: Task = Task(),  # noqa: B008 (frozen)
        given: dict[str, Any] | None = None,
    ) -> "Run":
        """Return the run in the folder, as it was saved.

        CheckpointError if there is none, if it learned something else from other data, or if a setting in `given`
        (fields of TrainConfig and Recipe) is not the one that it began with.
        """
        seen, file = file_id(folder / CHECKPOINT), newest_file(folder)
        tensors, metadata = checkpoint.load(file)
        with checkpoint.prefix_errors(folder):
            require_keys(metadata, "data", "classes", "size", "config", "task", "step", "seconds")
            if metadata["kind"] != "run":
                raise ValueError(f"expected a run that can go on, got a file of kind {metadata['kind']}")
            check_unchanged(metadata, images, task, given or {})
            config, latent = TrainConfig(**metadata["config"]), load_codec(tensors, metadata, folder)
            if task.latent and latent is None:
                require_keys(metadata, "autoencoder")
                shape = AutoencoderConfig(**metadata["autoencoder"])
                checkpoint.check_parameters(Autoencoder, shape)
                training = autoencoder_training(Autoencoder(shape).to(device), config)
            else:
                require_keys(metadata, "denoiser")
                training = TrainState(checkpoint.build(metadata["denoiser"]).to(device), config)
            training.load_state_dict(tensors, metadata["step"], metadata["seconds"])
        metadata = {
            "recipe": asdict(DenoiserConfig()),
            "vocabulary": None,
            "first_stage": None,
            "sampling": {},
        } | metadata
        run = cls(folder, training, metadata, [], latent and latent.to(device))
        run.history = [entry for entry in read_history(folder / LOG) if entry["step"] <= run.step]
        run.saved_at, run.stamp, run.from_previous = run.step, seen, file.name == PREVIOUS
        return run

    @property
    def first_stage(self) -> dict[str, Any]:
        """Steps and seconds that the finished autoencoder took, and the scale of its codes."""
        return self.metadata["first_stage"] or {"steps": 0, "seconds": 0.0}

    @property
    def step(self) -> int:
        """Steps so far, those of the autoencoder among them."""
        return self.first_stage["steps"] + self.training.step

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of the autoencoder among them."""
        return self.first_stage["seconds"] + self.training.seconds

    def model(self) -> Model:
        """Return a copy of the averaged weights, ready to sample. ValueError while the autoencoder is being trained."""
        if self.metadata["task"]["latent"] and self.latent is None:
            raise ValueError(
                f"expected a run with a denoiser, got the autoencoder alone, at step {self.step}: go on first"
            )
        return as_model(copy.deepcopy(self.training.ema.module), self.metadata, copy.deepcopy(self.latent))

    def train(
        self, images: ImageSet, steps: int | None = None, seconds: float | None = None
    ) -> Generator[Progress, None, None]:
        """Train as `minidiff.training.train` does, and write it down: whatever ends it, the last whole step is saved.

        ValueError while another training goes on in the folder, and for other images than the run began with.
        """
        check_fingerprint(self.metadata, getattr(images, "fingerprint", None))
        saved, logged = time.monotonic(), 0.0
        self.acquire_lock()
        with SignalGuard(self.stop) as guard, closing(self.stages(images, guard, steps, seconds)) as stages:
            try:
                for progress in stages:
                    with guard.deferred():
                        if progress.seconds - logged >= LOG_EVERY or progress.fraction == 1:
                            self.history.append({k: v for k, v in asdict(progress).items() if k != "fraction"})
                            logged = progress.seconds
                        if time.monotonic() - saved >= SAVE_EVERY:
                            self.save_or_warn()
                            saved = time.monotonic()
                    yield progress
                    if guard.stopped:  # the caller caught the exception: the folder is free for others
                        return
            finally:
                if not guard.stopped:
                    with guard.deferred():
                        self.stop()

    def stop(self) -> None:
        """Save what is not saved yet, and let others train in the folder."""
        try:
            if self.training.whole and self.saved_at != self.step:
                self.save()
        finally:
            self.lock.release()

    def save_or_warn(self) -> None:
        """Save; where the disk is full now, say so and let the training go on to the next save."""
        try:
            self.save()
        except FileError as error:
            warnings.warn(f"{error}; trying again in {SAVE_EVERY:.0f} s", stacklevel=2)

    def acquire_lock(self) -> None:
        """Keep others from training in the folder. ValueError if another training does, or has gone on with the run."""
        if self.lock.is_locked:
            raise ValueError(f"this run is being trained already in {self.folder}: end that training first")
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another training goes on in {self.folder}: wait for its end, or choose another --out"
            ) from None
        newest = self.folder / CHECKPOINT
        if file_id(newest) not in (None, self.stamp):
            self.lock.release()
            raise ValueError(
                f"the checkpoint of {self.folder} has changed since this run was loaded: resume it once more"
            )
        if self.from_previous and newest.exists():  # or the next save would keep a damaged file as the previous one
            os.replace(newest, newest.with_name("checkpoint.damaged.safetensors"))
        self.from_previous = False

    def stages(
        self, images: ImageSet, guard: SignalGuard, steps: int | None, seconds: float | None
    ) -> Generator[Progress, None, None]:
        """Train the autoencoder, if there is one to train, then the denoiser, within one budget."""
        done = 0.0
        if self.metadata["task"]["latent"]:
            first_steps = steps and max(1, round(AE_FRACTION * steps))
            first_seconds = seconds and min(AE_FRACTION * seconds, AE_MAX_SECONDS)
            done = first_seconds / seconds if seconds and first_seconds else AE_FRACTION
            if self.latent is None:
                for progress in train(self.training, images, first_steps, first_seconds):
                    yield replace(progress, fraction=done * progress.fraction)
                self.start_denoiser_stage(images, guard)
            steps = steps and max(1, steps - self.first_stage["steps"])
            seconds = seconds and max(1e-9, seconds - self.first_stage["seconds"])
        before = self.first_stage
        for p in train(self.training, self.data(images), steps, seconds):
            step, spent = p.step + before["steps"], p.seconds + before["seconds"]
            yield replace(p, step=step, seconds=spent, fraction=done + (1 - done) * p.fraction)

    def start_denoiser_stage(self, images: ImageSet, guard: SignalGuard) -> None:
        """End the first stage: the averaged autoencoder makes the codes on which a new denoiser is trained."""
        training, config = self.training, TrainConfig(**self.metadata["config"])
        scale = fit_scale(training.ema.module, images.tensor(slice(0, 2000)).to(training.device))
        latent = LatentCodec(training.ema.module, scale)
        with _seeded(config.seed):
            denoiser = new_denoiser(self.metadata, latent, DenoiserConfig(**self.metadata["recipe"]))
        second = TrainState(denoiser.to(training.device), config)
        done = {"steps": training.step, "seconds": training.seconds, "scale": scale}
        with guard.deferred():  # all three or none
            self.latent, self.training, self.metadata["first_stage"] = latent, second, done

    def data(self, images: ImageSet):
        """Return what the denoiser learns from: pictures or codes, with labels or tokens."""
        words = self.metadata["vocabulary"]
        if self.latent is None and not words:
            return images
        cond = Vocabulary(**words).encode(images.captions) if words else images.y
        if self.latent is None:
            return TokenizedImages(images, cond)
        parts = torch.arange(len(images)).split(500)
        device = self.training.device
        return LatentDataset(torch.cat([self.latent.encode(images.tensor(k).to(device)).cpu() for k in parts]), cond)

    def save(self) -> None:
        """Write the checkpoint, beside which the one before it stays, and the log, each in one piece."""
        first: Any = self.training.model if isinstance(self.training.model, Autoencoder) else None
        metadata = {**self.metadata, "step": self.training.step, "seconds": self.training.seconds}
        tensors = self.training.state_dict()
        if first is None:
            metadata["denoiser"] = checkpoint.describe(self.training.model)
        if self.latent is not None:
            first = self.latent.autoencoder
            tensors |= {f"autoencoder.{name}": tensor for name, tensor in first.state_dict().items()}
        if first is not None:
            metadata["autoencoder"] = asdict(first.config)
        checkpoint.save(self.folder / CHECKPOINT, tensors, metadata, previous=self.folder / PREVIOUS)
        self.saved_at, self.stamp = self.step, file_id(self.folder / CHECKPOINT)
        log = json.dumps({**self.metadata, "history": self.history}, indent=1)
        write_atomically(self.folder / LOG, log.encode())


def autoencoder_training(autoencoder: Autoencoder, config: TrainConfig) -> TrainState:
    """Return the training of an autoencoder: the same recipe, but for the learning rate, which is the denoiser's."""
    return TrainState(autoencoder, replace(config, lr=TrainConfig().lr), reconstruction)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what networks draw their first weights from, and put the caller's random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: weights are drawn there
        yield


def describe_data(images: ImageSet) -> dict[str, Any]:
    """Return what identifies the data of a run."""
    return {
        "data": images.name,
        "classes": list(images.classes),
        "size": list(images.shape),
        "fingerprint": getattr(images, "fingerprint", None),
    }


def check_unchanged(metadata: dict[str, Any], images: ImageSet, task: Task, given: dict[str, Any]) -> None:
    """Raise a ValueError that names both values where a run would go on with other data or settings than it began."""
    began = Task(**metadata["task"])
    if began != task:
        raise ValueError(f"expected {began}, as the run began, got {task}")
    now = describe_data(images)
    same = metadata.get("fingerprint") is not None and metadata["fingerprint"] == now["fingerprint"]
    if metadata["data"] != now["data"] and not same:  # a folder may be named in more than one way
        raise ValueError(f"expected --data {metadata['data']}, which the run began with, got {now['data']}")
    for key in "classes", "size":
        if list(metadata[key]) != now[key]:
            before, after = (", ".join(map(str, value))[:200] for value in (metadata[key], now[key]))
            raise ValueError(f"expected data of {key} {before}, as the run began, got {after}")
    check_fingerprint(metadata, now["fingerprint"])
    settings = {**asdict(DenoiserConfig()), **metadata.get("recipe", {}), **asdict(TrainConfig(**metadata["config"]))}
    for key, value in given.items():
        if settings[key] != value:
            flag = "--" + key.replace("_", "-")
            raise ValueError(
                f"expected {flag} {settings[key]}, as the run began, got {value}: leave it out to go on, or choose "
                "another --out"
            )


def check_fingerprint(metadata: dict[str, Any], fingerprint: str | None) -> None:
    """Raise a ValueError if the pictures of that fingerprint are not those that a run began with; None is unknown."""
    began = metadata.get("fingerprint")
    if None not in (began, fingerprint) and began != fingerprint:
        raise ValueError(
            f"expected the pictures of {metadata['data']} that the run began with (fingerprint {began}), got other "
            f"ones ({fingerprint})"
        )


def file_id(file: Path) -> tuple[int, ...] | None:
    """Return what tells a file from another one under the same name; None if there is none."""
    if not file.exists():
        return None
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_history(log: Path) -> list[dict[str, Any]]:
    """Return the entries of a log; none, with a warning, if it cannot be read: a run goes on without its log."""
    if not log.exists():
        return []
    try:
        history = json.loads(log.read_text(encoding="utf-8"))["history"]
        if not all(isinstance(entry["step"], int) for entry in history):
            raise ValueError("an entry without its step")
        return list(history)
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{log}: not a log of minidiff ({error}); the log begins anew", stacklevel=2)
        return []
