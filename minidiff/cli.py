"""What does `python -m minidiff` do?

    doctor     is everything there, whole and working?
    train      learn a data set; Ctrl-C saves, --resume goes on
    sample     draw pictures from a run
    evaluate   measure a run against held-out real pictures
Whatever goes wrong for a reason outside the program is one line on stderr and exit code 1.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.checkpoint import write_atomically
from minidiff.evaluate import evaluate, wishes
from minidiff.generate import GUIDANCE, STEPS, Model, best_device
from minidiff.models import Task, load_trained
from minidiff.runs import SAMPLES, Run
from minidiff.train import TrainConfig


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    args = parser().parse_args(arguments)
    try:
        return args.command(args)
    except (ValueError, OSError) as error:
        print(f"minidiff {args.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"minidiff {args.name}: stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(prog="python -m minidiff", description="Diffusion models, small enough to read.")
    commands = top.add_subparsers(dest="name", required=True, metavar="command")

    doctor = commands.add_parser("doctor", help="check versions, device, data and a five-second training")
    doctor.set_defaults(command=run_doctor)

    train = commands.add_parser("train", help="train on a data set or a folder of pictures")
    train.add_argument(
        "--data", required=True, help="digits, fashion, emoji, scenes, mnist, cifar10, fashion-full or a folder"
    )
    train.add_argument("--out", required=True, type=Path, help="folder of the run, such as runs/fashion")
    train.add_argument(
        "--seconds", type=positive(float), help="budget in training seconds, in all (180 if --steps is not given)"
    )
    train.add_argument("--steps", type=positive(int), help="budget in steps, in all")
    train.add_argument("--latent", action="store_true", help="diffusion on the codes of an autoencoder, trained first")
    train.add_argument(
        "--text", action="store_true", help="ask by the words of a caption, not by a label: emoji, scenes"
    )
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    train.add_argument("--lr", type=positive(float), default=TrainConfig.lr, help=f"learning rate ({TrainConfig.lr})")
    train.add_argument(
        "--head-start",
        type=share,
        default=0.0,
        help="first share of the budget, in which times lean to noise, less and less: so that --text learns relations "
        "(0)",
    )
    train.add_argument(
        "--cooldown",
        type=share,
        default=0.0,
        help="last share of the budget, over which the learning rate falls to zero: better at its end, and a run that "
        "goes on beyond it differs from one that had the whole budget at once (0)",
    )
    train.set_defaults(command=run_train)

    drawing = argparse.ArgumentParser(add_help=False)
    drawing.add_argument("run", type=Path, help="folder of a run, or a checkpoint file")
    drawing.add_argument("--steps", type=positive(int), default=STEPS, help=f"denoising steps ({STEPS})")
    drawing.add_argument(
        "--guidance", type=float, default=GUIDANCE, help=f"0 ignores label and prompt, 1 is plain ({GUIDANCE})"
    )
    drawing.add_argument("--seed", type=int, default=0)

    sample = commands.add_parser("sample", parents=[drawing], help="draw pictures from a trained model")
    sample.add_argument("--n", type=positive(int), default=64, help="how many (64)")
    wish = sample.add_mutually_exclusive_group()
    wish.add_argument("--label", type=int, help="one label for all; without it every label in turn")
    wish.add_argument(
        "--prompt", help="one prompt for all, of a model trained with --text; else known captions in turn"
    )
    sample.add_argument("--out", type=Path, default=Path(SAMPLES), help=".png for a sheet, .npz for numbers")
    sample.set_defaults(command=run_sample)

    evaluate = commands.add_parser("evaluate", parents=[drawing], help="measure samples against held-out real pictures")
    evaluate.add_argument("--n", type=positive(int), default=2000, help="how many samples (2000)")
    evaluate.set_defaults(command=run_evaluate)
    return top


def positive(kind: type):
    """An argparse type: a number of that kind above zero."""

    def parse(text: str):
        if not kind(text) > 0:
            raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
        return kind(text)

    parse.__name__ = kind.__name__  # argparse names the type in its messages
    return parse


def run_doctor(args) -> int:
    """Checks this machine: 0 if all is well, else 1."""
    from minidiff.doctor import examine

    return examine()


def run_train(args) -> int:
    """Trains or goes on; 130 after Ctrl-C, with the line that goes on."""
    from minidiff.data import load
    from minidiff.train import bar

    images = load(args.data)
    device, task = best_device(), Task(args.latent, args.text)
    seconds = 180.0 if args.seconds is None and args.steps is None else args.seconds
    if args.resume:
        run = Run.resume(args.out, images, device, task)
    else:
        config = TrainConfig(
            seed=args.seed,
            precision=args.precision,
            lr=args.lr,
            cooldown=args.cooldown,
            head_start=args.head_start,
        )
        run = Run.start(args.out, images, config, device, task)
    try:
        for _ in bar(run.train(images, args.steps, seconds)):
            pass
    except KeyboardInterrupt:
        budget = f"--steps {args.steps}" if args.steps else f"--seconds {seconds:g}"
        flags = "".join(f"--{name} " for name in ("latent", "text") if getattr(args, name))
        print(
            f"stopped and saved at step {run.step}; go on with:\n"
            f"python -m minidiff train --data {args.data} {flags}{budget} --out {args.out} --resume",
            file=sys.stderr,
        )
        return 130
    model = run.model()
    n = 64 if args.text else max(64, len(model.classes))
    write_sheet(args.out / SAMPLES, model.draw(wishes(model, args.data, n)))
    print(f"{run.step} steps in {run.seconds:.0f} s; samples are in {args.out / SAMPLES}")
    return 0


def run_sample(args) -> int:
    """Draws --n pictures into a sheet or an archive."""
    if args.out.suffix not in (".png", ".npz"):
        raise ValueError(f"expected --out to end in .png or .npz, got {args.out}")
    model, meta = load_trained(args.run)
    cond = wanted(model, meta["data"], args)
    x = model.to(best_device()).draw(cond, args.steps, args.guidance, args.seed)
    if args.out.suffix == ".npz":
        write_numbers(args.out, x, cond)
    else:
        write_sheet(args.out, x)
    print(f"{args.n} samples are in {args.out}")
    return 0


def wanted(model: Model, data: str, args) -> Tensor:
    """What --label or --prompt asks for, n times: labels (n,) or tokens (n, L)."""
    if args.prompt is not None:
        return model.prompts([args.prompt] * args.n)
    if args.label is None:
        return wishes(model, data, args.n)
    if model.vocabulary is not None:
        raise ValueError(f"this model was trained with --text: expected a --prompt, got --label {args.label}")
    if not 0 <= args.label < len(model.classes):
        known = ", ".join(f"{i} {name}" for i, name in enumerate(model.classes))
        raise ValueError(f"expected a --label among {known}; got {args.label}")
    return torch.full((args.n,), args.label)


def run_evaluate(args) -> int:
    """Prints a table of scores and writes them beside the run as JSON."""
    model, meta = load_trained(args.run)
    scores = evaluate(model.to(best_device()), meta["data"], args.n, args.steps, args.guidance, args.seed)
    scores |= {"steps": args.steps, "guidance": args.guidance, "seed": args.seed}
    print(f"{scores['pictures']} pictures, features: {scores['features']}")
    print(f"{'':28}{'generated':>12}{'real, held out':>16}")
    for name, value in scores["generated"].items():
        print(f"{name.replace('_', ' '):28}{value:12.4g}{scores['real_held_out'][name]:16.4g}")
    if "bits_per_dim" in scores:
        print(f"{'bits per dimension, at most':28}{scores['bits_per_dim']:28.4g}")
    if "attributes" in scores:
        seen, held_out = scores["attributes"]["seen"], scores["attributes"]["held_out"]
        print(f"{'right, of what was asked':28}{'seen':>12}{'held-out pairs':>16}")
        for name, value in seen.items():
            print(f"{name:28}{value:12.1%}{held_out[name]:16.1%}")
    out = (args.run if args.run.is_dir() else args.run.parent) / "evaluation.json"
    write_atomically(out, json.dumps(scores, indent=1).encode())
    print(f"the same as JSON is in {out}")
    return 0


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return float(text)


def write_sheet(path: Path, x: Tensor) -> None:
    """Pictures (B, C, H, W) in [-1, 1] as one PNG, in rows as long as the sheet is wide; small ones are enlarged."""
    from torchvision.utils import make_grid, save_image

    sheet = make_grid(x, nrow=round(len(x) ** 0.5), normalize=True, value_range=(-1, 1), pad_value=1.0)
    scale = max(1, 64 // x.shape[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(F.interpolate(sheet[None], scale_factor=scale), path)


def write_numbers(path: Path, x: Tensor, y: Tensor) -> None:
    """x float32 (n, C, H, W) in [-1, 1] and y int64, labels (n,) or tokens (n, L), as a NumPy archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, x=x.numpy(), y=y.numpy())
