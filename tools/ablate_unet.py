"""What does each part of the U-Net buy? Measures it for chapter 06: data/ablation-unet.json.

    python tools/ablate_unet.py                       # every variant, two seeds: about half an hour on one core
    python tools/ablate_unet.py "no skips" --seeds 1  # one run again; the rest of the file stays

A variant is the package's network with one part taken out by surgery, trained by the package's recipe on the same
pictures, times and noises. Where a part had weights, something dull with as many weights takes its place. Each is
judged on test pictures: by its loss, with fixed times and noise, and by what it draws.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from make_data import register  # noqa: E402
from train_classifiers import processor  # noqa: E402

from minidiff import Cosine, Denoiser, denoising_loss, times, weight  # noqa: E402
from minidiff.app.generate import cycle_labels, generate  # noqa: E402
from minidiff.app.metrics import frechet, label_accuracy, load_classifier  # noqa: E402
from minidiff.data import Images, load  # noqa: E402
from minidiff.nets.unet import Attention, BlockList, ChannelNorm, ResBlock, UNet, UNetConfig  # noqa: E402
from minidiff.training import TrainConfig, TrainState, progress_bar, train  # noqa: E402

OUT = ROOT / "data" / "ablation-unet.json"
STEPS, SAMPLES, SAMPLING_STEPS = 600, 500, 25
RECIPE = TrainConfig(precision="fp32")  # the same arithmetic on every machine
SLOWEST = 1000 * 10000 ** (-47 / 48)  # of the 48 frequencies of the default embedding


class Deaf(UNet):
    """The network that is told t = 0.5 whatever the time is: the time's weights are there, and idle."""

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return super().forward(x, torch.full_like(t, 0.5), cond)


class OneNumber(nn.Module):
    """The time as one bare number: of all the waves (B, D) only the slowest sine, which is t but for a factor."""

    def forward(self, waves: Tensor) -> Tensor:
        return F.pad(waves[:, -1:] / waves.new_tensor(SLOWEST), (0, waves.shape[1] - 1))


class PixelByPixel(nn.Module):
    """In place of attention: two layers that look at one pixel (37,344 weights for attention's 37,440)."""

    def __init__(self, c: int):
        super().__init__()
        self.layers = nn.Sequential(ChannelNorm(c), nn.Conv2d(c, 2 * c, 1), nn.SiLU(), nn.Conv2d(2 * c, c, 1))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def whole() -> UNet:
    return UNet(UNetConfig())


def without_time() -> UNet:
    return Deaf(UNetConfig())


def bare_time() -> UNet:
    net = whole()
    net.embed.time.insert(0, OneNumber())
    return net


def without_skips() -> UNet:
    """The way up gets its own features twice instead of those of the way down."""
    net = whole()
    for blocks in net.up:
        blocks[0].register_forward_pre_hook(twice_from_below)
    return net


def twice_from_below(_block: nn.Module, args: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, emb = args
    return x.chunk(2, dim=1)[0].repeat(1, 2, 1, 1), emb


def without_attention() -> UNet:
    net = whole()
    net.middle[1] = PixelByPixel(net.middle[1].out.out_channels)
    return net.to(memory_format=torch.channels_last)


def without_zeros() -> UNet:
    """Layers that start at zero start as any other layer does."""
    net = whole()
    for module in net.modules():
        if isinstance(module, ResBlock):
            module.conv2.reset_parameters()
        if isinstance(module, Attention):
            module.out.reset_parameters()
    net.head[0].reset_parameters()
    return net.to(memory_format=torch.channels_last)


def without_levels() -> UNet:
    """A plain row of blocks at one size, with about as much arithmetic (so with fewer weights), and no attention."""
    net = UNet(UNetConfig(width=32, channel_mult=(1,)))
    net.middle[1] = nn.Identity()
    net.middle[2] = BlockList(ResBlock(32, 32, 128) for _ in range(3))
    return net.to(memory_format=torch.channels_last)


VARIANTS = {
    "whole": whole,
    "no time": without_time,
    "bare time": bare_time,
    "no skips": without_skips,
    "no attention": without_attention,
    "no zero-init": without_zeros,
    "no levels": without_levels,
}


def cost(net: UNet) -> tuple[int, float]:
    """(weights, MFLOP for one picture forward)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 1, 32, 32), torch.zeros(1))
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops() / 1e6


@torch.no_grad()
def loss_by_time(denoiser: Denoiser, images: Images) -> list[float]:
    """Mean loss in each tenth of [0, 1], weighted as in training; times and noise are the same for all."""
    generator = torch.Generator().manual_seed(0)
    x0, y = images[torch.arange(0, len(images), 2)]
    losses = []
    for k in range(10):
        t = ((k + torch.rand(len(x0), generator=generator)) / 10).clamp(min=1e-3)
        eps = torch.randn(x0.shape, generator=generator)
        parts = zip(*(z.split(250) for z in (x0, eps, t, y)), strict=True)
        errors = torch.cat([denoising_loss(denoiser, *part, Cosine(), cond) for *part, cond in parts])  # (B,)
        losses.append((weight("v", t, Cosine()) * errors).mean().item())
    return losses


def judge(images: Images) -> tuple:
    """(what scores pictures asked for as labels, the score of real pictures): 500 against the other 1,500."""
    classifier = load_classifier(images.name)
    asked = cycle_labels(SAMPLES, len(images.classes))
    order = torch.argsort(images.y, stable=True).view(len(images.classes), -1)  # (classes, pictures of each)
    peers = order[:, : SAMPLES // len(images.classes)].T.flatten()  # in the order of `asked`
    others = order[:, SAMPLES // len(images.classes) :].flatten()

    @torch.no_grad()
    def describe(x: Tensor) -> Tensor:
        return torch.cat([classifier.features(part) for part in x.split(500)])

    reference = describe(images.tensor(others))

    @torch.no_grad()
    def score(x: Tensor) -> dict[str, float]:
        return {"label_accuracy": label_accuracy(classifier(x), asked), "frechet": frechet(describe(x), reference)}

    return score, score(images.tensor(peers))


def ablate(name: str, seed: int, data: Images, unseen: Images, score) -> dict:
    """One variant trained and judged."""
    torch.manual_seed(seed)
    net = VARIANTS[name]()
    weights, mflop = cost(net)
    training = TrainState(Denoiser(net, Cosine()), replace(RECIPE, seed=seed))
    for _ in progress_bar(train(training, data, steps=STEPS)):
        pass
    denoiser = training.ema.module.eval()
    bins = loss_by_time(denoiser, unseen)
    draw = partial(
        generate, denoiser, cycle_labels(SAMPLES, len(unseen.classes)), unseen.shape, ts=times(SAMPLING_STEPS)
    )
    return {
        "variant": name,
        "seed": seed,
        "weights": weights,
        "mflop": round(mflop, 1),
        "seconds": round(training.seconds),
        "loss": round(sum(bins) / 10, 5),
        "loss_by_time": [round(loss, 5) for loss in bins],
        "guidance 1": {key: round(value, 4) for key, value in score(draw(guidance=1.0)).items()},
        "guidance 2": {key: round(value, 4) for key, value in score(draw(guidance=2.0)).items()},
    }


def main(names: list[str], seeds: list[int]) -> None:
    data, unseen = load("fashion"), load("fashion", "test")
    score, real = judge(unseen)
    for seed in seeds:
        for name in names:
            row = ablate(name, seed, data, unseen, score)
            print(row, flush=True)
            runs = json.loads(OUT.read_text(encoding="utf-8"))["runs"] if OUT.exists() else []
            runs = [run for run in runs if (run["variant"], run["seed"]) != (name, seed)] + [row]
            runs.sort(key=lambda run: (list(VARIANTS).index(run["variant"]), run["seed"]))
            about = {
                "data": f"{data.name}: trained on {len(data):,} pictures, judged on {len(unseen):,} others",
                "steps": STEPS,
                "recipe": asdict(RECIPE),
                "samples": SAMPLES,
                "sampling_steps": SAMPLING_STEPS,
                "machine": f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
            }
            text = json.dumps({"about": about, "real": real, "runs": runs}, indent=1)
            OUT.write_text(text + "\n", encoding="utf-8", newline="\n")
            register(OUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    arguments = parser.parse_args()
    main(arguments.names, arguments.seeds)
