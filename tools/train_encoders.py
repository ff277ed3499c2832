"""Trains the encoders that are the metrics' second ruler, without labels: data/encoder-<name>.safetensors.

    python tools/train_encoders.py fashion digits emoji

Contrastive learning (SimCLR, Chen et al. 2020): two views of each picture, cropped, turned, mirrored and of another
contrast, shall be nearer to each other than to the views of all other pictures of the batch. What ships is the encoder
without the layers behind it that the loss compares. Weights are kept in half precision; the header says what was
trained, on what, for how long, and how often five nearest training pictures name the class of a test picture.
"""

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402
from train_classifiers import processor  # noqa: E402

from minidiff import data  # noqa: E402
from minidiff.app import checkpoint  # noqa: E402
from minidiff.nets.classifier import Encoder, EncoderConfig  # noqa: E402


@dataclass(frozen=True)
class Recipe:
    epochs: int
    batch: int = 256
    lr: float = 2e-3
    weight_decay: float = 1e-4
    temperature: float = 0.2
    zoom: float = 0.6  # the smallest crop's side, as a share of the picture's
    turn: float = 0.15  # radians, in both directions
    mirror: bool = True
    seed: int = 0


RECIPES = {"fashion": Recipe(epochs=20), "digits": Recipe(epochs=150, mirror=False), "emoji": Recipe(epochs=200)}


def views(x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Return a view of each picture (B, C, H, W): a part of it, turned, every other mirrored, of another contrast."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(x), *shape, generator=generator)

    zoom, angle = uniform(recipe.zoom, 1.0), uniform(-recipe.turn, recipe.turn)
    across, down = (1 - zoom) * uniform(-1, 1), (1 - zoom) * uniform(-1, 1)
    side = 1 - 2 * (uniform(0, 1) < 0.5 * recipe.mirror).float()
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    placed = torch.stack([side * cos, -sin, across, side * sin, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(placed, list(x.shape), align_corners=False)
    seen = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    channels = x.shape[1]
    return seen * uniform(0.6, 1.4, channels, 1, 1) + uniform(-0.15, 0.15, channels, 1, 1)


def contrastive_loss(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Return SimCLR's loss (their eq. 1) of two views (B, D) each: to find the other view among 2B - 1 vectors: ()."""
    z = F.normalize(torch.cat([a, b]), dim=1)  # (2B, D)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))


def fit(net: Encoder, x: Tensor, recipe: Recipe) -> None:
    """The loss on pictures (N, C, H, W), with AdamW, a short warm-up and a cosine to zero."""
    generator = torch.Generator().manual_seed(recipe.seed)
    width = net.config.features
    head = nn.Sequential(nn.ReLU(), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
    weights = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    steps, warm = recipe.epochs * (len(x) // recipe.batch), 50
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / warm) * 0.5 * (1 + math.cos(math.pi * k / steps))
    )
    for epoch in range(recipe.epochs):
        total = 0.0
        batches = torch.randperm(len(x), generator=generator).split(recipe.batch)
        for index in (b for b in batches if len(b) == recipe.batch):
            pair = torch.cat([views(x[index], recipe, generator), views(x[index], recipe, generator)])
            loss = contrastive_loss(*head(net(pair)).chunk(2), recipe.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        print(f"  epoch {epoch + 1}/{recipe.epochs}: loss {total / (len(x) // recipe.batch):.4f}", flush=True)


@torch.no_grad()
def features(net: Encoder, x: Tensor) -> Tensor:
    return torch.cat([net(part) for part in x.split(500)])  # (N, D)


@torch.no_grad()
def scale_features(net: Encoder, x: Tensor) -> None:
    """Brings the features of pictures to a mean square of 1, as those of the classifiers."""
    size = features(net, x).square().mean().sqrt()
    for weight in net.embed.parameters():
        weight /= size


def neighbours_accuracy(net: Encoder, train: data.ImageSet, test: data.ImageSet) -> float:
    """How often the class of most of the five nearest training pictures is that of a test picture."""
    distances = torch.cdist(features(net, test.tensor()), features(net, train.tensor()))  # (N, M)
    votes = train.y[distances.topk(5, largest=False).indices].mode(1).values
    return (votes == test.y).double().mean().item()


def train(name: str) -> None:
    recipe, train_set, test_set = RECIPES[name], data.load(name, "train"), data.load(name, "test")
    x = train_set.tensor()
    torch.manual_seed(recipe.seed)
    net = Encoder(EncoderConfig(x.shape[1], x.shape[2]))
    print(f"{name}: {len(x):,} pictures, {sum(p.numel() for p in net.parameters()):,} parameters", flush=True)
    start = time.process_time()
    fit(net, x, recipe)
    scale_features(net, x)
    seconds = round(time.process_time() - start)

    tensors = {key: value.half() for key, value in net.state_dict().items()}
    net.load_state_dict({key: value.float() for key, value in tensors.items()})
    metadata = {
        "kind": "encoder",
        "config": asdict(net.config),
        "trained_on": f"the {len(x):,} training pictures that ship, without their labels",
        "neighbours_accuracy": round(neighbours_accuracy(net, train_set, test_set), 4),
        "recipe": asdict(recipe),
        "cpu_seconds": seconds,
        "machine": f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
    }
    path = ROOT / "data" / f"encoder-{name}.safetensors"
    checkpoint.save(path, tensors, metadata)
    register(path)
    print(f"{path.name}: {metadata['neighbours_accuracy']:.2%} by five neighbours, {seconds} CPU seconds", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", choices=RECIPES)
    for chosen in parser.parse_args().names:
        train(chosen)
