"""How are pictures asked of a trained denoiser?

Noise drawn on the CPU from one seed, classifier-free guidance towards the wanted labels, DPM-Solver++(2M) down to
the data: the one way in which the command line, the checkpoints and the metrics draw samples.
"""

import torch
from torch import Tensor

from minidiff.denoiser import Denoiser
from minidiff.guidance import cfg
from minidiff.samplers import dpmpp_2m, final, times

GUIDANCE = 2.0
STEPS = 25


def best_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def every_label(n: int, classes: int) -> Tensor:
    """n labels, each class as often as the others (or once more): 0 1 2 ... 0 1 2 ..., (n,) int64."""
    return torch.arange(n) % max(classes, 1)


def generate(
    denoiser: Denoiser,
    labels: Tensor,
    size: tuple[int, ...],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 0,
) -> Tensor:
    """One picture of `size` (C, H, W) for each label (B,) int64: (B, C, H, W) float32 in [-1, 1], on the CPU."""
    device = next(denoiser.parameters()).device
    noise = torch.randn((len(labels), *size), generator=torch.Generator().manual_seed(seed))
    noise = noise * denoiser.schedule(1.0)[1]  # x at t = 1 is N(0, sigma^2)
    pictures = []
    for x, cond in zip(noise.split(100), labels.split(100), strict=True):  # a hundred at a time bounds the memory
        guided = cfg(denoiser, cond.to(device), denoiser.net.config.classes, guidance)
        pictures.append(final(dpmpp_2m(guided, x.to(device), times(steps), denoiser.schedule)).cpu())
    return torch.cat(pictures).clamp(-1, 1)
