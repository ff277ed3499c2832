"""Guidance: its identities, and the exact guided score of a mixture with known labels."""

from functools import partial

import pytest
import torch

from minidiff.guidance import cfg, classifier_guidance, drop_labels
from minidiff.oracle import Mixture
from minidiff.samplers import ddim, final, times
from minidiff.schedule import Cosine, LinearBeta

f64 = {"dtype": torch.float64}
CLASSES = [
    Mixture(torch.ones(1, **f64), torch.tensor([[m, 0.0]], **f64), torch.tensor([0.5], **f64)) for m in (-1.0, 1.0)
]
BOTH = Mixture(
    torch.tensor([0.5, 0.5], **f64), torch.tensor([[-1.0, 0.0], [1.0, 0.0]], **f64), torch.tensor([0.5, 0.5], **f64)
)


def denoise(x, t, cond):
    """The exact denoiser of class 0, class 1 or, for the null label 2, of both."""
    answers = torch.stack([m.denoise(x, t, LinearBeta()) for m in (*CLASSES, BOTH)])  # (3, B, D)
    return answers[cond, torch.arange(len(x))]


def test_w_0_and_w_1_are_the_two_denoisers_themselves():
    x, cond = torch.randn(6, 2, **f64), torch.tensor([0, 1, 0, 1, 0, 1])
    assert torch.equal(cfg(denoise, cond, 2, 1.0)(x, 0.5), denoise(x, 0.5, cond))
    assert torch.equal(cfg(denoise, cond, 2, 0.0)(x, 0.5), denoise(x, 0.5, torch.full((6,), 2)))


@pytest.mark.parametrize("t", [0.5, torch.linspace(0.2, 0.8, 6, **f64)], ids=["one time", "a time per sample"])
def test_guidance_is_a_straight_line_in_w(t):
    x, cond = torch.randn(6, 2, **f64), torch.tensor([0, 1, 0, 1, 0, 1])
    given, without = denoise(x, t, cond), denoise(x, t, torch.full((6,), 2))
    torch.testing.assert_close(cfg(denoise, cond, 2, 3.0)(x, t), 3 * given - 2 * without)
    torch.testing.assert_close(cfg(denoise, cond, 2, 0.25)(x, t), 0.25 * given + 0.75 * without)


def test_guided_score_is_the_sum_of_scores():
    """In scores: grad log p(x) + w (grad log p(x | y) - grad log p(x)), by automatic differentiation."""
    schedule, w = LinearBeta(), 2.5
    x = torch.randn(6, 2, **f64, requires_grad=True)
    log_p = BOTH.log_prob(x, 0.4, schedule) + w * (
        CLASSES[1].log_prob(x, 0.4, schedule) - BOTH.log_prob(x, 0.4, schedule)
    )
    (score,) = torch.autograd.grad(log_p.sum(), x)
    alpha, sigma = schedule(0.4)
    guided = cfg(denoise, torch.ones(6, dtype=torch.long), 2, w)(x.detach(), 0.4)
    torch.testing.assert_close((alpha * guided - x.detach()) / sigma**2, score)


def test_exact_classifier_guidance_at_w_1_is_conditioning():
    """Bayes: grad log p(x) + grad log p(y | x) = grad log p(x | y)."""
    schedule, x = LinearBeta(), torch.randn(6, 2, **f64)

    def log_prob(x, t):
        return CLASSES[1].log_prob(x, t, schedule) - BOTH.log_prob(x, t, schedule)  # log p(y | x) up to a constant

    plain = partial(BOTH.denoise, schedule=schedule)
    for t in (0.3, torch.linspace(0.2, 0.8, 6, **f64)):
        guided = classifier_guidance(plain, log_prob, 1.0, schedule)(x, t)
        torch.testing.assert_close(guided, CLASSES[1].denoise(x, t, schedule))
        torch.testing.assert_close(classifier_guidance(plain, log_prob, 0.0, schedule)(x, t), plain(x, t))


def test_classifier_guidance_works_inside_a_sampler():
    """Samplers switch gradients off; the classifier's gradient must be there all the same."""
    schedule = LinearBeta()
    guided = classifier_guidance(
        partial(BOTH.denoise, schedule=schedule),
        lambda x, t: CLASSES[1].log_prob(x, t, schedule) - BOTH.log_prob(x, t, schedule),
        1.0,
        schedule,
    )
    x = final(ddim(guided, torch.randn(500, 2, **f64, generator=torch.Generator().manual_seed(0)), times(50), schedule))
    assert x[:, 0].mean().item() == pytest.approx(1.0, abs=0.1) and not x.requires_grad


def test_classifier_guidance_needs_signal():
    with pytest.raises(ValueError, match="alpha > 0, got t = 1"):
        classifier_guidance(lambda x, t: x, lambda x, t: x.sum(1), 1.0, Cosine())(torch.zeros(2, 2), 1.0)


def test_labels_are_dropped_per_sample():
    cond = torch.arange(10_000) % 10
    dropped = drop_labels(cond, 10, 0.1, torch.Generator().manual_seed(0))
    share = (dropped == 10).double().mean().item()
    assert share == pytest.approx(0.1, abs=0.01)
    assert torch.equal(dropped[dropped != 10], cond[dropped != 10])
    assert torch.equal(drop_labels(cond, 10, 0.0), cond) and (drop_labels(cond, 10, 1.0) == 10).all()


def test_dropping_a_sequence_drops_it_whole():
    tokens = torch.arange(1, 13).reshape(4, 3)
    dropped = drop_labels(tokens, torch.zeros(3, dtype=torch.long), 0.5, torch.Generator().manual_seed(0))
    assert {bool((row == 0).all()) or bool((row > 0).all()) for row in dropped} == {True}
