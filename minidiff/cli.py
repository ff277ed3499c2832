"""The command line, `python -m minidiff`.

    doctor     check versions, device, data and a short training
    train      learn a data set; Ctrl-C saves, --resume goes on
    sample     draw pictures from a run
    evaluate   measure a run against held-out real pictures
Whatever goes wrong for a reason outside the program is one line on stderr and exit code 1.
"""

import argparse
import importlib
import io
import json
import math
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.app.evaluate import eval_conditions, evaluate
from minidiff.app.files import write_atomically
from minidiff.app.generate import SAMPLERS, Model, Sampling
from minidiff.app.models import DenoiserConfig, Task, load_trained
from minidiff.app.runs import SAMPLES, Run
from minidiff.training.device import PRECISIONS, best_device, find_device
from minidiff.training.loop import TrainConfig
from minidiff.training.signals import first_signal_only

MAX_PICTURES = 1_000_000  # in one call of sample or evaluate
SETTINGS = "seed", "precision", "lr", "batch_size", "shift_warmup", "cooldown"  # of TrainConfig
RECIPE = "net", "schedule", "prediction"


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    args = parse(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings(), first_signal_only():
        warnings.showwarning = lambda message, *_, **__: print(f"minidiff {args.name}: {message}", file=sys.stderr)
        try:
            import_plugins(args)
            return args.command(args)
        except (ValueError, OSError) as error:
            return report_error(args.name, str(error))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            return report_error(args.name, f"not enough memory ({error}): ask for fewer or smaller pictures at a time")
        except KeyboardInterrupt:
            report_error(args.name, "stopped")
            return 130
        except SystemExit as stop:  # SIGTERM or SIGHUP
            report_error(args.name, "stopped")
            return stop.code if isinstance(stop.code, int) else 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read a command line; end with code 2 and one line if it is none."""
    commands = parser()
    for flag, equals, value in (argument.partition("=") for argument in arguments):
        if flag.startswith("--") and equals and value == "--":
            commands.error(f"argument {flag}: expected a value, got '--'")  # argparse would hand on an empty list
    return commands.parse_args(arguments)


def report_error(command: str, message: str) -> int:
    """Print one line on stderr and return the exit code of a failure."""
    print(f"minidiff {command}: {' '.join(message.split())}", file=sys.stderr)
    return 1


def import_plugins(args: argparse.Namespace) -> None:
    """Import the modules of --plugin, which register networks, schedules and data sets of one's own."""
    for name in getattr(args, "plugin", None) or ():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"expected --plugin to name a module that can be imported from here, got {name!r} ({error})"
            ) from None


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    top = argparse.ArgumentParser(prog="python -m minidiff", description="Diffusion models, small enough to read.")
    commands = top.add_subparsers(dest="name", required=True, metavar="command")

    doctor = commands.add_parser("doctor", help="check versions, device, data and a five-second training")
    doctor.set_defaults(command=run_doctor)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", help="cpu, cuda, cuda:1, mps (a GPU if there is one, else the CPU)")
    common.add_argument(
        "--plugin", action="append", metavar="MODULE", help="a module to import, which registers what is one's own"
    )

    train = commands.add_parser("train", parents=[common], help="train on a data set or a folder of pictures")
    train.add_argument(
        "--data", required=True, help="digits, fashion, emoji, scenes, mnist, cifar10, fashion-full or a folder"
    )
    train.add_argument("--out", required=True, type=Path, help="folder of the run, such as runs/fashion")
    train.add_argument(
        "--seconds",
        type=number(float, high=1e9),
        help="budget in training seconds, in all (180 if --steps is not given)",
    )
    train.add_argument("--steps", type=number(int, high=10**12), help="budget in steps, in all")
    train.add_argument("--latent", action="store_true", help="diffusion on the codes of an autoencoder, trained first")
    train.add_argument(
        "--text", action="store_true", help="ask by the words of a caption, not by a label: emoji, scenes"
    )
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    train.add_argument(
        "--size", type=size, help="pixels of a folder's pictures or of scenes, as 64 or 48x64 (32; scenes 64)"
    )
    train.add_argument("--channels", type=int, choices=[1, 3], help="of a folder's pictures: 1 grey, 3 colour (3)")
    train.add_argument("--net", help="registered name of the network (UNet)")
    train.add_argument("--schedule", help="registered name of the noise schedule (Cosine)")
    train.add_argument("--prediction", help="what the network predicts: x0, eps, v, velocity, score, edm (v)")
    train.add_argument("--batch-size", type=number(int), help=f"pictures a step ({TrainConfig.batch_size})")
    train.add_argument("--seed", type=int, help="of weights, order, times and noise (0)")
    train.add_argument("--precision", choices=PRECISIONS, help="(auto)")
    train.add_argument("--lr", type=number(float), help=f"learning rate of the denoiser ({TrainConfig.lr})")
    train.add_argument(
        "--shift-warmup",
        type=number(float, low=0, high=1, above=False),
        help="first share of the budget, over which times are shifted towards noise, ever less: so that --text learns "
        "relations (0)",
    )
    train.add_argument(
        "--cooldown",
        type=number(float, low=0, high=1, above=False),
        help="last share of the budget, over which the learning rate falls to zero: better at its end, and a run that "
        "goes on beyond it differs from one that had the whole budget at once (0)",
    )
    train.set_defaults(command=run_train)

    drawing = argparse.ArgumentParser(add_help=False, parents=[common])
    drawing.add_argument("run", type=Path, help="folder of a run, or a checkpoint file")
    drawing.add_argument("--data", help="(what the checkpoint was trained on: for a folder that has moved since)")
    drawing.add_argument("--sampler", choices=SAMPLERS, help="(what the checkpoint recommends, as for the next three)")
    drawing.add_argument("--steps", type=number(int, high=10_000), help="denoising steps")
    drawing.add_argument("--guidance", type=float, help="0 ignores label and prompt, 1 is plain, more is sharper")
    drawing.add_argument("--shift", type=number(float), help="above 1 spends more steps on noise, below 1 on detail")
    drawing.add_argument("--seed", type=number(int, low=0, high=2**62, above=False), default=0)

    sample = commands.add_parser("sample", parents=[drawing], help="draw pictures from a trained model")
    sample.add_argument("--n", type=number(int, high=MAX_PICTURES), default=64, help="how many (64)")
    condition = sample.add_mutually_exclusive_group()
    condition.add_argument("--label", type=int, help="one label for all; without it every label in turn")
    condition.add_argument(
        "--prompt", help="one prompt for all, of a model trained with --text; else known captions in turn"
    )
    sample.add_argument("--out", type=Path, default=Path(SAMPLES), help=".png for a sheet, .npz for numbers")
    sample.set_defaults(command=run_sample)

    evaluate = commands.add_parser("evaluate", parents=[drawing], help="measure samples against held-out real pictures")
    evaluate.add_argument("--n", type=number(int, high=MAX_PICTURES), default=2000, help="how many samples (2000)")
    evaluate.add_argument("--out", type=Path, help="the JSON file (evaluation.json in the run's folder, or here)")
    evaluate.set_defaults(command=run_evaluate)
    return top


def number(kind: type, low: float = 0, high: float = math.inf, above: bool = True) -> Callable[[str], Any]:
    """Return an argparse type: a number of that kind from low (or, with `above`, above low) to high."""

    def parse(text: str):
        value = kind(text)
        if not (value > low or (value == low and not above)) or not value <= high or value in (math.inf, -math.inf):
            upper = "" if high == math.inf else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(
                f"expected a number {'above' if above else 'of at least'} {low:g}{upper}, got {text[:40]}"
            )
        return value

    parse.__name__ = kind.__name__  # argparse names the type in its messages
    return parse


def size(text: str) -> tuple[int, int]:
    """Return an argparse type: one number of pixels, or height x width."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a number of pixels, or HEIGHTxWIDTH, got {text[:40]}")
    return int(found[1]), int(found[2] or found[1])


def run_doctor(args: argparse.Namespace) -> int:
    """Check this machine: 0 if all is well, else 1."""
    from minidiff.course.doctor import examine

    return examine()


def run_train(args: argparse.Namespace) -> int:
    """Train or go on; 130 after Ctrl-C, with the line that goes on."""
    from minidiff.data import load
    from minidiff.training.progress import progress_bar

    given = {key: getattr(args, key) for key in (*SETTINGS, *RECIPE) if getattr(args, key) is not None}
    images = load(args.data, size=args.size, channels=args.channels)
    device, task = find_device(args.device) if args.device else best_device(), Task(args.latent, args.text)
    if args.resume:
        run = Run.resume(args.out, images, device, task, given)
    else:
        recipe = DenoiserConfig(**{key: value for key, value in given.items() if key in RECIPE})
        settings = {key: value for key, value in given.items() if key not in RECIPE}
        # plain squared error of what the network predicts
        config = TrainConfig(**settings, weighting=recipe.prediction)
        run = Run.start(args.out, images, config, device, task, recipe)
    seconds = 180.0 if args.seconds is None and args.steps is None else args.seconds
    try:
        for _ in progress_bar(run.train(images, args.steps, seconds)):
            pass
    except (KeyboardInterrupt, SystemExit) as stop:
        print(f"stopped and saved at step {run.saved_at}; go on with:\n{command_to_resume(args)}", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 1)
    model = run.model()
    n = 64 if args.text else max(64, len(model.classes))
    write_sheet(args.out / SAMPLES, model.sample(eval_conditions(model, args.data, n)))
    print(f"{run.step} steps in {run.seconds:.0f} s; samples are in {args.out / SAMPLES}")
    return 0


def command_to_resume(args: argparse.Namespace) -> str:
    """Return the command line that goes on with a run, to be pasted into a shell."""
    words = ["python", "-m", "minidiff", "train", "--data", args.data]
    words += [f"--{name}" for name in ("latent", "text") if getattr(args, name)]
    words += ["--size", "x".join(map(str, args.size))] if args.size else []
    words += ["--channels", str(args.channels)] if args.channels else []
    words += ["--steps", str(args.steps)] if args.steps else []
    words += ["--seconds", f"{args.seconds:.15g}"] if args.seconds else []
    words += ["--device", args.device] if args.device else []
    words += [word for module in args.plugin or () for word in ("--plugin", module)]
    return shlex.join([*words, "--out", str(args.out), "--resume"])


def run_sample(args: argparse.Namespace) -> int:
    """Draw --n pictures into a sheet or an archive."""
    if args.out.suffix not in (".png", ".npz"):
        raise ValueError(f"expected --out to end in .png or .npz, got {args.out}")
    model, metadata = load_trained(args.run)
    sampling = chosen_sampling(args, model)
    cond = requested(model, metadata, args)
    x = model.to(device_of(args)).sample(cond, sampling, args.seed)
    if args.out.suffix == ".npz":
        write_numbers(args.out, x, cond)
    else:
        write_sheet(args.out, x)
    print(f"{args.n} samples are in {args.out} ({sampling})")
    return 0


def device_of(args: argparse.Namespace) -> torch.device:
    """Return the device of --device, or the best one."""
    return find_device(args.device) if args.device else best_device()


def chosen_sampling(args: argparse.Namespace, model: Model) -> Sampling:
    """Return the sampling that the checkpoint recommends, with what the command line says otherwise."""
    given = {key: getattr(args, key) for key in ("sampler", "steps", "guidance", "shift")}
    return replace(model.sampling, **{key: value for key, value in given.items() if value is not None})


def requested(model: Model, metadata: dict[str, Any], args: argparse.Namespace) -> Tensor:
    """Return what --label or --prompt asks for, n times: labels (n,) or tokens (n, L)."""
    if args.prompt is not None:
        return model.prompts([args.prompt] * args.n)
    if args.label is not None:
        return model.labels(args.label, args.n)
    return eval_conditions(model, "" if model.vocabulary is None else data_of(metadata, args), args.n)


def data_of(metadata: dict[str, Any], args: argparse.Namespace) -> str:
    """Return the name of the data set that a checkpoint was trained on, or the folder of --data, where it is now."""
    if args.data is not None:
        return args.data
    if "data" not in metadata:
        raise ValueError(f"{args.run}: expected a checkpoint that says on which data it was trained, got one without")
    return metadata["data"]


def run_evaluate(args: argparse.Namespace) -> int:
    """Print a table of scores and write them as JSON, into the run's folder or, for a file, into this one."""
    model, metadata = load_trained(args.run)
    sampling = chosen_sampling(args, model)
    scores = evaluate(model.to(device_of(args)), data_of(metadata, args), args.n, sampling, args.seed)
    scores |= {key: getattr(sampling, key) for key in ("sampler", "steps", "guidance", "shift")} | {"seed": args.seed}
    print(f"{scores['pictures']} pictures, {sampling}; features: {scores['features']}")
    print(f"{'':28}{'generated':>12}{'real, held out':>16}")
    for name, value in scores["generated"].items():
        print(f"{name.replace('_', ' '):28}{value:12.4g}{scores['real_held_out'][name]:16.4g}")
    if "bits_per_dim" in scores:
        print(f"{'bits per dimension, at most':28}{scores['bits_per_dim']:28.4g}")
    if "attributes" in scores:
        seen, held_out = scores["attributes"]["seen"], scores["attributes"]["held_out"]
        print(f"{'right, of what was asked':28}{'seen':>12}{'held-out pairs':>16}")
        for name, value in seen.items():
            shown = ("-" if share is None else f"{share:.1%}" for share in (value, held_out[name]))
            print(f"{name.replace('_', ' '):28}{next(shown):>12}{next(shown):>16}")
    beside = args.run / "evaluation.json" if args.run.is_dir() else Path(f"{args.run.stem}-evaluation.json")
    out = args.out or beside
    write_atomically(out, json.dumps(scores, indent=1, allow_nan=False).encode())
    print(f"the same as JSON is in {out}")
    return 0


def write_sheet(path: Path, x: Tensor) -> None:
    """Write pictures (B, C, H, W) in [-1, 1] as one PNG, in rows as long as the sheet is wide; small ones enlarged."""
    from torchvision.utils import make_grid, save_image

    sheet = make_grid(x, nrow=round(len(x) ** 0.5), normalize=True, value_range=(-1, 1), pad_value=1.0)
    buffer = io.BytesIO()
    save_image(F.interpolate(sheet[None], scale_factor=max(1, 64 // x.shape[-1])), buffer, format="png")
    write_atomically(path, buffer.getvalue())


def write_numbers(path: Path, x: Tensor, y: Tensor) -> None:
    """Write x float32 (n, C, H, W) in [-1, 1] and y int64, labels (n,) or tokens (n, L), as a NumPy archive."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=x.numpy(), y=y.numpy())
    write_atomically(path, buffer.getvalue())
