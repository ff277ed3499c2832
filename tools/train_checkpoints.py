"""Trains the models that ship with the course: data/<name>.safetensors.

    python tools/train_checkpoints.py fashion --seconds 180

The same training as `python -m minidiff train`, kept in half precision for sampling alone. The header says on what
it was trained, with which recipe, for how long, and on which machine.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402
from train_classifiers import processor  # noqa: E402

from minidiff.checkpoint import save_denoiser  # noqa: E402
from minidiff.data import load  # noqa: E402
from minidiff.generate import best_device  # noqa: E402
from minidiff.runs import Run  # noqa: E402
from minidiff.train import TrainConfig, bar  # noqa: E402


def train(name: str, seconds: float) -> None:
    images, device = load(name), best_device()
    with tempfile.TemporaryDirectory() as folder:
        run = Run.start(Path(folder), images, TrainConfig(), device)
        for _ in bar(run.train(images, seconds=seconds)):
            pass
    training = run.training
    meta = {
        **run.about,
        "trained_on": f"the {len(images):,} training pictures of {name} that ship",
        "steps": training.step,
        "seconds": round(training.seconds),
        "machine": f"{processor()}, {torch.get_num_threads()} thread(s), {device}, torch {torch.__version__}",
    }
    path = ROOT / "data" / f"{name}.safetensors"
    save_denoiser(path, training.ema.module.cpu(), meta)
    register(path)
    print(f"{path.name}: {meta['steps']} steps in {meta['seconds']} s, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="a data set, as for `python -m minidiff train`")
    parser.add_argument("--seconds", type=float, default=180.0)
    arguments = parser.parse_args()
    train(arguments.name, arguments.seconds)
