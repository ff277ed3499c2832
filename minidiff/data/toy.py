"""Two-dimensional point sets: moons, rings, checkerboard, swiss roll, mixture of Gaussians.

Each sampler draws n points (n, 2) float32, shifted and scaled by its exact moments to mean zero and
variance one along both axes, so that one noise schedule suits all. A mixture of Gaussians is the set whose
score, posterior and likelihood are known: `mixture_parameters` are the arguments of
`minidiff.oracle.Mixture`.
"""

import math

import torch
from torch import Generator, Tensor

ROLL_NOISE = 0.4  # of the swiss roll, before it is scaled to variance one


def moons(n: int, generator: Generator | None = None) -> Tensor:
    """Draw two interleaved half circles with a little noise, (n, 2)."""
    angle = math.pi * torch.rand(n, generator=generator)
    lower = torch.rand(n, generator=generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    noise = 0.08
    points = torch.stack([x, y], 1) + noise * torch.randn((n, 2), generator=generator)  # (n, 2)
    between = (2 / math.pi - 0.25) ** 2  # of the two mean heights, 2/pi and 1/2 - 2/pi, around 1/4
    variance = torch.tensor([0.75, 0.5 - 4 / math.pi**2 + between]) + noise**2
    return (points - torch.tensor([0.5, 0.25])) / variance.sqrt()


def rings(n: int, generator: Generator | None = None) -> Tensor:
    """Draw two rings around the origin, one twice as wide as the other, with a little noise, (n, 2)."""
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    radius = 1.0 + (torch.rand(n, generator=generator) < 0.5)
    noise = 0.08
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)  # (n, 2)
    points = points + noise * torch.randn((n, 2), generator=generator)
    return points / math.sqrt((1 + 4) / 2 / 2 + noise**2)  # E[radius^2] / 2 along each axis


def checkerboard(n: int, generator: Generator | None = None) -> Tensor:
    """Draw from the dark fields of a board of 4 by 4, filled evenly, (n, 2)."""
    column = torch.randint(4, (n,), generator=generator)
    row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
    points = torch.stack([column, row], 1) + torch.rand((n, 2), generator=generator)  # (n, 2) in [0, 4]
    return (points - 2) / math.sqrt(16 / 12)


def swiss_roll(n: int, generator: Generator | None = None) -> Tensor:
    """Draw from a ribbon rolled up one and a half times, with a little noise, (n, 2)."""
    points = _wound(torch.rand(n, generator=generator))
    return _unit(points + ROLL_NOISE * torch.randn((n, 2), generator=generator))


def swiss_roll_line(n: int) -> Tensor:
    """Return n points (n, 2) on the middle line of `swiss_roll`, from the inner end to the outer: no noise."""
    return _unit(_wound(torch.linspace(0, 1, n)))


def _wound(share: Tensor) -> Tensor:
    """Return the points (n, 2) of the roll's line at these shares (n,) of its angle."""
    angle = 1.5 * math.pi * (1 + 2 * share)
    return angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def _unit(points: Tensor) -> Tensor:
    """Shift and scale points (n, 2) of the roll so that its noisy draws have mean 0 and variance 1."""
    mean = torch.tensor([2.0, 2 / (3 * math.pi)])
    square = 9.75 * math.pi**2 / 2 + torch.tensor([-0.25, 0.25])  # E[angle^2] / 2, and what cos(2 angle) adds
    return (points - mean) / (square - mean**2 + ROLL_NOISE**2).sqrt()


def mixture_parameters() -> tuple[Tensor, Tensor, Tensor]:
    """Return weights (8,), means (8, 2) and stds (8,) of the mixture that `mixture` draws from."""
    weights = torch.tensor([1.0, 3.0]).repeat(4) / 16
    stds = torch.tensor([0.1, 0.2]).repeat(4)
    radius = (2 - 2 * (weights * stds**2).sum()).sqrt()  # makes radius^2 / 2 + E[std^2], the variance, one
    angle = torch.arange(8) * math.pi / 4
    means = radius * torch.stack([angle.cos(), angle.sin()], 1)  # (8, 2)
    return weights, means, stds


def mixture(n: int, generator: Generator | None = None) -> Tensor:
    """Draw from eight Gaussians on a circle, every other one three times as likely and twice as wide, (n, 2)."""
    weights, means, stds = mixture_parameters()
    k = torch.multinomial(weights, n, replacement=True, generator=generator)
    return means[k] + stds[k, None] * torch.randn((n, 2), generator=generator)
