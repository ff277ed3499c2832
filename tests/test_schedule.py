"""Schedules: closed-form rates against automatic differentiation, tables against Ho et al. and diffusers, edges."""

import math

import pytest
import torch

from minidiff.schedule import (
    Cosine,
    Flow,
    FromBetas,
    LinearBeta,
    VarianceExploding,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
)


def test_rates_equal_the_derivative(schedule):
    t = torch.linspace(0.0137, 0.9871, 50, dtype=torch.float64)  # between the knots of the table
    _, slopes = torch.func.jvp(schedule, (t,), (torch.ones_like(t),))
    for rate, slope in zip(schedule.rates(t), slopes, strict=True):
        torch.testing.assert_close(rate, slope, rtol=1e-9, atol=1e-12)


def test_data_at_0_and_noise_growing(schedule):
    alpha, sigma = schedule(torch.linspace(0, 1, 200, dtype=torch.float64))
    assert alpha[0] == 1 and sigma[0] == 0
    assert (sigma.diff() > 0).all() and (alpha.diff() <= 0).all()
    assert (schedule.log_snr(torch.linspace(0.01, 0.99, 99, dtype=torch.float64)).diff() < 0).all()


@pytest.mark.parametrize(
    "schedule", [LinearBeta(), Cosine(), FromBetas(linear_betas(1000))], ids=["LinearBeta", "Cosine", "FromBetas"]
)
def test_variance_is_preserved(schedule):
    alpha, sigma = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(schedule, dtype):
    for t in [torch.tensor(0.3, dtype=dtype), torch.rand(5, dtype=dtype)]:
        for value in [*schedule(t), *schedule.rates(t), schedule.log_snr(t)]:
            assert value.dtype == dtype and value.shape == t.shape
    assert schedule(0.3)[0].dtype == torch.float64


@pytest.mark.parametrize("t", [-0.01, 1.01, float("nan"), torch.tensor([0.5, 2.0])])
def test_times_outside_0_1_are_refused(schedule, t):
    for call in (schedule, schedule.rates):
        with pytest.raises(ValueError, match=r"expected times in \[0, 1\], got"):
            call(t)


def test_cosine_ends_in_pure_noise_exactly():
    for dtype in (torch.float32, torch.float64):
        alpha, sigma = Cosine()(torch.ones((), dtype=dtype))
        assert alpha == 0 and sigma == 1


def test_table_is_exact_at_its_steps():
    """alpha^2 at t = k/T is DDPM's alpha-bar_k, the running product of 1 - beta."""
    betas = linear_betas(1000)
    alpha, sigma = FromBetas(betas)(torch.arange(1001, dtype=torch.float64) / 1000)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])
    torch.testing.assert_close(alpha**2, alpha_bar, rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma**2, 1 - alpha_bar, rtol=1e-9, atol=1e-15)


def test_linear_table_meets_the_published_numbers():
    """Ho et al. (2020): beta from 1e-4 to 0.02 in 1000 steps, and sqrt(alpha-bar_T) = 0.0064 at the end."""
    betas = linear_betas(1000)
    assert betas[0] == 1e-4 and betas[-1] == 0.02 and len(betas) == 1000
    assert FromBetas(betas)(1.0)[0].item() == pytest.approx(0.00635, abs=2e-5)


def test_linear_beta_is_the_limit_of_the_table():
    t = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    table, limit = FromBetas(linear_betas(1000)), LinearBeta()
    torch.testing.assert_close(table.log_snr(t), limit.log_snr(t), rtol=0.03, atol=0.02)


def test_linear_beta_integrates_its_beta():
    """log alpha = -1/2 int beta: against quadrature."""
    u = torch.linspace(0, 0.7, 100_001, dtype=torch.float64)
    integral = torch.trapezoid(0.1 + u * 19.9, u)
    assert LinearBeta()(0.7)[0].log().item() == pytest.approx(-integral.item() / 2, rel=1e-9)


@pytest.mark.parametrize(
    "ours, name, arguments",
    [
        (linear_betas(1000), "linear", {}),
        (scaled_linear_betas(1000), "scaled_linear", {"beta_start": 0.00085, "beta_end": 0.012}),
        (cosine_betas(1000), "squaredcos_cap_v2", {}),
        (sigmoid_betas(1000), "sigmoid", {}),
    ],
)
def test_tables_agree_with_diffusers(ours, name, arguments):
    import diffusers  # slow: only where it is compared with

    theirs = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule=name, **arguments).betas
    torch.testing.assert_close(ours.float(), theirs, rtol=2e-4, atol=1e-6)


def test_variance_exploding_starts_at_0_and_ends_near_sigma_max():
    _, sigma = VarianceExploding(0.01, 50.0)(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert sigma[0] == 0 and sigma[1].item() == pytest.approx(math.sqrt(50**2 - 0.01**2), rel=1e-12)


@pytest.mark.parametrize("betas", [[], [0.1, 1.0], [0.0, 0.1], [0.1, float("nan")]])
def test_bad_tables_are_refused(betas):
    with pytest.raises(ValueError, match="expected betas strictly between 0 and 1"):
        FromBetas(betas)


def test_schedules_are_values():
    assert FromBetas([0.1, 0.2]) == FromBetas(torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert len({Cosine(), Cosine(), Flow()}) == 2
