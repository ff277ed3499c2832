"""What should a network predict when the data are few dimensions in many? For chapter 05: data/predictions.json.

    python tools/compare_predictions.py                # all runs: about five minutes on one core
    python tools/compare_predictions.py --dims 2 --by v  # some runs again; the rest of the file stays

The data are a swiss roll in a random plane of 2, 16 or 512 dimensions, as in Li & He 2025. Networks of one size are
trained to predict x0, v or eps: as in the paper by the squared error of v that follows from the answer, and once more
by that of their own target. Samples are judged by their energy distance to fresh data and by how far they lie off the
plane.
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

from minidiff import Cosine, Denoiser, ddpm, denoising_loss, final, sample_times, times, weight  # noqa: E402
from minidiff.data.toy import swiss_roll  # noqa: E402
from minidiff.nets.mlp import MLP, MLPConfig  # noqa: E402

OUT = ROOT / "data" / "predictions.json"
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


def train(dims: int, prediction: str, by: str, seed: int = 0) -> tuple[Denoiser, float]:
    """Return a denoiser trained by the squared error of `by`, and the mean squared error of its own target at last."""
    schedule, plane, generator = Cosine(), plane_in(dims), seeded(seed)
    torch.manual_seed(seed)
    denoiser = Denoiser(MLP(MLPConfig(dim=dims, width=WIDTH)), schedule, prediction)
    adam = torch.optim.Adam(denoiser.parameters(), lr=LR, fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: min(1, (i + 1) / 100) * (1 - i / STEPS))
    own = []
    for _ in range(STEPS):
        x0 = swiss_roll(BATCH, generator) @ plane.T  # (B, dims)
        eps = torch.randn(x0.shape, generator=generator)
        t = LAST + (FIRST - LAST) * sample_times(BATCH, generator, start=0.0)
        error = denoising_loss(denoiser, x0, eps, t, schedule)  # (B,)
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
        runs = json.loads(OUT.read_text(encoding="utf-8"))["runs"] if OUT.exists() else []
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
        text = json.dumps({"about": about, "runs": runs})
        text = text.replace('{"dims"', '\n{"dims"').replace('"runs"', '\n"runs"')
        OUT.write_text(text + "\n", encoding="utf-8", newline="\n")
        register(OUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", nargs="+", type=int, default=list(DIMS), choices=DIMS)
    parser.add_argument("--by", nargs="+", default=list(LOSSES), choices=LOSSES)
    arguments = parser.parse_args()
    main(arguments.dims, arguments.by)
