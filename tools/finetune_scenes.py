"""Trains data/scenes-latent-text.safetensors further, at noisier times.

    python tools/finetune_scenes.py --steps 5000 --lr 0.003 --shift 3

What is drawn where is decided while a picture is mostly noise, so all times are shifted there (Esser et al. 2024,
eq. 23; eq. 12.13). The autoencoder and the recommended sampling stay as they are; the header says what was added.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402
from train_classifiers import processor  # noqa: E402

from minidiff.app import checkpoint  # noqa: E402
from minidiff.app.models import load_trained  # noqa: E402
from minidiff.data import load  # noqa: E402
from minidiff.latent import LatentDataset  # noqa: E402
from minidiff.training import TrainConfig, TrainState, best_device, progress_bar, train  # noqa: E402
from minidiff.training.objectives import denoising  # noqa: E402

PATH = ROOT / "data/scenes-latent-text.safetensors"


def finetune(steps: int, lr: float, shift: float) -> None:
    device, images = best_device(), load("scenes")
    model, metadata = load_trained(PATH)
    model = model.to(device)
    parts = torch.arange(len(images)).split(500)
    z = torch.cat([model.latent.encode(images.tensor(part).to(device)).cpu() for part in parts])

    def noisier(denoiser, batch, config, generator, _):
        return denoising(denoiser, batch, config, generator, shift)

    state = TrainState(model.denoiser.requires_grad_(), TrainConfig(lr=lr, cooldown=0.8, seed=7), noisier)
    for _ in progress_bar(train(state, LatentDataset(z, model.prompts(images.captions)), steps)):
        pass
    modules = {"ema": state.ema.module, "autoencoder": model.latent.autoencoder}
    tensors = {f"{part}.{key}": t.half() for part, net in modules.items() for key, t in net.state_dict().items()}
    metadata["finetuned"] = {
        "command": "python tools/finetune_scenes.py " + " ".join(sys.argv[1:]),
        "from": hashlib.sha256(PATH.read_bytes()).hexdigest(),
        "seconds": round(state.seconds),
        "machine": f"{processor()}, {torch.get_num_threads()} thread(s), {device}, torch {torch.__version__}",
    }
    checkpoint.save(PATH, tensors, metadata)
    register(PATH)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--shift", type=float, default=3.0)
    finetune(**vars(parser.parse_args()))
