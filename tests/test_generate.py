"""Drawing: from which noise a picture starts, which noise it meets on its way, and what may not come out."""

import pytest
import torch
from torch import nn

from minidiff.app.generate import Model, Sampling, cycle_labels, generate
from minidiff.denoiser import Denoiser
from minidiff.samplers import State
from minidiff.schedule import Cosine, Flow, VarianceExploding

SIZE = 1, 8, 8


class Constant(nn.Module):
    """A network whose picture is the same number everywhere, whatever it sees: one number with labels, one without."""

    null = 1

    def __init__(self, *values: float):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x, t, cond=None):
        value = self.values[1] if cond is None else self.values[cond][:, None, None, None]
        return value.expand(x.shape)


def painter(schedule=Cosine(), with_label=0.5, without=0.25):  # noqa: B008 (frozen)
    return Denoiser(Constant(with_label, without), schedule, "x0")


def standing(denoise, x, ts, schedule, seen):
    """A sampler that keeps what it starts from."""
    seen.append(x)
    yield State(ts[-1], denoise(x, ts[0]), x)


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), VarianceExploding()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("start", [1.0, 0.5])
def test_the_start_has_the_schedules_noise(schedule, start):
    seen = []
    ts = torch.tensor([start, 0.0], dtype=torch.float64)
    generate(painter(schedule), torch.zeros(300, dtype=torch.long), SIZE, lambda *a: standing(*a, seen), ts)
    assert [len(x) for x in seen] == [100, 100, 100]  # in parts
    torch.testing.assert_close(torch.cat(seen).std(), schedule(start)[1].float(), rtol=0.03, atol=0)


def test_conditions_may_be_a_dict():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, t, cond=None):
            return (self.weight * cond["a"] + cond["b"])[:, None, None, None].expand(x.shape)

    denoiser = Denoiser(Adds(), Cosine(), "x0", null={"a": 0.0, "b": 0.0})
    cond = {"a": torch.linspace(0, 0.5, 130), "b": torch.linspace(0, -0.1, 130)}
    x = generate(denoiser, cond, SIZE, ts=torch.tensor([1.0, 0.5, 0.0]), guidance=2.0)
    torch.testing.assert_close(x, (2 * (cond["a"] + cond["b"]))[:, None, None, None].expand(x.shape))


def test_noise_on_the_way_is_another_than_that_of_the_start():
    torch.manual_seed(0)
    sampler = Sampling("ddpm", 2).seeded_sampler(7)
    drawn = []

    def denoise(x, t):
        drawn.append(x)
        return torch.zeros_like(x)

    start = torch.randn(1000, generator=torch.Generator().manual_seed(7))[:, None]
    list(sampler(denoise, start, Sampling("ddpm", 2).times(), Cosine()))
    assert abs(torch.corrcoef(torch.cat(drawn, 1).T)[0, 1]) < 0.1
    again = list(Sampling("ddpm", 2).seeded_sampler(7)(denoise, start, Sampling("ddpm", 2).times(), Cosine()))
    torch.testing.assert_close(drawn[3], drawn[1])  # of the seed alone
    assert len(again) == 2


def test_the_seed_and_the_batch_decide_the_start():
    cond = torch.zeros(3, dtype=torch.long)
    seen = {}
    for seed in 0, 1, 0:
        generate(painter(), cond, SIZE, lambda *a, s=seed: standing(*a, seen.setdefault(s, [])), seed=seed)
    torch.testing.assert_close(seen[0][0], seen[0][1])
    assert not torch.allclose(seen[0][0], seen[1][0])


@pytest.mark.parametrize("guidance, value", [(0.0, 0.25), (1.0, 0.5), (2.0, 0.75), (3.0, 1.0), (30.0, 1.0)])
def test_guidance_acts_and_pictures_stay_in_range(guidance, value):
    x = generate(painter(), torch.zeros(2, dtype=torch.long), SIZE, guidance=guidance)
    torch.testing.assert_close(x, torch.full((2, *SIZE), value))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pictures_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="expected finite pictures, got 2 of 2"):
        generate(painter(with_label=value), torch.zeros(2, dtype=torch.long), SIZE, guidance=1.0)


@pytest.mark.parametrize("steps, shift", [(1, 1.0), (7, 1.0), (7, 3.0)])
def test_a_grid_has_its_steps_and_its_shift(steps, shift):
    ts = Sampling(steps=steps, shift=shift).times()
    assert len(ts) == steps + 1
    even = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    torch.testing.assert_close(ts, shift * even / (1 + (shift - 1) * even))


def test_labels_come_in_turn():
    assert cycle_labels(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert cycle_labels(2, 0).tolist() == [0, 0]


class Loud:
    """Codes that the decoder makes ten times as large."""

    scale = 1.0

    def shape(self, size):
        return SIZE

    def decode(self, z):
        return 10 * z


def test_pictures_of_codes_stay_in_range_too():
    model = Model(painter(), ("a",), SIZE, Loud())
    x = model.sample(torch.zeros(2, dtype=torch.long), Sampling(steps=2, guidance=1.0))
    torch.testing.assert_close(x, torch.ones(2, *SIZE))


@pytest.mark.parametrize("label", [-1, 3, 10])
def test_labels_that_a_model_does_not_know_are_refused(label):
    model = Model(painter(), tuple("abc"), SIZE)
    assert model.labels(2, 4).tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match=f"among 0 a, 1 b, 2 c; got {label}"):
        model.labels(label, 4)
