"""Schedules: closed-form rates against automatic differentiation, tables against Ho et al. and diffusers, edges."""

import math
from dataclasses import dataclass

import pytest
import torch

from minidiff.denoiser import Denoiser
from minidiff.process import PREDICTIONS, add_noise, target, to_x0_eps
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, final, heun, times
from minidiff.schedule import (
    SCHEDULES,
    Cosine,
    Flow,
    FromBetas,
    LinearBeta,
    Schedule,
    VarianceExploding,
    cosine_betas,
    linear_betas,
    register_schedule,
    scaled_linear_betas,
    shift_times,
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigma_is_plus_zero_at_the_data(schedule, dtype):
    """-0 would make the signal-to-noise ratio minus infinity."""
    alpha, sigma = schedule(torch.zeros((), dtype=dtype))
    assert (alpha / sigma).item() == math.inf and schedule.log_snr(torch.zeros((), dtype=dtype)).item() == math.inf


def test_noise_near_the_data_is_exact():
    """sigma^2 = 1 - alpha^2 without cancellation, and rates that no clamp touches: sigma grows as sqrt(beta_min t)."""
    for t in (1e-12, 1e-8, 1e-4):
        exponent = -(0.1 * t + 19.9 * t**2 / 2)
        sigma = math.sqrt(-math.expm1(exponent))
        assert LinearBeta()(t)[1].item() == pytest.approx(sigma, rel=1e-13)
        rate = (0.1 + 19.9 * t) * math.exp(exponent) / (2 * sigma)
        assert LinearBeta().rates(t)[1].item() == pytest.approx(rate, rel=1e-12)
        exploding, growth = VarianceExploding(0.02, 80.0), math.log(4000)
        assert exploding(t)[1].item() == pytest.approx(0.02 * math.sqrt(math.expm1(2 * growth * t)), rel=1e-13)


def test_defaults_are_the_published_ones():
    """Song et al. (2021, appendix C): beta from 0.1 to 20, sigma from 0.01 to 50."""
    assert LinearBeta() == LinearBeta(0.1, 20.0) and VarianceExploding() == VarianceExploding(0.01, 50.0)


@pytest.mark.parametrize("make", [
    lambda: LinearBeta(2.0, 1.0), lambda: LinearBeta(-0.1, 1.0), lambda: LinearBeta(0.0, 0.0),
    lambda: LinearBeta(0.1, math.nan), lambda: LinearBeta(0.1, math.inf), lambda: LinearBeta("0.1", 2.0),
    lambda: VarianceExploding(0.0, 50.0), lambda: VarianceExploding(-1.0, 50.0), lambda: VarianceExploding(5.0, 5.0),
    lambda: VarianceExploding(math.nan, 50.0), lambda: VarianceExploding(0.1, math.inf),
    lambda: VarianceExploding(None, 1.0), lambda: FromBetas([1e-6] * (10**6 + 1)), lambda: FromBetas(None),
    lambda: FromBetas(["a"]), lambda: FromBetas([0.1, -0.1]),
])  # fmt: skip
def test_impossible_parameters_are_refused(make):
    with pytest.raises(ValueError, match="^expected .*, got ") as refusal:
        make()
    assert len(str(refusal.value)) < 200


def test_times_are_checked_but_not_where_that_would_wait_or_break_a_graph(schedule):
    """The meta device stands for a GPU: it has no values, so each read of one raises."""
    away = torch.empty(3, device="meta")
    for value in (*schedule(away), *schedule.rates(away), *schedule(away[0]), schedule.log_snr(away)):
        assert value.device.type == "meta"
    t = torch.rand(3)
    compiled = torch.compile(lambda t: (*schedule(t), *schedule.rates(t)), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(t), (*schedule(t), *schedule.rates(t)))
    compiled(t + 5)  # a graph has no check
    torch.jit.trace(lambda t: schedule(t), t + 5, check_trace=False)  # nor has what the older ONNX exporter makes


def test_only_the_schedules_that_preserve_variance_say_so(schedule):
    alpha, sigma = schedule(torch.linspace(0.01, 0.99, 9, dtype=torch.float64))
    assert schedule.variance_preserving == bool(((alpha**2 + sigma**2 - 1).abs() < 1e-12).all())


@dataclass(frozen=True)
class Square(Schedule):
    """alpha = 1 - t^2, sigma = t: a schedule as a stranger would write it."""

    power: int = 2

    def __call__(self, t):
        t = torch.as_tensor(t, dtype=torch.float64) if isinstance(t, float) else t
        return 1 - t**self.power, 1 * t

    def rates(self, t):
        t = torch.as_tensor(t, dtype=torch.float64) if isinstance(t, float) else t
        return -self.power * t ** (self.power - 1), torch.ones_like(t)


def test_a_schedule_of_ones_own_needs_two_methods():
    schedule, x0, eps = Square(), *torch.randn(2, 5, 3)
    t = torch.linspace(0.1, 0.9, 5)
    x_t = add_noise(x0, eps, t, schedule)
    for prediction in PREDICTIONS:
        y = target(prediction, x0, eps, t, schedule)
        if prediction == "velocity":
            torch.testing.assert_close(y, -2 * t[:, None] * x0 + eps)
        torch.testing.assert_close(to_x0_eps(prediction, y, x_t, t, schedule)[0], x0, rtol=1e-3, atol=1e-4)
        denoiser = Denoiser(Answer(y), schedule, prediction)
        torch.testing.assert_close(denoiser(x_t, t), x0, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(torch.compile(denoiser, fullgraph=True, backend="eager")(x_t, t), denoiser(x_t, t))
    for sampler in (ddpm, ddim, euler, heun, dpmpp_2m):
        torch.testing.assert_close(final(sampler(lambda x, t: x0, eps, times(5), schedule)), x0)


class Answer(torch.nn.Module):
    """A network that gives one answer whatever it is asked."""

    def __init__(self, y):
        super().__init__()
        self.y = y

    def forward(self, x, t, cond=None):
        return self.y


def test_a_schedule_is_registered_once(monkeypatch):
    monkeypatch.setattr("minidiff.schedule.SCHEDULES", dict(SCHEDULES))
    register_schedule("Square", Square)
    register_schedule("Square", Square)  # a module imported twice
    from minidiff.schedule import SCHEDULES as known

    assert known["Square"] is Square and known["Cosine"] is Cosine and set(known) == {*SCHEDULES, "Square"}
    again = dataclass(frozen=True)(type("Square", (Square,), {"__module__": Square.__module__}))
    register_schedule("Square", again)  # a notebook's cell that runs twice makes the class anew
    assert known["Square"] is again
    with pytest.raises(ValueError, match="expected a name of its own for Square, got 'Cosine'"):
        register_schedule("Cosine", Square)
    for stranger in (Square(), dict, Schedule, type("Thawed", (Schedule,), {})):
        with pytest.raises(ValueError, match="expected a frozen dataclass that is a Schedule, got "):
            register_schedule("Other", stranger)
    assert "Other" not in known and known["Cosine"] is Cosine


def test_shifted_times():
    """Esser et al. (2024, eq. 23), and its meaning: signal-to-noise ratios of the straight line fall by shift^2."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.equal(shift_times(t, 1.0), t)
    shifted = shift_times(t, 3.0)
    assert shifted[0] == 0 and shifted[-1] == 1 and (shifted.diff() > 0).all() and (shifted[1:-1] > t[1:-1]).all()
    fall = Flow().log_snr(t[1:-1]) - Flow().log_snr(shifted[1:-1])
    torch.testing.assert_close(fall, torch.full_like(fall, math.log(9)))
    torch.testing.assert_close(shift_times(shifted, 1 / 3), t)
    for shift in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected a finite shift > 0, got"):
            shift_times(t, shift)
