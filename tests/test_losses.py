"""Objectives: weights against the losses they stand for, the bound against exact likelihoods, the decoder's mass."""

import math
from functools import partial

import pytest
import torch

from minidiff.losses import (
    bits_per_dim,
    denoising_loss,
    discretized_log_likelihood,
    sample_times,
    vlb,
    vlb_terms,
    weight,
)
from minidiff.oracle import Mixture
from minidiff.process import Gaussian, add_noise, posterior, target, transition
from minidiff.samplers import times
from minidiff.schedule import Cosine, Flow, FromBetas, LinearBeta, VarianceExploding, linear_betas

f64 = {"dtype": torch.float64}


def test_times_are_stratified():
    t = sample_times(1000, torch.Generator().manual_seed(0), start=0.0)
    assert ((t * 1000 - torch.arange(1000) - 0.5).abs() <= 0.5 + 1e-3).all()
    assert t.min() >= 0 and t.max() <= 1
    assert sample_times(8, torch.Generator().manual_seed(0), start=0.2).min() >= 0.2
    assert not torch.equal(
        sample_times(8, torch.Generator().manual_seed(1)), sample_times(8, torch.Generator().manual_seed(2))
    )


def test_loss_is_the_mean_squared_error_of_x0():
    x0, eps = torch.randn(2, 5, 1, 4, 4)
    loss = denoising_loss(lambda x, t: x0 + 0.5, x0, eps, torch.rand(5), Cosine())
    torch.testing.assert_close(loss, torch.full((5,), 0.25))


def test_loss_hands_the_condition_on():
    x0, eps, labels = torch.zeros(5, 2), torch.zeros(5, 2), torch.arange(5)
    loss = denoising_loss(lambda x, t, cond: cond[:, None] * torch.ones(5, 2), x0, eps, torch.rand(5), Cosine(), labels)
    torch.testing.assert_close(loss, labels.float() ** 2)


def test_weights_turn_the_error_of_x0_into_the_error_of_the_target(schedule, prediction):
    x0, wrong, eps = torch.randn(3, 6, 3, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    x_t = add_noise(x0, eps, t, schedule)
    alpha, sigma = (c[:, None] for c in schedule(t))
    error = (
        (
            target(prediction, x0, eps, t, schedule)
            - target(prediction, wrong, (x_t - alpha * wrong) / sigma, t, schedule)
        )
        .square()
        .mean(1)
    )
    torch.testing.assert_close(
        weight(prediction, t, schedule) * (x0 - wrong).square().mean(1), error, rtol=1e-8, atol=1e-10
    )


def test_named_weights():
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    snr = LinearBeta().log_snr(t).exp()
    torch.testing.assert_close(weight("min_snr", t, LinearBeta()), snr.clamp(max=5))
    torch.testing.assert_close(weight("eps", t, LinearBeta()), snr)
    torch.testing.assert_close(weight("v", t, LinearBeta()), snr + 1)
    _, slope = torch.func.jvp(lambda u: LinearBeta().log_snr(u).exp(), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(weight("vlb", t, LinearBeta()), -slope / 2)
    with pytest.raises(ValueError, match="a weighting among x0, eps, v, velocity, score, edm, min_snr, vlb, got 'snr'"):
        weight("snr", t, LinearBeta())


@pytest.mark.parametrize("schedule", [LinearBeta(), FromBetas(linear_betas(1000))], ids=["LinearBeta", "FromBetas"])
def test_bound_of_a_gaussian_approaches_its_likelihood(schedule):
    """For Gaussian data the true reverse is Gaussian, so with many steps the bound closes (and never crosses)."""
    data = Mixture(torch.ones(1, **f64), torch.tensor([[0.3, -0.2]], **f64), torch.tensor([0.6], **f64))
    x0 = data.sample(4000, torch.Generator().manual_seed(0))

    def gap(T):
        excess = vlb(partial(data.denoise, schedule=schedule), x0, times(T), schedule, torch.Generator().manual_seed(1))
        excess = excess + data.log_prob(x0, 0.0, schedule)
        return excess.mean().item(), 4 * excess.std().item() / len(x0) ** 0.5

    coarse, fine = gap(3), gap(300)
    assert coarse[0] > 0.1 + coarse[1]
    assert abs(fine[0]) < fine[1] < 0.12


def test_bound_of_a_mixture_lies_above_its_likelihood(three):
    x0 = three.sample(2000, torch.Generator().manual_seed(0))
    exact = -three.log_prob(x0, 0.0, LinearBeta()).mean().item()

    def bound(shrink):
        def denoise(x, t):
            return shrink * three.denoise(x, t, LinearBeta())

        return vlb(denoise, x0, times(300), LinearBeta(), torch.Generator().manual_seed(1)).mean().item()

    good, bad = bound(1.0), bound(0.9)
    assert exact - 0.02 < good < exact + 0.1 and bad > good + 0.1


def test_bound_is_the_expected_log_ratio(one_axis):
    """-log p(x_0..T) / q(x_1..T | x_0) averaged over whole chains is the same number, with no KL formula in it."""
    schedule, ts, generator = LinearBeta(), times(30), torch.Generator().manual_seed(0)
    denoise = partial(one_axis.denoise, schedule=schedule)
    x0 = torch.full((40_000, 1), 1.3, dtype=torch.float64)
    chain, log_q = [x0], torch.zeros(len(x0), **f64)
    for s, t in zip(ts.flip(0)[:-1], ts.flip(0)[1:], strict=True):  # forward: s < t
        alpha_ts, sigma_ts = transition(s, t, schedule)
        step = Gaussian(alpha_ts * chain[-1], sigma_ts)
        chain.append(step.sample(generator))
        log_q += step.log_prob(chain[-1])
    log_p = Gaussian(torch.zeros_like(x0), torch.as_tensor(schedule(1.0)[1])).log_prob(chain[-1])
    for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):  # reverse
        x_t, x_s = chain[-1 - i], chain[-2 - i]
        x0_hat = denoise(x_t, t)
        p = Gaussian(posterior(x_t, x0_hat, s, t, schedule).mean, transition(s, t, schedule)[1])
        log_p += p.log_prob(x_s)
    direct = (log_q - log_p).mean().item()
    bound = vlb(denoise, x0, ts, schedule, torch.Generator().manual_seed(1)).mean().item()
    assert bound == pytest.approx(direct, abs=0.03)


def test_bound_of_perfect_knowledge_is_the_prior_and_the_decoder():
    """If the denoiser knows x0, every L_{t-1} is zero."""
    x0 = torch.randn(3, 4, **f64)
    ts, schedule = times(10), LinearBeta()
    alpha, sigma = schedule(1.0)
    prior = ((alpha * x0 / sigma) ** 2 / 2).sum(1)  # KL of two Gaussians of one std
    decoder = 4 * (math.log(2 * math.pi) / 2 + schedule(ts[-2])[1].log())
    ratio = torch.stack(
        [
            posterior(x0, x0, s, t, schedule).std / transition(s, t, schedule)[1]
            for t, s in zip(ts[:-2], ts[1:-1], strict=True)
        ]
    )
    widths = 4 * ((ratio**2 - 1) / 2 - ratio.log()).sum()  # posterior and model differ in nothing but their variance
    torch.testing.assert_close(vlb(lambda x, t: x0, x0, ts, schedule), prior + decoder + widths, rtol=1e-9, atol=1e-9)


def test_terms_of_the_bound_come_one_by_one_and_sum_to_it(three):
    x0, schedule, ts = three.sample(50, torch.Generator().manual_seed(0)), LinearBeta(), times(6)
    denoise = partial(three.denoise, schedule=schedule)
    terms = list(vlb_terms(denoise, x0, ts, schedule, torch.Generator().manual_seed(1)))
    assert len(terms) == 7 and all(term.shape == (50,) for term in terms)
    torch.testing.assert_close(sum(terms), vlb(denoise, x0, ts, schedule, torch.Generator().manual_seed(1)))
    alpha, sigma = schedule(1.0)
    prior = torch.distributions.Normal(torch.zeros(()), sigma)
    end = torch.distributions.kl_divergence(torch.distributions.Normal(alpha * x0, sigma), prior).sum(1)
    torch.testing.assert_close(terms[0], end)  # torch's own divergence


@pytest.mark.parametrize("start, stop", [(1.0, 0.1), (0.9, 0.0)])
def test_a_bound_without_its_ends_is_refused(start, stop):
    with pytest.raises(ValueError, match="expected times from 1 to 0, got"):
        vlb(None, torch.zeros(2, 3), times(5, start, stop), LinearBeta())


@pytest.mark.parametrize("mean, std", [(0.3, 0.05), (-1.0, 0.3), (0.99, 0.002), (0.0, 5.0)])
def test_mass_of_all_bins_is_one(mean, std):
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    decoder = Gaussian(torch.full_like(levels, mean), torch.tensor(std, **f64))
    assert discretized_log_likelihood(decoder, levels, 256).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_bin_is_the_integral_of_the_density():
    decoder = Gaussian(torch.tensor([[0.1]], **f64), torch.tensor(0.2, **f64))
    level = torch.tensor([[2 * 100 / 255 - 1]], **f64)
    u = level + torch.linspace(-1 / 255, 1 / 255, 10_001, **f64)[:, None]
    integral = torch.trapezoid(torch.distributions.Normal(0.1, 0.2).log_prob(u[:, 0]).exp(), u[:, 0])
    assert discretized_log_likelihood(decoder, level, 256).exp().item() == pytest.approx(integral.item(), rel=1e-6)


def test_bins_far_in_either_tail_stay_finite():
    level = torch.tensor([[0.0]], **f64)
    left, right = (
        discretized_log_likelihood(Gaussian(torch.tensor([[m]], **f64), torch.tensor(0.01, **f64)), level, 256).item()
        for m in (-0.9, 0.9)
    )
    assert math.isfinite(left) and left == pytest.approx(right, rel=1e-9) and left < -3000


@pytest.mark.parametrize("mean, std", [(0.3, 0.5), (-0.999, 0.3), (0.0, 0.02)])
def test_the_gradient_of_the_bins_is_the_slope(mean, std):
    """Of all 256, the two that reach to infinity included."""
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    where = torch.tensor([mean, std], **f64)
    where.requires_grad_()

    def logs(m, s):
        return discretized_log_likelihood(Gaussian(m.expand_as(levels), s), levels, 256)

    slopes = torch.autograd.functional.jacobian(lambda at: logs(*at), where)
    for k, step in enumerate(torch.eye(2, **f64) * 1e-6):
        differences = (logs(*(where + step)) - logs(*(where - step))) / 2e-6
        torch.testing.assert_close(slopes[:, k], differences.detach(), rtol=1e-5, atol=1e-4)


def test_bits_per_dim():
    """256 equally likely levels cost 8 bits each."""
    assert bits_per_dim(torch.tensor(10 * math.log(256)), 10).item() == pytest.approx(8)


def test_flow_weights_at_the_ends_are_finite_where_training_goes():
    t = sample_times(64, torch.Generator().manual_seed(0))
    assert weight("v", t, Cosine()).isfinite().all() and weight("velocity", t, Flow()).isfinite().all()


def test_a_shift_leans_the_times_to_noise():
    even, bent = (sample_times(1000, torch.Generator().manual_seed(0), shift=shift) for shift in (1.0, 60.0))
    torch.testing.assert_close(bent, 60 * even / (1 + 59 * even))  # Esser et al. 2024, eq. 23
    assert bent.max() <= 1 and (bent > even).all() and abs(bent.median() - 60 * 0.5 / (1 + 59 * 0.5)) < 1e-3


def test_times_begin_a_thousandth_after_the_data():
    """The first of n parts of [0.001, 1]: a later start would leave the finest noise untrained."""
    assert 0.001 <= sample_times(1000, torch.Generator().manual_seed(0))[0] < 0.002
    assert sample_times(1, torch.Generator().manual_seed(0)).shape == (1,)
    first = torch.stack([sample_times(4, torch.Generator().manual_seed(seed))[0] for seed in range(400)])
    assert first.min() < 0.003 and first.max() > 0.24


@pytest.mark.parametrize("arguments", [(0,), (4, None, 1.0), (4, None, -0.1), (4, None, 1e-3, 0.0)])
def test_impossible_times_are_refused(arguments):
    with pytest.raises(ValueError, match="^expected "):
        sample_times(*arguments)


def test_the_edm_weight_is_karras():
    """lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 with sigma_data = 1 (Karras et al. 2022, table 1)."""
    t = torch.linspace(0.1, 1, 7, dtype=torch.float64)
    sigma = VarianceExploding()(t)[1]
    torch.testing.assert_close(weight("edm", t, VarianceExploding()), (sigma**2 + 1) / sigma**2)
    torch.testing.assert_close(weight("edm", t[:-1], Cosine()), weight("v", t[:-1], Cosine()))


def test_a_weight_refuses_times_outside():
    for name in ("v", "velocity", "vlb"):
        with pytest.raises(ValueError, match=r"expected times in \[0, 1\]"):
            weight(name, torch.tensor([0.5, 1.5]), Cosine())
