"""The forward process and its posterior: against the chain step by step, grid Bayes and torch's distributions."""

import pytest
import torch

from minidiff.losses import weight
from minidiff.process import (
    Gaussian,
    add_noise,
    match_dims,
    noise_like,
    posterior,
    posterior_std,
    target,
    target_coefficients,
    to_x0_eps,
    transition,
)
from minidiff.schedule import Cosine, Flow, FromBetas, LinearBeta, VarianceExploding, linear_betas


def test_match_dims_aligns_times_with_the_batch():
    x = torch.zeros(3, 2, 4, 4)
    assert match_dims(torch.arange(3.0), x).shape == (3, 1, 1, 1)
    assert torch.equal(match_dims(torch.tensor(2.0), x) * x, 2 * x)
    assert match_dims(torch.tensor(2.0, dtype=torch.float64), x).dtype == torch.float32
    with pytest.raises(ValueError, match=r"expected times \(\) or \(3,\).*got \(4,\)"):
        match_dims(torch.arange(4.0), x)
    with pytest.raises(ValueError, match="expected times"):
        match_dims(torch.ones(1), x)  # of one sample, or of all? () is of all
    with pytest.raises(ValueError, match=r"got \(3, 1\)"):
        match_dims(torch.zeros(3, 1), x)


def test_each_sample_has_its_own_time_even_when_batch_and_width_agree():
    """A (B,) time against square data would broadcast along the wrong axis in silence."""
    x0, eps, t = torch.randn(4, 4), torch.randn(4, 4), torch.tensor([0.1, 0.4, 0.6, 0.9])
    together = add_noise(x0, eps, t, Cosine())
    for i in range(4):
        torch.testing.assert_close(together[i], add_noise(x0[i : i + 1], eps[i : i + 1], t[i], Cosine())[0])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="of one shape"):
        add_noise(torch.zeros(4, 2), torch.zeros(4, 1), 0.5, Cosine())
    with pytest.raises(ValueError, match="of one shape"):
        posterior(torch.zeros(4, 2), torch.zeros(1, 2), 0.2, 0.5, Cosine())


def test_two_jumps_equal_one(schedule):
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0): means multiply, variances add up."""
    s, t = torch.tensor([0.1, 0.3, 0.5], dtype=torch.float64), torch.tensor([0.2, 0.9, 0.500001], dtype=torch.float64)
    (alpha_s, sigma_s), (alpha_t, sigma_t), (alpha_ts, sigma_ts) = schedule(s), schedule(t), transition(s, t, schedule)
    torch.testing.assert_close(alpha_ts * alpha_s, alpha_t, rtol=1e-12, atol=0)
    torch.testing.assert_close(alpha_ts**2 * sigma_s**2 + sigma_ts**2, sigma_t**2, rtol=1e-12, atol=0)


def test_one_step_of_the_table_is_its_beta():
    betas = linear_betas(1000)
    t = torch.arange(1001, dtype=torch.float64) / 1000
    alpha_ts, sigma_ts = transition(t[:-1], t[1:], FromBetas(betas))
    torch.testing.assert_close(sigma_ts**2, betas, rtol=1e-7, atol=0)
    torch.testing.assert_close(alpha_ts**2, 1 - betas, rtol=1e-10, atol=0)


def test_a_thousand_steps_equal_one_jump():
    """The chain x <- sqrt(1 - beta) x + sqrt(beta) z, simulated, against the closed form's mean and variance."""
    generator, betas = torch.Generator().manual_seed(0), linear_betas(1000)
    x = torch.full((20_000, 1), 3.0, dtype=torch.float64)
    for beta in betas[:300]:
        x = (1 - beta).sqrt() * x + beta.sqrt() * noise_like(x, generator)
    alpha, sigma = FromBetas(betas)(0.3)
    assert x.mean().item() == pytest.approx(3 * alpha.item(), abs=4 * sigma.item() / 20_000**0.5)
    assert x.std().item() == pytest.approx(sigma.item(), rel=0.02)


def test_order_of_times_is_checked():
    for s, t in [(0.5, 0.5), (0.7, 0.3)]:
        with pytest.raises(ValueError, match="expected s < t"):
            transition(s, t, Cosine())


def test_posterior_equals_bayes_on_a_grid(schedule):
    """q(x_s | x_t, x0) proportional to q(x_t | x_s) q(x_s | x0), normalised numerically."""
    x0, x_t, s, t = 0.7, -0.4, 0.45, 0.6
    (alpha_s, sigma_s), (alpha_ts, sigma_ts) = schedule(s), transition(s, t, schedule)
    grid = alpha_s * x0 + sigma_s * torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    log_q = -(((x_t - alpha_ts * grid) / sigma_ts) ** 2) / 2 - ((grid - alpha_s * x0) / sigma_s) ** 2 / 2
    q = log_q.softmax(0)
    mean = (q * grid).sum()
    std = (q * (grid - mean) ** 2).sum().sqrt()
    exact = posterior(
        torch.tensor([[x_t]], dtype=torch.float64), torch.tensor([[x0]], dtype=torch.float64), s, t, schedule
    )
    assert exact.mean.item() == pytest.approx(mean.item(), rel=1e-6, abs=1e-7)
    assert exact.std.item() == pytest.approx(std.item(), rel=1e-6)


def test_posterior_is_ddpms_equation_7():
    """mu-tilde and beta-tilde in Ho et al.'s own symbols, at every step of the table."""
    betas = linear_betas(1000)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])
    x0, x_t = torch.randn(2, 1000, 1, dtype=torch.float64)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    before, now, beta = alpha_bar[:-1, None], alpha_bar[1:, None], betas[:, None]
    mean = before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x_t
    q = posterior(x_t, x0, t - 0.001, t, FromBetas(betas))
    torch.testing.assert_close(q.mean, mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(q.std**2, (1 - before) / (1 - now) * beta, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_posterior_at_the_data_is_x0_without_noise(schedule, dtype):
    x_t, x0 = torch.randn(2, 5, 3, dtype=dtype)
    q = posterior(x_t, x0, 0.0, 0.02, schedule)
    assert torch.equal(q.mean, x0) and (q.std == 0).all() and q.mean.dtype == dtype


def test_solve_undoes_target(schedule, prediction):
    x0, eps = torch.randn(2, 6, 3, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    x_t, y = add_noise(x0, eps, t, schedule), target(prediction, x0, eps, t, schedule)
    x0_back, eps_back = to_x0_eps(prediction, y, x_t, t, schedule)
    torch.testing.assert_close(x0_back, x0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(eps_back, eps, rtol=1e-8, atol=1e-8)


def test_targets_have_their_published_signs():
    """Salimans & Ho: v = alpha eps - sigma x0. Lipman et al. on the straight line: velocity = eps - x0."""
    x0, eps = torch.randn(2, 6, 3, dtype=torch.float64)
    alpha, sigma = Cosine()(0.3)
    torch.testing.assert_close(target("v", x0, eps, 0.3, Cosine()), alpha * eps - sigma * x0)
    torch.testing.assert_close(target("velocity", x0, eps, 0.3, Flow()), eps - x0)
    assert torch.equal(target("eps", x0, eps, 0.3, Cosine()), eps) and torch.equal(
        target("x0", x0, eps, 0.3, Cosine()), x0
    )


def test_velocity_is_the_slope_of_x_t(schedule):
    x0, eps = torch.randn(2, 6, 3, dtype=torch.float64)
    t, h = 0.5003, 1e-6  # between two entries of the table
    slope = (add_noise(x0, eps, t + h, schedule) - add_noise(x0, eps, t - h, schedule)) / (2 * h)
    torch.testing.assert_close(target("velocity", x0, eps, t, schedule), slope, rtol=1e-5, atol=1e-5)


def test_unsolvable_and_unknown_predictions_are_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="does not determine x0"):
        to_x0_eps("eps", x, x, 1.0, Cosine())  # pure noise: eps says nothing about x0
    with pytest.raises(ValueError, match="x0 and eps at t = 0 with .*got -inf"):
        to_x0_eps("score", x, x, torch.tensor([0.5, 0.0]), Cosine())  # at the data the score has no limit
    with pytest.raises(ValueError, match="expected a prediction among x0, eps, v, velocity, score, edm, got 'noise'"):
        target_coefficients("noise", 0.5, Cosine())
    torch.testing.assert_close(
        to_x0_eps("v", -torch.ones(2, 3), x, 1.0, Cosine())[0], torch.ones(2, 3)
    )  # v is fine there


def test_gaussian_agrees_with_torch_distributions():
    p = Gaussian(torch.randn(5, 3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64))
    q = Gaussian(torch.randn(5, 3, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64))
    as_torch = [
        torch.distributions.Independent(torch.distributions.Normal(g.mean, g.std.expand(5, 3)), 1) for g in (p, q)
    ]
    torch.testing.assert_close(p.kl(q), torch.distributions.kl_divergence(*as_torch))
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(x), as_torch[0].log_prob(x))


def test_gaussian_samples_have_its_moments():
    z = Gaussian(torch.full((50_000, 1), 2.0), torch.tensor(0.5)).sample(torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(2, abs=0.01) and z.std().item() == pytest.approx(0.5, abs=0.01)


def test_noise_depends_on_the_generator_alone():
    x = torch.zeros(3, 2)
    first, again = (noise_like(x, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, noise_like(x, torch.Generator().manual_seed(8)))


def test_float32_data_stay_float32_and_accurate(schedule):
    x0, eps = torch.randn(2, 6, 3)
    low, high = (add_noise(x0.to(d), eps.to(d), 0.37, schedule) for d in (torch.float32, torch.float64))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), high, rtol=1e-6, atol=1e-5)


def test_score_target_is_the_slope_of_the_log_density_of_the_noise(schedule):
    x0, eps = torch.randn(2, 4, 3, dtype=torch.float64)
    alpha, sigma = schedule(0.3)
    x_t = add_noise(x0, eps, 0.3, schedule).requires_grad_()
    (slope,) = torch.autograd.grad(Gaussian(alpha * x0, sigma).log_prob(x_t).sum(), x_t)
    torch.testing.assert_close(target("score", x0, eps, 0.3, schedule), slope)


def test_edm_is_karras_network_target_and_minus_v():
    """F = (x0 - c_skip x) / c_out with sigma_data = 1 (Karras et al. 2022, table 1), in their own symbols."""
    schedule, t = VarianceExploding(), torch.linspace(0.05, 1, 6, dtype=torch.float64)
    x0, eps = torch.randn(2, 6, 3, dtype=torch.float64)
    sigma = schedule(t)[1][:, None]
    c_skip, c_out = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1).sqrt()
    F = (x0 - c_skip * (x0 + sigma * eps)) / c_out
    torch.testing.assert_close(target("edm", x0, eps, t, schedule), F)
    torch.testing.assert_close(target("edm", x0, eps, t, Cosine()), -target("v", x0, eps, t, Cosine()))
    torch.testing.assert_close(to_x0_eps("edm", F, add_noise(x0, eps, t, schedule), t, schedule)[0], x0)


def test_posterior_std_is_the_posteriors(schedule):
    t = torch.linspace(0.1, 1, 6, dtype=torch.float64)
    s, x = 0.7 * t, torch.randn(6, 3, dtype=torch.float64)
    std = posterior_std(s, t, schedule)
    assert std.shape == (6,) and torch.equal(std[:, None], posterior(x, x, s, t, schedule).std)
    assert posterior_std(0.3, 0.4, schedule).shape == () and posterior_std(0.0, 0.4, schedule) == 0
    with pytest.raises(ValueError, match="expected s < t"):
        posterior_std(0.4, 0.3, schedule)


def test_the_velocity_near_the_data_is_not_held_back():
    """On LinearBeta sigma starts as sqrt(beta_min t): its slope grows without bound."""
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for t in (1e-10, 1e-6, 1e-4):
        slope = target("velocity", zero, one, t, LinearBeta()).item()
        assert slope == pytest.approx((0.1 / t) ** 0.5 / 2, rel=0.1)
    assert target("velocity", zero, one, 1e-9, Cosine()).item() == pytest.approx(torch.pi / 2)


def test_nothing_is_read_from_a_device_that_would_have_to_wait(schedule, prediction):
    """The meta device stands for a GPU: each read of a value raises. Times may come from there or from the host."""
    x, away = torch.empty(5, 3, device="meta"), torch.empty(5, device="meta")
    for t in (away, 0.5, torch.tensor(0.5, dtype=torch.float64)):
        x_t = add_noise(x, x, t, schedule)
        results = [x_t, target(prediction, x, x, t, schedule), *to_x0_eps(prediction, x, x_t, t, schedule)]
        results.append(posterior(x_t, x, t / 2, t, schedule).mean)
        assert all(r.device.type == "meta" and r.shape == x.shape and r.dtype == x.dtype for r in results)
        assert weight(prediction, t, schedule).shape == torch.as_tensor(t).shape


def test_checks_stay_out_of_a_graph(schedule, prediction):
    def everything(x, t):
        x_t = add_noise(x, x, t, schedule)
        return x_t, *to_x0_eps(prediction, x, x_t, t, schedule), posterior(x_t, x, t / 2, t, schedule).mean

    x, t = torch.randn(5, 3), torch.linspace(0.1, 0.9, 5)
    torch._dynamo.reset()
    torch.testing.assert_close(
        torch.compile(everything, fullgraph=True, backend="eager")(x, t), everything(x, t), rtol=1e-4, atol=1e-4
    )


def test_a_single_coefficient_stays_on_the_host():
    """A GPU would have to wait for its copy."""
    x = torch.empty(5, 3, device="meta")
    c = match_dims(torch.tensor(2.0, dtype=torch.float64), x)
    assert c.device.type == "cpu" and c.dtype == x.dtype and (c * x).device.type == "meta"
    assert match_dims(torch.ones(5, dtype=torch.float64), x).device.type == "meta"


def test_data_keep_their_dtype(schedule, prediction):
    t = torch.linspace(0.2, 0.8, 4)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x0, eps = torch.randn(2, 4, 3).to(dtype)
        for time in (t, 0.5):
            x_t = add_noise(x0, eps, time, schedule)
            found = [x_t, target(prediction, x0, eps, time, schedule), posterior(x_t, x0, 0.1, time, schedule).mean]
            found += to_x0_eps(prediction, x0, x_t, time, schedule)
            assert all(f.dtype == dtype for f in found)


def test_steps_one_rounding_long_have_a_width():
    """Where both log SNRs are rounded, that of t may come out above that of s."""
    s = torch.linspace(0.001, 0.999, 200_000)
    t = torch.nextafter(s, torch.ones(()))
    _, sigma_ts = transition(s, t, FromBetas(linear_betas(1000)))
    assert (sigma_ts >= 0).all()  # false for nan
