"""A network that is told the right target must come out as the right denoiser, for every prediction and schedule."""

import pytest
import torch
from torch import nn

from minidiff.denoiser import Denoiser
from minidiff.process import add_noise, target
from minidiff.schedule import Cosine


class Constant(nn.Module):
    """Gives a fixed answer and remembers what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, t, cond):
        self.asked = (x, t, cond)
        return self.answer


def test_the_true_target_gives_the_true_image(schedule, prediction):
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    net = Constant(target(prediction, x0, eps, 0.4, schedule))
    torch.testing.assert_close(
        Denoiser(net, schedule, prediction)(add_noise(x0, eps, 0.4, schedule), 0.4), x0, rtol=1e-7, atol=1e-7
    )


def test_the_network_gets_a_time_per_sample_and_the_condition():
    net = Constant(torch.zeros(3, 1, 4, 4))
    labels = torch.tensor([1, 2, 3])
    Denoiser(net, Cosine())(torch.zeros(3, 1, 4, 4), torch.tensor(0.25, dtype=torch.float64), labels)
    _, t, cond = net.asked
    assert torch.equal(t, torch.full((3,), 0.25)) and torch.equal(cond, labels)


def test_half_precision_answers_come_back_in_the_datas_dtype():
    net = Constant(torch.zeros(3, 2, dtype=torch.bfloat16))
    assert Denoiser(net, Cosine())(torch.zeros(3, 2), 0.5).dtype == torch.float32


def test_unknown_prediction_is_refused_at_once():
    with pytest.raises(ValueError, match="expected a prediction among"):
        Denoiser(nn.Identity(), Cosine(), "noise")
