"""Trains the small classifiers whose features the metrics compare: data/classifier-<name>.safetensors.

    python tools/train_classifiers.py fashion --full FOLDER
    python tools/train_classifiers.py digits emoji

FOLDER holds the original files of Fashion-MNIST: the fashion classifier then learns from all 60,000 training
pictures instead of the 10,000 that ship. Each is judged on the test pictures that ship. Weights are kept in
half precision; the header says what was trained, on what, for how long, and how well it does.
"""

import argparse
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import idx, register  # noqa: E402

from minidiff import data  # noqa: E402
from minidiff.app import checkpoint  # noqa: E402
from minidiff.nets.classifier import Classifier, ClassifierConfig  # noqa: E402


@dataclass(frozen=True)
class Recipe:
    epochs: int
    width: int = 16
    batch: int = 64
    lr: float = 4e-3
    weight_decay: float = 0.05
    shift: int = 1  # pixels, in both directions
    flip: bool = False
    seed: int = 0


RECIPES = {
    "fashion": Recipe(epochs=8),
    "digits": Recipe(epochs=40, width=32),
    "emoji": Recipe(epochs=60, flip=True, shift=2, weight_decay=0.3),
}


def full_fashion(folder: Path) -> tuple[Tensor, Tensor]:
    """All 60,000 training pictures (N, 1, 32, 32) uint8 and their labels, from the original files."""
    x, y = (torch.tensor(idx(folder / f"train-{what}-ubyte.gz")) for what in ("images-idx3", "labels-idx1"))
    return F.pad(x[:, None], (2, 2, 2, 2)), y.long()


def augment(x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Shifts each picture (B, C, H, W) by whole pixels, repeating its border, and mirrors half of them."""
    count, _, height, width = x.shape

    def places(length: int) -> Tensor:
        shift = torch.randint(-recipe.shift, recipe.shift + 1, (count, 1), generator=generator)
        return (torch.arange(length) + shift).clamp(0, length - 1)  # (B, length)

    rows, columns = places(height), places(width)
    if recipe.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    picked = x[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return picked.permute(0, 3, 1, 2).contiguous()  # (B, C, H, W)


def fit(net: Classifier, x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """Cross-entropy on uint8 pictures with AdamW, a short warm-up and a cosine to zero."""
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    steps, warm = recipe.epochs * (len(x) // recipe.batch), 100
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / warm) * 0.5 * (1 + math.cos(math.pi * k / steps))
    )
    for epoch in range(recipe.epochs):
        total = 0.0
        batches = torch.randperm(len(x), generator=generator).split(recipe.batch)
        for index in (b for b in batches if len(b) == recipe.batch):
            loss = F.cross_entropy(net(augment(x[index], recipe, generator) / 127.5 - 1), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * recipe.batch
        print(f"  epoch {epoch + 1}/{recipe.epochs}: loss {total / len(x):.4f}", flush=True)


@torch.no_grad()
def scale_features(net: Classifier, x: Tensor) -> None:
    """Brings the features of uint8 pictures to a mean square of 1, and leaves the logits as they are.

    The kernel distance cubes products of features: where they are large, a few pictures decide it.
    """
    size = torch.cat([net.features(part / 127.5 - 1) for part in x.split(500)]).square().mean().sqrt()
    for weight in net.embed.parameters():
        weight /= size
    net.head.weight *= size


@torch.no_grad()
def accuracy(net: Classifier, x: Tensor, y: Tensor) -> float:
    logits = torch.cat([net(part / 127.5 - 1) for part in x.split(500)])
    return (logits.argmax(1) == y).float().mean().item()


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def train(name: str, full: Path | None) -> None:
    recipe = RECIPES[name]
    train_set, test_set = data.load(name, "train"), data.load(name, "test")
    x, y, source = train_set.x, train_set.y, f"the {len(train_set.x):,} training pictures that ship"
    if name == "fashion" and full is not None:
        x, y = full_fashion(full)
        source = f"all {len(x):,} training pictures of Fashion-MNIST (only {len(train_set.x):,} of them ship)"
    torch.manual_seed(recipe.seed)
    config = ClassifierConfig(x.shape[1], x.shape[2], recipe.width, num_classes=len(train_set.classes))
    net = Classifier(config)
    print(f"{name}: {source}, {sum(p.numel() for p in net.parameters()):,} parameters", flush=True)
    start = time.process_time()
    fit(net, x, y, recipe)
    scale_features(net, x)
    seconds = round(time.process_time() - start)

    tensors = {key: value.half() for key, value in net.state_dict().items()}
    net.load_state_dict({key: value.float() for key, value in tensors.items()})
    metadata = {
        "kind": "classifier",
        "config": asdict(config),
        "classes": list(train_set.classes),
        "trained_on": source,
        "test_pictures": len(test_set.x),
        "test_accuracy": round(accuracy(net, test_set.x, test_set.y), 4),
        "recipe": asdict(recipe),
        "cpu_seconds": seconds,
        "machine": f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
    }
    path = ROOT / "data" / f"classifier-{name}.safetensors"
    checkpoint.save(path, tensors, metadata)
    register(path)
    print(
        f"{path.name}: {metadata['test_accuracy']:.2%} of {metadata['test_pictures']:,}, {seconds} CPU seconds, "
        f"{path.stat().st_size / 1e6:.2f} MB",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", choices=RECIPES)
    parser.add_argument("--full", type=Path, help="folder with the original files of Fashion-MNIST")
    arguments = parser.parse_args()
    for chosen in arguments.names:
        train(chosen, arguments.full)
