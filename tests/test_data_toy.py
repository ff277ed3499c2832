"""Two-dimensional sets: moments, supports, and the mixture's own parameters."""

import math

import pytest
import torch

from minidiff import Mixture
from minidiff.data import toy

SAMPLERS = [toy.moons, toy.rings, toy.checkerboard, toy.swiss_roll, toy.mixture]


def draw(sampler, n, seed=0):
    return sampler(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_mean_zero_variance_one(sampler):
    x = draw(sampler, 200_000)
    assert x.shape == (200_000, 2) and x.dtype == torch.float32
    assert x.mean(0).abs().max() < 0.01  # four standard errors
    assert (x.var(0) - 1).abs().max() < 0.015


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_generator_decides(sampler):
    assert torch.equal(draw(sampler, 50), draw(sampler, 50))
    assert not torch.equal(draw(sampler, 50), draw(sampler, 50, seed=1))


def test_checkerboard_fills_only_its_dark_fields():
    x = draw(toy.checkerboard, 100_000)
    column, row = ((x * math.sqrt(16 / 12)) + 2).floor().long().clamp(0, 3).T
    count = torch.zeros(4, 4).index_put((row, column), torch.ones(len(x)), accumulate=True)
    dark = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 0
    assert count[~dark].sum() == 0
    assert (count[dark] / len(x) - 1 / 8).abs().max() < 0.005


def test_rings_have_two_radii_one_twice_the_other():
    radius = draw(toy.rings, 100_000).norm(dim=1)
    outside = radius > radius.mean()
    inner, outer = radius[~outside], radius[outside]
    assert abs(outer.mean() / inner.mean() - 2) < 0.01
    assert abs(outside.float().mean() - 0.5) < 0.01
    assert inner.std() / inner.mean() < 0.1 and outer.std() / outer.mean() < 0.05


def test_moons_are_half_circles_of_one_radius():
    x = draw(toy.moons, 100_000)
    assert (x**3).mean(0).abs().max() < 0.03  # a half turn maps the set onto itself
    noise = 0.08
    scale = torch.tensor([0.75, 0.5 - 4 / math.pi**2 + (2 / math.pi - 0.25) ** 2]) + noise**2
    plain = x * scale.sqrt() + torch.tensor([0.5, 0.25])  # circles around (0, 0) and (1, 1/2)
    upper, lower = plain.norm(dim=1), (plain - torch.tensor([1, 0.5])).norm(dim=1)
    off = torch.minimum((upper - 1).abs(), (lower - 1).abs())
    assert abs(off.square().mean().sqrt() / noise - 1) < 0.1


def test_swiss_roll_lies_about_its_line():
    away = torch.cdist(draw(toy.swiss_roll, 20_000), toy.swiss_roll_line(4000)).min(1)[0]
    assert abs((away > 0.15).double().mean() - 0.012) < 0.004  # 2.5 standard deviations of a bell
    assert (away.square().mean().sqrt() - 0.059).abs() < 0.003


def test_swiss_roll_winds_outwards():
    x = draw(toy.swiss_roll, 400_000)
    assert (x.var(0) - 1).abs().max() < 0.006  # four standard errors; its two axes differ by 0.011
    scale = torch.tensor([48.11 - 0.25 - 4, 48.11 + 0.25 - (2 / (3 * math.pi)) ** 2]) + 0.4**2
    plain = x * scale.sqrt() + torch.tensor([2, 2 / (3 * math.pi)])
    radius, angle = plain.norm(dim=1), torch.atan2(plain[:, 1], plain[:, 0])
    off = torch.remainder(radius - angle + math.pi, 2 * math.pi) - math.pi  # of the ribbon radius = angle
    assert abs(off.square().mean().sqrt() - 0.4) < 0.03
    assert abs(radius.mean() - 3 * math.pi) < 0.05 and radius.max() < 4.5 * math.pi + 2


def test_mixture_parameters_are_those_of_the_samples_and_of_the_oracle():
    weights, means, stds = toy.mixture_parameters()
    assert torch.allclose(weights[1::2] / weights[::2], torch.tensor(3.0))  # the likelier are the wider
    assert torch.allclose(stds[1::2] / stds[::2], torch.tensor(2.0))
    x = draw(toy.mixture, 400_000)
    nearest = torch.cdist(x, means).argmin(1)
    assert (torch.bincount(nearest, minlength=8) / len(x) - weights).abs().max() < 0.004
    m, v = means**2, stds[:, None] ** 2
    fourth = (weights[:, None] * (m**2 + 6 * m * v + 3 * v**2)).sum(0)  # E[x^4] of a Gaussian
    assert ((x**4).mean(0) / fourth - 1).abs().max() < 0.01
    oracle = Mixture(weights, means, stds).sample(400_000, torch.Generator().manual_seed(1))
    assert ((x**4).mean(0) / (oracle**4).mean(0) - 1).abs().max() < 0.015
