"""The oracle: against quadrature, sampling, automatic differentiation and the textbook answer for one Gaussian."""

import pytest
import torch

from minidiff.oracle import Empirical, Mixture
from minidiff.process import add_noise, noise_like, transition
from minidiff.schedule import Cosine, VarianceExploding

f64 = {"dtype": torch.float64}


def grid(n=200_001, reach=12.0):
    x = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return x, x[1] - x[0]


def test_score_is_the_gradient_of_log_prob(schedule, three):
    x = torch.randn(20, 2, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0.05, 0.95, 20, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(three.log_prob(x, t, schedule).sum(), x)
    torch.testing.assert_close(three.score(x.detach(), t, schedule), gradient, rtol=1e-9, atol=1e-9)


def test_denoise_is_tweedie(schedule, three):
    """E[x0 | x_t] = (x_t + sigma^2 score) / alpha: two sums over components that share no line."""
    x, t = torch.randn(20, 2, dtype=torch.float64), torch.linspace(0.05, 0.95, 20, dtype=torch.float64)
    alpha, sigma = (c[:, None] for c in schedule(t))
    torch.testing.assert_close(
        three.denoise(x, t, schedule), (x + sigma**2 * three.score(x, t, schedule)) / alpha, rtol=1e-8, atol=1e-8
    )


def test_density_and_posterior_mean_by_quadrature(schedule, one_axis):
    """p_t(x) = int p(x0) q(x | x0) dx0, and E[x0 | x] beside it, on a grid over x0."""
    x0, step = grid()
    alpha, sigma = schedule(0.4)
    prior = one_axis.log_prob(x0[:, None], 0.0, schedule).exp()
    for x in (-1.2, 0.1, 2.0):
        joint = prior * torch.distributions.Normal(alpha * x0, sigma).log_prob(torch.tensor(x, **f64)).exp()
        at = torch.tensor([[x]], **f64)
        assert one_axis.log_prob(at, 0.4, schedule).exp().item() == pytest.approx((joint.sum() * step).item(), rel=1e-7)
        assert one_axis.denoise(at, 0.4, schedule).item() == pytest.approx(
            ((joint * x0).sum() / joint.sum()).item(), rel=1e-7
        )


def test_density_integrates_to_one(one_axis):
    x, step = grid()
    for t in (0.0, 0.3, 1.0):
        assert (one_axis.log_prob(x[:, None], t, Cosine()).exp().sum() * step).item() == pytest.approx(1, abs=1e-9)


def test_one_gaussian_has_the_textbook_answer():
    one = Mixture(torch.ones(1, **f64), torch.tensor([[2.0]], **f64), torch.tensor([0.5], **f64))
    alpha, sigma = Cosine()(0.4)
    x, variance = torch.tensor([[0.3]], **f64), alpha**2 * 0.25 + sigma**2
    assert one.denoise(x, 0.4, Cosine()).item() == pytest.approx(
        (2 + alpha * 0.25 / variance * (0.3 - 2 * alpha)).item()
    )


def test_reverse_kernel_equals_bayes_on_a_grid(one_axis):
    x_s, step = grid()
    schedule, s, t, x_t = Cosine(), 0.3, 0.8, torch.tensor([0.4], **f64)
    alpha_ts, sigma_ts = transition(s, t, schedule)
    joint = one_axis.log_prob(x_s[:, None], s, schedule) - ((x_t - alpha_ts * x_s) / sigma_ts) ** 2 / 2
    q = joint.softmax(0) / step
    kernel = one_axis.reverse(x_t, s, t, schedule)
    torch.testing.assert_close(kernel.log_prob(x_s[:, None], 0.0, schedule).exp(), q, rtol=1e-6, atol=1e-9)


def test_sample_has_the_mixtures_moments(three):
    x = three.sample(100_000, torch.Generator().manual_seed(0))
    mean = (three.weights[:, None] * three.means).sum(0)
    second = (three.weights[:, None] * (three.means**2 + three.stds[:, None] ** 2)).sum(0)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close((x**2).mean(0), second, rtol=0.02, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_400_standard_deviations_away(dtype):
    narrow = Mixture(
        torch.tensor([0.5, 0.5], dtype=dtype),
        torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=dtype),
        torch.tensor([0.1, 0.1], dtype=dtype),
    )
    x = torch.tensor([[41.0, 0.0]], dtype=dtype)  # 400 standard deviations right of the right component
    log_prob, score = narrow.log_prob(x, 0.0, Cosine()), narrow.score(x, 0.0, Cosine())
    normal = torch.distributions.Normal(0.0, 0.1)
    expected = normal.log_prob(torch.tensor(40.0)) + normal.log_prob(torch.tensor(0.0)) + torch.tensor(0.5).log()
    assert log_prob.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(score, torch.tensor([[-4000.0, 0.0]], dtype=dtype), rtol=1e-4, atol=1e-2)
    assert narrow.denoise(x, 0.5, VarianceExploding()).isfinite().all()


def test_stds_per_axis():
    flat = Mixture(torch.ones(1, **f64), torch.zeros(1, 2, **f64), torch.tensor([[0.1, 2.0]], **f64))
    x = flat.sample(50_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.std(0), torch.tensor([0.1, 2.0], **f64), rtol=0.02, atol=0)
    expected = sum(torch.distributions.Normal(0.0, s).log_prob(v) for s, v in ((0.1, x[:, 0]), (2.0, x[:, 1])))
    torch.testing.assert_close(flat.log_prob(x, 0.0, Cosine()), expected)


def test_bad_mixtures_and_points_are_refused(three):
    with pytest.raises(ValueError, match=r"weights >= 0 that sum to 1, got \[0.5, 0.6\]"):
        Mixture(torch.tensor([0.5, 0.6], **f64), torch.zeros(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match=r"weights >= 0 that sum to 1, got \[1.5, -0.5\]"):
        Mixture(torch.tensor([1.5, -0.5], **f64), torch.zeros(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match="weights >= 0 that sum to 1, got"):
        Mixture(torch.tensor([0.5, float("nan")], **f64), torch.zeros(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match=r"expected weights \(K,\), means \(K, D\)"):
        Mixture(torch.ones(1), torch.zeros(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match="stds > 0"):
        Mixture(torch.ones(1), torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(ValueError, match=r"expected points \(B, 2\), got \(5, 3\)"):
        three.score(torch.zeros(5, 3), 0.5, Cosine())


def test_empirical_is_the_mixture_of_narrow_gaussians():
    data = torch.randn(30, 3, dtype=torch.float64)
    spikes = Mixture(torch.full((30,), 1 / 30, **f64), data, torch.full((30,), 1e-6, **f64))
    t = torch.linspace(0.1, 1.0, 12, dtype=torch.float64)
    x = add_noise(data[:12], noise_like(data[:12]), t, Cosine())
    torch.testing.assert_close(
        Empirical(data).denoise(x, t, Cosine()), spikes.denoise(x, t, Cosine()), rtol=1e-8, atol=1e-8
    )


def test_empirical_takes_images_and_refuses_others():
    data = torch.rand(10, 1, 4, 4) * 2 - 1
    x0 = Empirical(data).denoise(data[:3], 1e-3, Cosine())
    torch.testing.assert_close(x0, data[:3], rtol=0, atol=1e-4)  # hardly any noise: the nearest image is certain
    torch.testing.assert_close(
        Empirical(data).denoise(data[:1], 1.0, Cosine())[0], data.mean(0), rtol=0, atol=1e-6
    )  # nothing known
    with pytest.raises(ValueError, match="t > 0"):
        Empirical(data).denoise(data, 0.0, Cosine())
    with pytest.raises(ValueError, match=r"expected data of shape \(B, 1, 4, 4\)"):
        Empirical(data).denoise(torch.zeros(2, 1, 5, 5), 0.5, Cosine())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empirical_tells_near_neighbours_apart(dtype):
    """Two pictures that differ in one pixel of 3,072 and little noise: in float32 the squared distances cancel."""
    g = torch.Generator().manual_seed(0)
    data = (torch.rand(1, 3072, generator=g).expand(2, -1) * 2 - 1).to(dtype).clone()
    data[1, 0] += 0.02
    t, schedule = 0.1, VarianceExploding(0.005, 10.0)
    sigma = schedule(t)[1]  # 0.009
    x = data.mean(0, keepdim=True) + sigma.to(dtype) * torch.randn(1, 3072, generator=g)
    x[0, 0] = data[:, 0].mean() + 0.003
    distances = (x.double() - data.double()).square().sum(1)
    weights = (-distances / (2 * sigma**2)).softmax(0)  # by distances that nothing cancels in
    expected = weights[0] * data[0].double() + weights[1] * data[1].double()
    found = Empirical(data).denoise(x, t, schedule)
    assert found.dtype == dtype and 0.01 < weights[0] < 0.99
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_mixture_on_a_gpu_draws_the_same_points(three):
    away = Mixture(three.weights.cuda(), three.means.cuda(), three.stds.cuda())
    here, there = (m.sample(50, torch.Generator().manual_seed(0)) for m in (three, away))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here)


def test_a_mixtures_random_numbers_are_drawn_on_the_host(three, monkeypatch):
    """The generator is the CPU's wherever the parameters are: shown with a device that has no values."""
    real = torch.multinomial
    monkeypatch.setattr(torch, "multinomial", lambda weights, *rest, **more: real(three.weights, *rest, **more))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor)
    away = object.__new__(Mixture)  # its checks would read the values
    for name in ("weights", "means", "stds"):
        object.__setattr__(away, name, getattr(three, name).to("meta"))
    assert away.sample(50, torch.Generator().manual_seed(0)).device.type == "meta"
