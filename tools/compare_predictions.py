"""What should a network predict when the data are few dimensions in many? For chapter 05: data/predictions.json.

    python tools/compare_predictions.py                # all runs: about five minutes on one core
    python tools/compare_predictions.py --dims 2 --by v  # some runs again; the rest of the file stays
    python tools/compare_predictions.py --only in_16     # D = 16 in detail, for the deeper notebook: five minutes
    python tools/compare_predictions.py --only balances  # section 5's three recipes again: five minutes

The data are a swiss roll in a random plane of 2, 16 or 512 dimensions, as in Li & He 2025. Networks of one size are
trained to predict x0, v or eps: as in the paper by the squared error of v that follows from the answer, and once more
by that of their own target. Samples are judged by their energy distance to fresh data and by how far they lie off the
plane. In 16 dimensions v is trained longer, and by its part in the plane alone, and judged by the share of samples
beside the roll, farther than 0.15 from its middle line. The balances are runs of the chapter's own cells.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402
from train_classifiers import processor  # noqa: E402

from minidiff import (  # noqa: E402
    Cosine,
    Denoiser,
    Mixture,
    add_noise,
    ddpm,
    denoising_loss,
    final,
    sample_times,
    times,
    weight,
)
from minidiff.app.metrics import nearest  # noqa: E402
from minidiff.data.toy import swiss_roll, swiss_roll_line  # noqa: E402
from minidiff.nets.mlp import MLP, MLPConfig  # noqa: E402

OUT = ROOT / "data" / "predictions.json"
CHAPTER = ROOT / "notebooks" / "src" / "05_simplified_loss.py"
DIMS, PREDICTIONS, LOSSES = (2, 16, 512), ("x0", "v", "eps"), ("v", "own")
SHOWN = {("x0", "v"), ("v", "v"), ("eps", "own")}  # whose samples are stored
STEPS, BATCH, LR, WIDTH = 1500, 256, 1e-3, 128
FIRST, LAST = 0.98, 0.02  # at the very ends eps or x0 is not determined (eq. 5.10)
SAMPLES, SAMPLING_STEPS, STORED = 2000, 100, 400


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plane_in(dims: int) -> Tensor:
    """Return an orthonormal basis (dims, 2) of a random plane."""
    return torch.linalg.qr(torch.randn(dims, 2, generator=seeded(0)))[0]


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'|, unbiased: zero for equal distributions (Szekely & Rizzo 2013)."""
    within = [torch.cdist(z, z).sum() / (len(z) * (len(z) - 1)) for z in (x, y)]
    return float(2 * torch.cdist(x, y).mean() - sum(within))


def train(
    dims: int, prediction: str, by: str, seed: int = 0, steps: int = STEPS, keep: Tensor | None = None
) -> tuple[Denoiser, float]:
    """Return a denoiser trained by the squared error of `by`, and the mean squared error of its own target at last.

    With a matrix `keep` (dims, dims) only this part of the denoiser's answer counts.
    """
    schedule, plane, generator = Cosine(), plane_in(dims), seeded(seed)
    torch.manual_seed(seed)
    denoiser = Denoiser(MLP(MLPConfig(dim=dims, width=WIDTH)), schedule, prediction)
    adam = torch.optim.Adam(denoiser.parameters(), lr=LR, fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: min(1, (i + 1) / 100) * (1 - i / steps))
    own, whole = [], torch.eye(dims) if keep is None else keep
    for _ in range(steps):
        x0 = swiss_roll(BATCH, generator) @ plane.T  # (B, dims)
        eps = torch.randn(x0.shape, generator=generator)
        t = LAST + (FIRST - LAST) * sample_times(BATCH, generator, start=0.0)
        error = denoising_loss(lambda *a: denoiser(*a) @ whole, x0, eps, t, schedule)  # (B,)
        loss = (weight(prediction if by == "own" else by, t, schedule) * error).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        own.append(float((weight(prediction, t, schedule) * error.detach()).mean()))
    return denoiser.eval().requires_grad_(False), sum(own[-100:]) / 100


def compare(dims: int, prediction: str, by: str) -> dict:
    """Train one network, sample from it and judge the samples."""
    start = time.process_time()
    denoiser, loss = train(dims, prediction, by)
    noise = torch.randn(SAMPLES, dims, generator=seeded(100))
    ts = torch.cat([times(SAMPLING_STEPS, FIRST, LAST), torch.zeros(1, dtype=torch.float64)])
    x = final(ddpm(denoiser, noise, ts, Cosine(), seeded(200))).float()
    plane = plane_in(dims)
    truth = swiss_roll(SAMPLES, seeded(300)) @ plane.T
    off_plane = (x - x @ plane @ plane.T).norm(dim=1)
    run = {
        "dims": dims,
        "prediction": prediction,
        "by": by,
        "loss": round(loss, 5),
        "energy_distance": round(energy_distance(x, truth), 4),
        "off_plane": round(float(off_plane.mean()), 4),
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    if (prediction, by) in SHOWN:
        run["points"] = [[round(u, 2) for u in point] for point in (x[:STORED] @ plane).tolist()]
    return run


def in_16(prediction: str, part: str, steps: int, seed: int) -> dict:
    """Train in 16 dimensions by the error of v; return the own error in the plane, and the share beside the roll."""
    plane = plane_in(16)
    keep = torch.eye(16) if part == "all" else plane @ plane.T
    denoiser = train(16, prediction, "v", seed, steps, keep)[0]

    def told(x: Tensor, t: Tensor) -> Tensor:
        return denoiser(x, t) @ keep

    line = swiss_roll_line(880)
    roll = Mixture(torch.full((880,), 1 / 880), line, torch.full((880,), 0.059))
    generator = seeded(77)
    x0 = swiss_roll(10_000, generator) @ plane.T
    eps = torch.randn(x0.shape, generator=generator)
    t = LAST + (FIRST - LAST) * sample_times(10_000, generator, start=0.0)
    x_t = add_noise(x0, eps, t, Cosine())
    parts = zip((x_t @ plane).split(2000), t.split(2000), strict=True)
    mean = torch.cat([roll.denoise(x, u, Cosine()) for x, u in parts])
    own = weight("v", t, Cosine()) * (told(x_t, t) @ plane - mean).square().sum(1)

    ts = torch.cat([times(SAMPLING_STEPS, FIRST, LAST), torch.zeros(1, dtype=torch.float64)])
    x = final(ddpm(told, torch.randn(SAMPLES, 16, generator=seeded(100)), ts, Cosine(), seeded(200))).float()
    beside = (nearest(x @ plane, swiss_roll_line(9000))[0] > 0.15).double().mean()
    return {
        "prediction": prediction,
        "part": part,
        "steps": steps,
        "seed": seed,
        "own_error": round(float(own.mean()), 4),
        "beside": round(float(beside), 4),
    }


def balances() -> list[dict]:
    """Return bits and % misread of section 5's recipes, by the chapter's own cells: three seeds, and a larger batch."""
    g: dict = {}
    for cell in CHAPTER.read_text(encoding="utf-8").split("# %%")[1:]:
        kind, _, code = cell.partition("\n")
        if "[markdown]" not in kind and "check" not in kind:
            exec(code.partition("nets = {name")[0], g)
        if "def draw(net)" in code:
            break
    classifier, g["asked"] = g["load_classifier"]("digits"), torch.arange(500) % 10

    def judged(recipe: str, seed: int, batch: int) -> dict:
        def drawn(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            index = torch.randint(len(g["flat"]), (batch,), generator=generator)
            return g["flat"][index], g["digit"][index]

        net = g["new_net"](seed, dim=64, num_classes=10, width=160)
        g["fit"](net, drawn, steps=1000, **g["recipes"][recipe])
        read = g["label_accuracy"](classifier(g["draw"](net)), g["asked"])
        bits, misread = round(g["code_length"](net), 3), round(100 * (1 - read), 1)
        return {"recipe": recipe, "seed": seed, "batch": batch, "bits": bits, "misread": misread}

    cases = ((0, 128), (1, 128), (2, 128), (0, 768))
    found = []
    for recipe in g["recipes"]:
        for case in cases:
            found.append(judged(recipe, *case))
            print(found[-1], flush=True)
    return found


def write(stored: dict) -> None:
    """Write the file, each run on a line."""
    text = json.dumps(stored)
    for key in ('{"dims"', '"runs"', '"in_16"', '"balances"', '{"prediction"', '{"recipe"'):
        text = text.replace(key, "\n" + key)
    OUT.write_text(text + "\n", encoding="utf-8", newline="\n")
    register(OUT)


def again(part: str) -> None:
    """Make one of the two further lists anew."""
    torch.set_num_threads(1)
    if part == "balances":
        found = balances()
    else:
        found = []
        for case in (("v", "all", 1500), ("v", "plane", 1500), ("v", "all", 6000), ("x0", "all", 1500)):
            for seed in (0, 1):
                found.append(in_16(*case, seed))
                print(found[-1], flush=True)
    write(json.loads(OUT.read_text(encoding="utf-8")) | {part: found})


def usual(dims: int) -> float:
    """Return the energy distance between two draws of data, the most of eight pairs."""
    draws = [swiss_roll(SAMPLES, seeded(400 + k)) for k in range(16)]
    return round(max(energy_distance(x, y) for x, y in zip(draws[::2], draws[1::2], strict=True)), 4)


def main(dims: list[int], losses: list[str]) -> None:
    torch.set_num_threads(1)
    # for v the two losses are one
    wanted = [(d, p, by) for by in losses for d in dims for p in PREDICTIONS if (p, by) != ("v", "own")]
    for key in wanted:
        run = compare(*key)
        print({name: value for name, value in run.items() if name != "points"}, flush=True)
        stored = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
        runs = stored.get("runs", [])
        runs = [old for old in runs if (old["dims"], old["prediction"], old["by"]) != key] + [run]
        runs.sort(key=lambda r: (r["dims"], PREDICTIONS.index(r["prediction"]), LOSSES.index(r["by"])))
        about = {
            "data": "swiss roll in a random plane",
            "network": f"MLP of width {WIDTH}",
            "training": f"{STEPS} steps of {BATCH}, Adam, learning rate {LR}, t from {LAST} to {FIRST}",
            "seed": 0,
            "width": WIDTH,
            "times": [LAST, FIRST],
            "sampling": f"{SAMPLES} samples, {SAMPLING_STEPS} steps of ddpm",
            "usual": usual(2),
            "command": "python tools/compare_predictions.py",
            "machine": f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
        }
        write(stored | {"about": about, "runs": runs})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", nargs="+", type=int, default=list(DIMS), choices=DIMS)
    parser.add_argument("--by", nargs="+", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--only", choices=("in_16", "balances"))
    arguments = parser.parse_args()
    if arguments.only:
        again(arguments.only)
    else:
        main(arguments.dims, arguments.by)
