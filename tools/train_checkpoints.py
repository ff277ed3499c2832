"""Trains the models that ship with the course: data/<name>.safetensors.

    python tools/train_checkpoints.py fashion --seconds 900
    python tools/train_checkpoints.py fashion --latent --cooldown 0.3 --seconds 600

The second makes data/fashion-latent.safetensors. It is the same training as `python -m minidiff train`, kept in half
precision for sampling alone; its run stays in runs/shipped/, and the same command goes on with it if it was stopped.
The header says on what it was trained, with which recipe and command, for how long, and on which machine.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402
from train_classifiers import processor  # noqa: E402

from minidiff.app import checkpoint  # noqa: E402
from minidiff.app.models import CHECKPOINT, Task  # noqa: E402
from minidiff.app.runs import Run  # noqa: E402
from minidiff.data import load  # noqa: E402
from minidiff.training import TrainConfig, best_device, progress_bar  # noqa: E402


def train(name: str, task: Task, seconds: float, config: TrainConfig) -> None:
    images, device = load(name), best_device()
    stem = f"{name}{'-latent' * task.latent}{'-text' * task.text}"
    folder = ROOT / "runs" / "shipped" / stem
    if (folder / CHECKPOINT).exists():
        run = Run.resume(folder, images, device, task)
    else:
        run = Run.start(folder, images, config, device, task)
    for _ in progress_bar(run.train(images, seconds=seconds)):
        pass
    modules = {"ema": run.training.ema.module}
    metadata = {
        **run.metadata,
        "kind": "denoiser",
        "denoiser": checkpoint.describe(run.training.model),
        "trained_on": f"the {len(images):,} training pictures of {name}",
        "command": "python tools/train_checkpoints.py " + " ".join(sys.argv[1:]),
        "steps": run.step,
        "seconds": round(run.seconds),
        "machine": f"{processor()}, {torch.get_num_threads()} thread(s), {device}, torch {torch.__version__}",
    }
    if run.latent is not None:
        modules["autoencoder"] = run.latent.autoencoder
        metadata["autoencoder"] = asdict(run.latent.autoencoder.config)
    tensors = {
        f"{part}.{key}": value.half() for part, net in modules.items() for key, value in net.state_dict().items()
    }
    path = ROOT / "data" / f"{stem}.safetensors"
    checkpoint.save(path, tensors, metadata)
    register(path)
    print(f"{path.name}: {metadata['steps']} steps in {metadata['seconds']} s, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="a data set, as for `python -m minidiff train`")
    parser.add_argument("--latent", action="store_true")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--cooldown", type=float, default=0.0)
    parser.add_argument("--shift-warmup", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=TrainConfig().lr)
    arguments = parser.parse_args()
    recipe = TrainConfig(lr=arguments.lr, cooldown=arguments.cooldown, shift_warmup=arguments.shift_warmup)
    train(arguments.name, Task(arguments.latent, arguments.text), arguments.seconds, recipe)
