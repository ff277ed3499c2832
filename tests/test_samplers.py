"""Samplers with the exact denoiser: moments, order of convergence, identities, and agreement with diffusers."""

from functools import partial

import pytest
import torch

from minidiff.oracle import Mixture
from minidiff.samplers import State, ddim, ddpm, dpmpp_2m, euler, final, heun, langevin, times
from minidiff.schedule import (
    Cosine,
    Flow,
    FromBetas,
    LinearBeta,
    Schedule,
    VarianceExploding,
    linear_betas,
    shift_times,
)

f64 = {"dtype": torch.float64}
SAMPLERS = [ddpm, ddim, euler, heun, dpmpp_2m, langevin]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.__name__)
ONE = Mixture(torch.ones(1, **f64), torch.tensor([[0.8]], **f64), torch.tensor([0.5], **f64))


def start(n, dims, schedule, seed=0, dtype=torch.float64):
    return schedule(1.0)[1] * torch.randn((n, dims), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_times():
    assert times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0] and times(4).dtype == torch.float64
    torch.testing.assert_close(
        times(1000), torch.arange(1000, -1, -1, dtype=torch.float64) / 1000, rtol=1e-15, atol=0
    )  # DDPM's k / T
    too_many = [(10**6 + 1,), (10**12,), (10**30,)]
    for arguments in [(0,), (4, 0.2, 0.5), (4, 1.2), (4, 1.0, -0.1), (2.5,), (4, float("nan")), *too_many]:
        with pytest.raises(ValueError, match="expected a whole number n of 1 to 1000000 steps and"):
            times(*arguments)


@every_sampler
def test_walks_the_grid_and_ends_in_x0_without_noise(sampler):
    ts, calls = times(6), []

    def denoise(x, t):
        calls.append(float(t))
        return 0.5 * x

    states = list(sampler(denoise, start(4, 2, Cosine(), dtype=torch.float32), ts, Cosine()))
    assert [float(s.t) for s in states] == ts[1:].tolist() and isinstance(states[0], State)
    assert torch.equal(states[-1].x, states[-1].x0)
    assert all(s.x.dtype == torch.float32 and s.x.shape == (4, 2) for s in states)
    assert calls[0] == 1.0 and min(calls) > 0  # never asked at t = 0


@every_sampler
@pytest.mark.parametrize(
    "schedule", [LinearBeta(), Flow(), VarianceExploding(0.01, 20.0)], ids=lambda s: type(s).__name__
)
def test_the_oracle_gives_the_mixture_back(sampler, schedule, one_axis):
    """Weights, means and widths of the components, from noise alone."""
    torch.manual_seed(0)
    ts = (
        times(100) if not isinstance(schedule, VarianceExploding) else torch.cat([times(100, 1.0, 0.2), torch.zeros(1)])
    )
    x = final(sampler(partial(one_axis.denoise, schedule=schedule), start(4000, 1, schedule), ts, schedule))[:, 0]
    right = x > 0.25
    assert right.double().mean().item() == pytest.approx(0.6, abs=0.05)
    assert x[right].mean().item() == pytest.approx(1.5, abs=0.07) and x[~right].mean().item() == pytest.approx(
        -1, abs=0.07
    )
    width = 0.25 if sampler in (ddpm, langevin) else 0.12  # noisy steps of finite size miss the width
    assert x[right].std().item() == pytest.approx(0.4, rel=width) and x[~right].std().item() == pytest.approx(
        0.2, rel=width
    )


def exact_flow(x, start_time, stop_time, schedule):
    """For one Gaussian the probability flow keeps every point's standard score: x - alpha m scales with the std."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(start_time), schedule(stop_time)
    widths = [(alpha**2 * 0.25 + sigma**2).sqrt() for alpha, sigma in ((alpha_t, sigma_t), (alpha_s, sigma_s))]
    return alpha_s * 0.8 + (x - alpha_t * 0.8) * widths[1] / widths[0]


@pytest.mark.parametrize(
    "sampler, order", [(euler, 1), (ddim, 1), (heun, 2), (dpmpp_2m, 2)], ids=lambda v: getattr(v, "__name__", str(v))
)
@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), Flow()], ids=lambda s: type(s).__name__)
def test_order_of_convergence(sampler, order, schedule):
    """Each doubling of the steps halves (first order) or quarters (second) the error against the exact flow."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = exact_flow(x, 0.9, 0.1, schedule)
    coarse, fine = (
        (final(sampler(partial(ONE.denoise, schedule=schedule), x, times(n, 0.9, 0.1), schedule)) - exact).abs().max()
        for n in (20, 640)
    )
    assert ((coarse / fine).log2() / 5).item() == pytest.approx(order, abs=0.25)


def test_ddim_at_eta_1_is_ddpm(three):
    x, schedule = start(50, 2, LinearBeta()), LinearBeta()
    denoise = partial(three.denoise, schedule=schedule)
    a = final(ddpm(denoise, x, times(40), schedule, torch.Generator().manual_seed(3)))
    b = final(ddim(denoise, x, times(40), schedule, 1.0, torch.Generator().manual_seed(3)))
    torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_ddim_is_dpmpp_of_first_order(three):
    """One DDIM step and the first step of DPM-Solver++ are the same map."""
    x, schedule = start(50, 2, LinearBeta()), LinearBeta()
    denoise = partial(three.denoise, schedule=schedule)
    ts = times(2)[:2]
    torch.testing.assert_close(final(ddim(denoise, x, ts, schedule)), final(dpmpp_2m(denoise, x, ts, schedule)))


def test_langevin_settles_where_its_steps_say():
    """On N(alpha m, S^2) steps of size e settle at the variance S^2 / (1 - e / (4 S^2)), a step's fixed point."""
    schedule, generator = Cosine(), torch.Generator().manual_seed(0)
    (alpha, sigma), ts = schedule(0.5), torch.tensor([0.5, 0.4], dtype=torch.float64)
    x = torch.randn((40_000, 1), generator=generator, dtype=torch.float64)
    x = (
        final(langevin(partial(ONE.denoise, schedule=schedule), x, ts, schedule, 150, generator))
        * alpha
        / schedule(0.4)[0]
    )
    variance, step = alpha**2 * 0.25 + sigma**2, sigma**2 / 10
    assert x.mean().item() == pytest.approx((alpha * 0.8).item(), abs=0.02)
    assert x.var().item() == pytest.approx((variance / (1 - step / (4 * variance))).item(), rel=0.02)


@pytest.mark.parametrize("sampler", [ddim, euler, heun, dpmpp_2m], ids=lambda s: s.__name__)
def test_odes_draw_no_noise(sampler, three):
    x, schedule = start(20, 2, Cosine()), Cosine()
    denoise = partial(three.denoise, schedule=schedule)
    assert torch.equal(final(sampler(denoise, x, times(10), schedule)), final(sampler(denoise, x, times(10), schedule)))


@pytest.mark.parametrize("sampler", [ddpm, langevin, partial(ddim, eta=0.5)], ids=["ddpm", "langevin", "ddim"])
def test_noise_comes_from_the_generator(sampler, three):
    x, schedule = start(20, 2, Cosine()), Cosine()

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return final(sampler(partial(three.denoise, schedule=schedule), x, times(10), schedule, generator=generator))

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def eps_from(x, x0, t, schedule):
    alpha, sigma = schedule(t)
    return (x - alpha * x0) / sigma


@pytest.mark.parametrize("steps", [1000, 50])
def test_ddpm_step_agrees_with_diffusers(steps):
    import diffusers  # slow: only where it is compared with

    schedule = FromBetas(linear_betas(1000))
    theirs = diffusers.DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", clip_sample=False, timestep_spacing="trailing"
    )
    theirs.set_timesteps(steps)
    for k in (999, 599, 1000 // steps - 1):  # diffusers counts DDPM's steps 1..T from 0
        tolerance = 1e-4 if k else 1e-3  # the very last of 1000: diffusers takes 1 - 0.9999 in float32
        x, x0 = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(k)).unbind()
        t, s = (k + 1) / 1000, (k + 1 - 1000 // steps) / 1000
        eps = eps_from(x, x0, t, schedule).float()
        expected = theirs.step(eps, k, x, generator=torch.Generator().manual_seed(5)).prev_sample
        ours = final(
            ddpm(
                lambda x, t, x0=x0: x0,
                x,
                torch.tensor([t, s], dtype=torch.float64),
                schedule,
                torch.Generator().manual_seed(5),
            )
        )
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_step_agrees_with_diffusers(eta):
    import diffusers  # slow: only where it is compared with

    schedule = FromBetas(linear_betas(1000))
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(50)
    for k in (999, 599, 39):
        x, x0 = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(k)).unbind()
        t, s = (k + 1) / 1000, (k - 19) / 1000
        eps = eps_from(x, x0, t, schedule).float()
        expected = theirs.step(eps, k, x, eta=eta, generator=torch.Generator().manual_seed(5)).prev_sample
        ours = final(
            ddim(
                lambda x, t, x0=x0: x0,
                x,
                torch.tensor([t, s], dtype=torch.float64),
                schedule,
                eta,
                torch.Generator().manual_seed(5),
            )
        )
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_dpmpp_run_agrees_with_diffusers(three):
    """A whole run of DPM-Solver++(2M) on the same grid, with the same denoiser."""
    import diffusers  # slow: only where it is compared with

    schedule = FromBetas(linear_betas(1000))
    theirs = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        prediction_type="sample",
        lower_order_final=True,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    theirs.set_timesteps(20)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    ts = torch.cat([(theirs.timesteps.double() + 1) / 1000, torch.zeros(1, dtype=torch.float64)])
    ours = final(dpmpp_2m(partial(three.denoise, schedule=schedule), x, ts, schedule))
    for k, t in zip(theirs.timesteps, ts, strict=False):
        x = theirs.step(three.denoise(x, t, schedule), k, x).prev_sample
    torch.testing.assert_close(ours, x.float(), rtol=1e-4, atol=1e-4)


def test_bad_grids_are_refused():
    x = torch.zeros(2, 2)
    for ts in ([0.5], [0.2, 0.8], [0.5, 0.5, 0.1]):
        with pytest.raises(ValueError, match="expected at least two strictly falling times"):
            list(ddim(lambda x, t: x, x, torch.tensor(ts), Cosine()))
    with pytest.raises(ValueError, match=r"expected times in \[0, 1\]"):
        list(ddim(lambda x, t: x, x, torch.tensor([1.5, 0.0]), Cosine()))
    with pytest.raises(ValueError, match="at least one step"):
        final(iter([]))


def test_shifted_times_are_those_of_training():
    """One formula for both (Esser et al. 2024, eq. 23)."""
    t = times(10, 0.9, 0.1)
    torch.testing.assert_close(times(10, 0.9, 0.1, 3.0), 3 * t / (1 + 2 * t))
    torch.testing.assert_close(times(10, 0.9, 0.1, 3.0), shift_times(t, 3.0))
    assert torch.equal(times(10, shift=5.0)[[0, -1]], times(1)) and torch.equal(times(10, shift=1.0), times(10))
    with pytest.raises(ValueError, match="expected a finite shift > 0"):
        times(10, shift=float("nan"))


@every_sampler
def test_no_gradients_are_kept(sampler):
    """A denoiser with weights would otherwise hold the graphs of all steps."""
    scale = torch.tensor(0.5, requires_grad=True)
    x = start(4, 2, Cosine()).requires_grad_()
    for state in sampler(lambda x, t: scale * x, x, times(3), Cosine()):
        assert not state.x.requires_grad and not state.x0.requires_grad
    with torch.enable_grad():  # nor is the caller's mode changed
        walk = sampler(lambda x, t: scale * x, x, times(3), Cosine())
        next(walk)
        assert torch.is_grad_enabled()


@every_sampler
def test_coefficients_are_float64_on_the_host(sampler):
    """Wherever the data are: here on the meta device, which has no values to read, as a stand-in for a GPU."""
    asked = []

    class Watched(Schedule):
        def __call__(self, t):
            asked.append(t)
            return Cosine()(t)

        def rates(self, t):
            asked.append(t)
            return Cosine().rates(t)

    def denoise(x, t):
        asked.append(t)
        return 0.5 * x

    for x in (torch.randn(3, 2), torch.empty(3, 2, device="meta")):
        states = list(sampler(denoise, x, times(4, 0.9).float(), Watched()))
        assert all(s.x.device == x.device and s.x.dtype == x.dtype for s in states)
    assert all(t.shape == () and t.dtype == torch.float64 and t.device.type == "cpu" for t in asked)
