"""Guidance: its identities, and the exact guided score of a mixture with known labels."""

from functools import partial

import pytest
import torch

from minidiff.guidance import cfg, check_labels, classifier_guidance, drop_labels
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


def test_the_null_label_may_be_asked_for_and_nothing_beyond_it():
    check_labels(torch.tensor([0, 10]), 10)
    for wrong in (11, -1):
        with pytest.raises(ValueError, match="expected labels 0..9, or 10 for none"):
            check_labels(torch.tensor([0, wrong]), 10)


def test_dropping_a_sequence_drops_it_whole():
    tokens = torch.arange(1, 13).reshape(4, 3)
    dropped = drop_labels(tokens, torch.zeros(3, dtype=torch.long), 0.5, torch.Generator().manual_seed(0))
    assert {bool((row == 0).all()) or bool((row > 0).all()) for row in dropped} == {True}


WORDS = {"tokens": torch.arange(1, 13).reshape(4, 3), "label": torch.tensor([0, 1, 2, 3])}
NOTHING = {"tokens": torch.zeros(3, dtype=torch.long), "label": 9}


def test_a_dict_is_dropped_jointly():
    """A sample loses all of its condition or none."""
    cond = {"tokens": torch.ones(2000, 3, dtype=torch.long), "label": torch.ones(2000), "x": torch.ones(2000, 2, 2)}
    null = {"tokens": 0, "label": 0, "x": torch.zeros(2, 2)}
    dropped = drop_labels(cond, null, 0.3, torch.Generator().manual_seed(0))
    gone = dropped["label"] == 0
    assert gone.double().mean().item() == pytest.approx(0.3, abs=0.04)
    assert torch.equal((dropped["tokens"] == 0).all(1), gone) and torch.equal((dropped["tokens"] == 0).any(1), gone)
    assert torch.equal((dropped["x"] == 0).all((1, 2)), gone) and dropped["x"].dtype == torch.float32
    same = drop_labels(cond["label"].long(), 0, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(same == 0, gone)  # the same samples as with a tensor


def test_guidance_by_a_dict_is_guidance_by_its_parts():
    def denoise(x, t, cond):
        return x * cond["label"][:, None] + cond["tokens"].double()

    x, w = torch.randn(4, 3, **f64), 2.5
    empty = {"tokens": torch.zeros(4, 3, dtype=torch.long), "label": torch.full((4,), 9)}
    expected = w * denoise(x, 0.5, WORDS) + (1 - w) * denoise(x, 0.5, empty)
    torch.testing.assert_close(cfg(denoise, WORDS, NOTHING, w)(x, 0.5), expected)
    torch.testing.assert_close(cfg(denoise, WORDS, NOTHING, 0)(x, 0.5), denoise(x, 0.5, empty))
    torch.testing.assert_close(cfg(denoise, WORDS, None, 1)(x, 0.5), denoise(x, 0.5, WORDS))  # needs no null


@pytest.mark.parametrize("cond, null, message", [
    (WORDS, 9, "expected a null condition for each of tokens, label, got 9"),
    (WORDS, {"tokens": 0}, "expected a null condition for each of tokens, label, got a dict of tokens"),
    (WORDS, NOTHING | {"more": 0}, "got a dict of tokens, label, more"),
    (WORDS["label"], NOTHING, "expected a null condition, a number or a tensor, got dict"),
    (WORDS["label"], None, "expected a null condition, a number or a tensor, got NoneType"),
    (WORDS["tokens"], torch.zeros(4), r"expected a null condition of shape \(3,\), got \(4,\)"),
    (WORDS["label"], torch.zeros(4), r"expected a null condition of shape \(\), got \(4,\)"),
])  # fmt: skip
def test_a_null_that_does_not_fit_is_refused(cond, null, message):
    for call in (lambda: cfg(denoise, cond, null, 2.0), lambda: drop_labels(cond, null, 0.5)):
        with pytest.raises(ValueError, match=message):
            call()


def test_impossible_drops_are_refused():
    with pytest.raises(ValueError, match=r"entries of one batch size, got p = 0.5 and \[3, 4\]"):
        drop_labels({"a": torch.zeros(3), "b": torch.zeros(4)}, {"a": 0, "b": 0}, 0.5)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="expected a probability p"):
            drop_labels(WORDS["label"], 9, p)
    assert torch.equal(drop_labels(WORDS["label"], None, 0.0), WORDS["label"])  # nothing dropped, no null needed


@pytest.mark.parametrize(
    "w", [float("nan"), float("inf"), -float("inf"), torch.tensor([1.0, 2.0]), torch.tensor([2.0])]
)
def test_guidance_is_one_finite_number(w):
    with pytest.raises(ValueError, match="expected one finite number for the guidance w, got"):
        cfg(denoise, torch.zeros(2, dtype=torch.long), 2, w)
    with pytest.raises(ValueError, match="expected one finite number for the guidance w, got"):
        classifier_guidance(denoise, denoise, w, Cosine())
    x, cond = torch.randn(6, 2, **f64), torch.tensor([0, 1, 0, 1, 0, 1])
    assert torch.equal(cfg(denoise, cond, 2, torch.tensor(3.0))(x, 0.5), cfg(denoise, cond, 2, 3.0)(x, 0.5))
