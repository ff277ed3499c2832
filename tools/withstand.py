"""Does a run survive whatever happens to it? Two trials that are too long for the tests.

    python tools/withstand.py kills [--n 200]     signals at random moments; the finished run is that of no interruption
    python tools/withstand.py inputs [--n 800]    wrong arguments, damaged files and pictures; each one clear line

Each attempt is a process of its own that runs the command line. Exit code 1 and the seeds of all that went wrong if
something did.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from minidiff import cli
from minidiff.app import checkpoint, runs
from minidiff.app.models import CHECKPOINT, PREVIOUS

STEPS = 30
TRAIN = ["train", "--data", "digits", "--steps", str(STEPS), "--batch-size", "4", "--device", "cpu"]
ENDINGS = {
    "kill -9": [signal.SIGKILL],
    "Ctrl-C": [signal.SIGINT],
    "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGHUP": [signal.SIGHUP],
}


class Attempt:
    """A command line in a process of its own, forked from this one; what it prints goes into a file."""

    def __init__(self, arguments: list[str], output: Path):
        self.output = output
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, write)
        os.close(write)
        os.read(read, 1)  # the command begins
        os.close(read)

    def _run(self, arguments: list[str], ready: int) -> None:
        code = 1
        try:
            file = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in 1, 2:
                os.dup2(file, stream)
            os.write(ready, b"x")
            code = cli.main(arguments)
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException as error:
            print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def send(self, signals: list[signal.Signals], gap: float) -> None:
        """Send one signal after the other; none to a process that has ended."""
        for one in signals:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                os.kill(self.pid, one)
                time.sleep(gap)

    def end(self) -> tuple[int, str]:
        """Wait; return the exit code (negative: the signal that ended it) and all that was printed."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, self.output.read_text(encoding="utf-8", errors="replace")


def kills(n: int) -> list[str]:
    """Interrupt trainings n times; return what went wrong."""
    runs.SAVE_EVERY, wrong, counts, interrupted = 0.05, [], Counter(), 0
    with tempfile.TemporaryDirectory() as temporary:
        parent = Path(temporary)
        whole = {task: uninterrupted(parent / f"whole{len(task)}", task) for task in ((), ("--latent",))}
        for seed in range(10**6):
            if interrupted >= n:
                break
            task, rng, folder = ((), ("--latent",))[seed % 2], random.Random(seed), parent / str(seed)
            tensors, seconds = whole[task]
            while interrupted < n:
                begun = (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()
                arguments = [*TRAIN, *task, "--out", str(folder), *(["--resume"] if begun else [])]
                attempt = Attempt(arguments, parent / "output.txt")
                time.sleep(rng.uniform(0, seconds))
                ending = rng.choice(list(ENDINGS))
                attempt.send(ENDINGS[ending], rng.choice([0, 1e-3, 1e-2]))
                code, said = attempt.end()
                ended_itself = code == 0
                counts[ending if not ended_itself else "finished"] += 1
                interrupted += not ended_itself
                if "Traceback" in said or code not in (0, -signal.SIGKILL, 130, 128 + signal.SIGTERM, 129):
                    wrong.append(f"seed {seed}: {ending} ended with code {code}: {said[-300:]}")
                if ended_itself:
                    break
            if (folder / CHECKPOINT).exists() and ended_itself:
                found = checkpoint.load(folder / CHECKPOINT)[0]
                if any(not torch.equal(tensors[name], found[name]) for name in tensors.keys() | found.keys()):
                    wrong.append(f"seed {seed}: not the run that was never interrupted")
                left = sorted(path.name for path in folder.iterdir())
                if left != [".lock", *sorted((CHECKPOINT, PREVIOUS, "log.json", "samples.png"))]:
                    wrong.append(f"seed {seed}: left behind {left}")
                counts["compared"] += 1
            shutil.rmtree(folder, ignore_errors=True)
            print(f"run {seed}: {interrupted}/{n} interruptions, {len(wrong)} wrong", flush=True)
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    return wrong


def uninterrupted(folder: Path, task: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], float]:
    """Return the tensors of a run that nobody disturbs, and how long it took."""
    began = time.perf_counter()
    code, said = Attempt([*TRAIN, *task, "--out", str(folder)], folder.with_suffix(".txt")).end()
    if code:
        raise ValueError(f"expected a training that ends well, got {said}")
    return checkpoint.load(folder / CHECKPOINT)[0], time.perf_counter() - began


def inputs(n: int) -> list[str]:
    """Give the command line n wrong inputs; return what went wrong."""
    wrong, counts = [], Counter()
    with tempfile.TemporaryDirectory() as temporary:
        parent = Path(temporary)
        good = parent / "good"
        uninterrupted(good, ())
        for seed in range(n):
            rng, place = random.Random(seed), parent / str(seed)
            place.mkdir()
            kind = rng.choice([wrong_arguments, damaged_checkpoint, damaged_pictures])
            arguments = kind(rng, place, good)
            before = contents(place)
            code, said = Attempt(arguments, parent / "output.txt").end()
            lines = [line for line in said.splitlines() if "error: " in line or line.startswith("minidiff ")]
            lost = [name for name, content in before.items() if contents(place).get(name) != content]
            counts[f"{kind.__name__}: {'refused' if code else 'accepted'}"] += 1
            if code not in (0, 1, 2) or "Traceback" in said or (code and len(lines) != 1) or lost:
                wrong.append(f"seed {seed}: {' '.join(arguments)}: code {code}, lost {lost}: {said[-400:]}")
            shutil.rmtree(place)
            if seed % 50 == 49:
                print(f"{seed + 1}/{n}: {len(wrong)} wrong", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return wrong


def contents(place: Path) -> dict[str, bytes]:
    """Return what a folder holds, locks apart."""
    return {str(p): p.read_bytes() for p in place.rglob("*") if p.is_file() and p.name != ".lock"}


NONSENSE = ["", "nan", "inf", "-inf", "-1", "0", "1e400", "10**9", "999999999999", "x", "0x10", "1.5", "é", "a b", "--"]
FLAGS = {
    "train": ["--seconds", "--steps", "--size", "--channels", "--net", "--schedule", "--prediction", "--batch-size",
              "--seed", "--precision", "--lr", "--shift-warmup", "--cooldown", "--device", "--plugin", "--data"],
    "sample": ["--n", "--steps", "--guidance", "--shift", "--sampler", "--label", "--prompt", "--seed", "--device",
               "--plugin", "--out"],
    "evaluate": ["--n", "--steps", "--guidance", "--shift", "--sampler", "--seed", "--device", "--plugin"],
}  # fmt: skip


def wrong_arguments(rng: random.Random, place: Path, good: Path) -> list[str]:
    """Return a command line, small enough to end soon, with one or two values that make no sense."""
    command = rng.choice(["train", "train", "sample", "evaluate"])
    out = str(place / ("out" if command == "train" else "out.png" if command == "sample" else "out.json"))
    small = {
        "train": ["train", "--data", "digits", "--steps", "1", "--batch-size", "2", "--out", out],
        "sample": ["sample", str(good), "--n", "2", "--steps", "1", "--out", out],
        "evaluate": ["evaluate", str(good), "--n", "50", "--steps", "1", "--out", out],
    }[command]
    for flag in rng.sample(FLAGS[command], rng.choice([1, 1, 2])):
        value = rng.choice(NONSENSE)
        if flag in ("--n", "--steps", "--batch-size") and value == "999999999999":
            value = "-7"  # the right answer to so many is patience
        small += [f"{flag}={value}"]
    return small


def damaged_checkpoint(rng: random.Random, place: Path, good: Path) -> list[str]:
    """Damage the only checkpoint of a run; return a command line that reads it."""
    run = place / "run"
    run.mkdir()
    content = bytearray((good / CHECKPOINT).read_bytes())
    header = int.from_bytes(content[:8], "little")
    damage = rng.randrange(6)
    if damage == 0:
        content = content[: rng.randrange(len(content))]
    elif damage == 1:
        content[rng.randrange(8, 8 + header)] ^= 1 << rng.randrange(8)
    elif damage == 2:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif damage == 3:
        content[:8] = rng.randbytes(8)
    elif damage == 4:
        content = bytearray(rng.randbytes(rng.randrange(1, 5000)))
    else:
        content += rng.randbytes(rng.randrange(1, 100))
    (run / CHECKPOINT).write_bytes(content)
    return rng.choice(
        [
            ["sample", str(run), "--n", "2", "--steps", "1", "--out", str(place / "out.png")],
            ["evaluate", str(run), "--n", "50", "--steps", "1"],
            [*TRAIN, "--out", str(run), "--resume"],
        ]
    )


def damaged_pictures(rng: random.Random, place: Path, good: Path) -> list[str]:
    """Make a folder of pictures one of which is not in order; return a command line that trains on it."""
    folder = place / "pictures"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.full((16, 16, 3), 40 * k, np.uint8)).save(folder / f"{k}.png")
    whole, odd = (folder / "0.png").read_bytes(), folder / rng.choice(["odd.png", "odd.jpg", "odd.gif", "odd.webp"])
    makers: list[Callable[[], object]] = [
        lambda: odd.write_bytes(b""),
        lambda: odd.write_bytes(whole[: rng.randrange(len(whole))]),
        lambda: odd.write_bytes(rng.randbytes(200)),
        lambda: odd.write_text("no picture"),
        lambda: odd.mkdir(),
        lambda: odd.symlink_to(place / "nowhere"),
        lambda: odd.write_bytes(whole[:16] + rng.randbytes(8) + whole[24:]),
        lambda: Image.fromarray(np.zeros((1, 4000), np.uint8)).save(odd),
        lambda: Image.new("1", (16, 16)).save(odd.with_suffix(".png")),
        lambda: Image.new("LA", (16, 16)).save(odd.with_suffix(".png")),
        lambda: Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(odd.with_suffix(".png")),
        lambda: Image.fromarray(np.full((16, 16), np.nan, np.float32)).save(odd.with_suffix(".tiff")),
        lambda: Image.new("CMYK", (16, 16)).save(odd.with_suffix(".jpg")),
        lambda: shutil.rmtree(folder),
    ]
    rng.choice(makers)()
    size = rng.choice(["16", "17", "8x16", "3", "1"])
    return ["train", "--data", str(folder), "--size", size, "--steps", "2", "--batch-size", "4", "--device", "cpu",
            "--out", str(place / "out")]  # fmt: skip


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("trial", choices=["kills", "inputs"])
    parser.add_argument("--n", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads: they sleep
    began = time.perf_counter()
    wrong = kills(options.n or 200) if options.trial == "kills" else inputs(options.n or 800)
    print(*wrong, sep="\n")
    print(f"{options.trial}: {len(wrong)} wrong, {time.perf_counter() - began:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
