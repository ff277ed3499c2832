"""Compares ways of sampling from shipped checkpoints, and stores the one that was chosen.

    python tools/choose_sampling.py scenes-latent-text --samplers ddpm dpmpp_2m --guidance 2 3 4 --steps 25 50
    python tools/choose_sampling.py fashion emoji --shifts 1 2 --n 500 --seed 12
    python tools/choose_sampling.py fashion --samplers dpmpp_2m --guidance 1.5 --shifts 2 --store

Draws the same requests from the same noise in every way asked for, and prints a table, the best last. A seed is an
exam: choose on one, confirm the finalists on another, for the best of many is partly lucky. Each row is kept in --out
when it is done, and not measured again. With --store and one way only, that way becomes what the checkpoint recommends.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402

from minidiff.app import checkpoint  # noqa: E402
from minidiff.app.evaluate import SEED, known_captions  # noqa: E402
from minidiff.app.generate import SAMPLERS, Model, Sampling, cycle_labels  # noqa: E402
from minidiff.app.metrics import load_classifier, report  # noqa: E402
from minidiff.app.models import load_trained  # noqa: E402
from minidiff.data import load, shipped  # noqa: E402
from minidiff.data.scene_parser import attribute_accuracy  # noqa: E402
from minidiff.data.scenes import caption, sample_scene  # noqa: E402

SHOWN = "pair", "relation", "all", "frechet", "kid", "precision", "recall", "label_accuracy"


def exam(model: Model, data: str, n: int, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], dict]]:
    """What to ask n pictures for, and their scores: fresh scenes, or labels and held-out captions beside real ones."""
    if data == "scenes":
        scenes = [sample_scene(generator) for _ in range(n)]
        return model.prompts([caption(scene) for scene in scenes]), lambda x: attribute_accuracy(scenes, x)
    train, test = load(data), load(data, "test")
    if model.vocabulary is None:
        cond = labels = cycle_labels(n, len(model.classes))
    else:
        captions = known_captions(model, test)
        order = torch.cat([torch.randperm(len(captions), generator=generator) for _ in range(-(-n // len(captions)))])
        asked = [captions[k] for k in order[:n].tolist()]
        label = {text: int(y) for images in (train, test) for text, y in zip(images.captions, images.y, strict=True)}
        cond, labels = model.prompts(asked), torch.tensor([label[text] for text in asked])
    return cond, lambda x: report(x, labels, train, test, load_classifier(data))["generated"]


def line(row: dict) -> str:
    scores = "  ".join(f"{key} {row['scores'][key]:.3f}" for key in SHOWN if key in row["scores"])
    way = f"{row['sampler']:9}{row['steps']:4}  w {row['guidance']:<5g}shift {row['shift']:<5g}"
    return f"{way}{scores}  {1000 * row['seconds_per_picture']:.0f} ms a picture"


def rank(row: dict) -> float:
    return row["scores"]["all"] if "all" in row["scores"] else -row["scores"]["frechet"]


def store(name: str, sampling: Sampling) -> None:
    """Write a way of sampling into a shipped checkpoint."""
    path = shipped(f"{name}.safetensors")
    tensors, metadata = checkpoint.load(path)
    checkpoint.save(path, tensors, {**metadata, "sampling": asdict(sampling)})
    register(path)
    print(f"{name}: {sampling}")


def main(args: argparse.Namespace) -> None:
    rows = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else []
    ways = [Sampling(*way) for way in product(args.samplers, args.steps, args.guidance, args.shifts)]
    for name in args.names:
        if args.store:
            (way,) = ways
            store(name, way)
            continue
        model, metadata = load_trained(shipped(f"{name}.safetensors"))
        # requests and noise from two seeds: one stream for both would tie the scenes to their noise
        cond, judge = exam(model, metadata["data"], args.n, torch.Generator().manual_seed(1000 + args.seed))
        table = []
        for way in ways:
            about = {"checkpoint": name, **asdict(way), "n": args.n, "exam": args.seed}
            row = next((row for row in rows if about.items() <= row.items()), None)
            if row is None:
                start = time.perf_counter()
                x = model.sample(cond, way, args.seed)
                row = {**about, "seconds_per_picture": (time.perf_counter() - start) / len(x), "scores": judge(x)}
                rows.append(row)
                args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8", newline="\n")
                print(".", end="", file=sys.stderr, flush=True)
            table.append(row)
        print(f"\n{name}: {args.n} pictures, exam {args.seed}")
        print("\n".join(map(line, sorted(table, key=rank))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", metavar="CHECKPOINT", help="such as fashion or scenes-latent-text")
    parser.add_argument("--n", type=int, default=200, help="pictures for each way of sampling (200)")
    parser.add_argument("--seed", type=int, default=11, help=f"of requests and noise; not 0 to {SEED} (11)")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["dpmpp_2m"])
    parser.add_argument("--steps", nargs="+", type=int, default=[Sampling.steps])
    parser.add_argument("--guidance", nargs="+", type=float, default=[Sampling.guidance])
    parser.add_argument("--shifts", nargs="+", type=float, default=[Sampling.shift])
    parser.add_argument("--store", action="store_true", help="write the one way that is given into the checkpoints")
    parser.add_argument("--out", type=Path, default=Path("runs") / "sampling.json")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    main(arguments)
