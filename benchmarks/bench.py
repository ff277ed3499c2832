"""How fast is minidiff beside three libraries, and how good after the same time?

    make bench                                a table and a plot into benchmarks/results/: 25 minutes on two cores
    python benchmarks/bench.py --seconds 20   a short look

The contenders take turns, so that whatever else the machine does hits all of them: one training step each for the
rates, ten seconds each for the quality. Peak memory is measured in processes of their own. Fashion-MNIST, 32x32.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from peers import BATCH, CLASSES, CONTENDERS, SIZE, Contender
from report import draw, table
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
from train_classifiers import processor  # noqa: E402

from minidiff.app.generate import cycle_labels  # noqa: E402
from minidiff.app.metrics import frechet, label_accuracy, load_classifier  # noqa: E402
from minidiff.course import plot  # noqa: E402
from minidiff.data import load  # noqa: E402
from minidiff.training import best_device  # noqa: E402

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUNDS, TURN = 6, 10.0  # of training for a rate; seconds of training in one go
SAMPLES, STEPS = 500, 50
IMAGES = load("fashion")


def build(name: str, precision: str, compiled: bool) -> Contender:
    torch.manual_seed(0)
    contender = CONTENDERS[name](IMAGES, precision, best_device())
    if compiled:
        contender.net.compile()
        contender.average.compile()
    return contender


def matrix_rate(precision: str) -> float:
    """Multiplications and additions a second in a product of 1024 x 1024 matrices, the best of 20."""
    a, b = torch.randn(2, 1024, 1024, device=best_device(), dtype=PRECISIONS[precision])

    def seconds() -> float:
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for a GPU
        return time.perf_counter() - start

    return 2 * 1024**3 / min(seconds() for _ in range(20))


def flops(contender: Contender) -> int:
    """Multiplications and additions of one call of the network on one picture."""
    x, t, y = torch.randn(1, 1, SIZE, SIZE), torch.tensor([500]), torch.tensor([0])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        contender.call(*(z.to(best_device()) for z in (x, t, y)))
    return counter.get_total_flops()


def training_rates(contenders: dict[tuple[str, str], Contender]) -> dict[tuple[str, str], float]:
    """Images a second of whole training steps: medians over rounds in which each takes four, the last three counted.

    The first step after the others' finds their data in the caches, and is slower than any in a real training.
    """
    took: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(ROUNDS):
        for key, contender in contenders.items():
            contender.step()
            for _ in range(3):
                start = time.perf_counter()
                contender.step()
                took[key].append(time.perf_counter() - start)
    return {key: BATCH / statistics.median(times[3:]) for key, times in took.items()}


def sampling_rates(contenders: dict[str, Contender]) -> dict[str, float]:
    """Images a second for 100 pictures in 20 steps, without guidance: medians of two rounds."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(3):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender.sample(cycle_labels(100, CLASSES), 20)
            took[name].append(time.perf_counter() - start)
    return {name: 100 / statistics.median(times[1:]) for name, times in took.items()}


def train_in_turns(contenders: dict[str, Contender], seconds: float) -> dict[str, int]:
    """Trains each for that many seconds, in turns; returns the steps each has taken."""
    spent, steps = dict.fromkeys(contenders, 0.0), dict.fromkeys(contenders, 0)
    while min(spent.values()) < seconds:
        for name, contender in contenders.items():
            until = min(spent[name] + TURN, seconds)
            while spent[name] < until:
                start = time.perf_counter()
                contender.step()
                spent[name] += time.perf_counter() - start
                steps[name] += 1
        print(f"  {min(spent.values()):.0f} of {seconds:.0f} s each", flush=True)
    return steps


@torch.no_grad()
def real_distance() -> float:
    """Frechet distance of as many real training pictures to the test pictures: the mean of ten draws."""
    net, test = load_classifier("fashion"), load("fashion", "test")
    target = net.features(test.tensor())
    order = torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(0))
    draws = order[: 10 * SAMPLES].split(SAMPLES)
    return statistics.mean(frechet(net.features(IMAGES.tensor(index)), target) for index in draws)


@torch.no_grad()
def judge(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """Frechet distance of pictures to the held-out test pictures, and the share that shows the label asked for."""
    net, test = load_classifier("fashion"), load("fashion", "test")
    x = x.nan_to_num()  # a black picture for one that has blown up
    return {
        "frechet": frechet(net.features(x), net.features(test.tensor())),
        "label_accuracy": label_accuracy(net(x), y),
    }


def peak_memory(name: str, precision: str, compiled: bool) -> float:
    """Megabytes that five training steps need beyond the library itself, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--precision", precision]
    command += ["--compile"] if compiled else []
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def resident_peak() -> float:
    """The most memory this process has had, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # there getrusage begins with the peak of the process that started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def print_memory(name: str, precision: str, compiled: bool) -> None:
    contender = build(name, precision, compiled)
    if best_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before, peak = torch.cuda.memory_allocated() / 1e6, lambda: torch.cuda.max_memory_allocated() / 1e6
    else:
        before, peak = resident_peak(), resident_peak
    for _ in range(5):
        contender.step()
    print(peak() - before)


def run(seconds: float, compiled: bool) -> dict:
    """Measures everything; returns what is written as JSON."""
    both = {(name, precision): build(name, precision, compiled) for name in CONTENDERS for precision in PRECISIONS}
    print("training rates", flush=True)
    rates = training_rates(both)
    best = {name: max(PRECISIONS, key=lambda precision: rates[name, precision]) for name in CONTENDERS}  # noqa: B023
    chosen = {name: both[name, best[name]] for name in CONTENDERS}
    matrix = {precision: matrix_rate(precision) for precision in PRECISIONS}
    rows = {}
    for name, contender in chosen.items():
        rows[name] = {
            "parameters": sum(p.numel() for p in contender.net.parameters()),
            "megaflop_per_image": flops(contender) / 1e6,
            "precision": best[name],
            "training_images_per_second": {precision: rates[name, precision] for precision in PRECISIONS},
            "share_of_matrix_rate": 3 * flops(contender) * rates[name, best[name]] / matrix[best[name]],
            "peak_memory_megabytes": peak_memory(name, best[name], compiled),
        }
    print("sampling rates", flush=True)
    for name, rate in sampling_rates(chosen).items():
        rows[name]["sampling_images_per_second"] = rate
    print("quality", flush=True)
    del both
    fresh = {name: build(name, best[name], compiled) for name in CONTENDERS}
    for name, steps in train_in_turns(fresh, seconds).items():
        y = cycle_labels(SAMPLES, CLASSES)
        torch.manual_seed(0)
        x = torch.cat([fresh[name].sample(part, STEPS) for part in y.split(100)])
        rows[name] |= {"steps": steps, **judge(x, y), "pictures": x[:CLASSES]}
    return {
        "machine": f"{processor()}, {torch.get_num_threads()} threads, {best_device()}",
        "versions": {name: version(name) for name in ("torch", *CONTENDERS)},
        "date": time.strftime("%Y-%m-%d"),
        "compiled": compiled,
        "seconds": seconds,
        "matrix_gflops": {precision: rate / 1e9 for precision, rate in matrix.items()},
        "real_frechet": real_distance(),
        "contenders": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="training seconds for the quality (180)")
    parser.add_argument("--compile", action="store_true", help="torch.compile for all")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    parser.add_argument("--memory-of", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.memory_of:
        return print_memory(args.memory_of, args.precision, args.compile)
    result = run(args.seconds, args.compile)
    pictures = torch.cat([r.pop("pictures") for r in result["contenders"].values()])
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"{result['date']}-{best_device().type}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(table(result) + "\n", encoding="utf-8")
    stem.with_suffix(".png").write_bytes(draw(result).png())
    rows = plot.images(pictures, f"Pictures after {args.seconds:.0f} s, a row for each of {', '.join(CONTENDERS)}.")
    stem.with_name(stem.name + "-pictures.png").write_bytes(rows.png())
    print(table(result))


if __name__ == "__main__":
    main()
