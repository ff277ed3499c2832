"""The four tiny models of chapter 01: what can be undone is undone, likelihoods are likelihoods."""

import math

import pytest
import torch

from minidiff import Cosine, Gaussian, Mixture, ddim, final, times
from minidiff.course import families
from minidiff.data import toy

TRUTH = Mixture(*toy.mixture_parameters())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_four_are_equally_large_and_turn_noise_into_points():
    models = families.four(0)
    weights = [sum(w.numel() for w in model.parameters()) for model in models.values()]
    assert list(models) == ["GAN", "VAE", "flow", "diffusion"] and max(weights) < 1.03 * min(weights)
    for model in models.values():
        x = families.draw(model, torch.randn(7, 2, generator=seeded(1)))
        assert x.shape == (7, 2) and x.isfinite().all() and not x.requires_grad


def test_a_seed_decides_everything():
    runs = []
    for _ in range(2):
        losses = list(families.train_together(families.four(0), 3, seed=5))
        assert len(losses) == 3 and all(len(loss) == 4 for loss in losses)
        runs.append(losses)
    assert runs[0] == runs[1] != list(families.train_together(families.four(0), 3, seed=6))


@pytest.mark.parametrize("name", ["VAE", "flow", "diffusion"])
def test_training_lowers_the_loss(name):
    model = {name: families.four(0)[name]}
    losses = torch.tensor(list(families.train_together(model, 300, seed=1)))
    assert losses[-60:].mean() < 0.96 * losses[:20].mean()  # diffusion's cannot fall below 0.86


def test_a_gans_discriminator_learns_against_a_generator_that_stands_still():
    gan, rates = families.four(0)["GAN"], torch.tensor(2.0).log()
    gan.optimizers[1].param_groups[0]["lr"] = 0.0
    losses = [gan.learn(toy.mixture(256, seeded(k)), seeded(100 + k)) for k in range(60)]
    assert losses[0] == pytest.approx(2 * float(rates), abs=0.1) and losses[-1] < 0.8


def test_the_flow_is_undone_and_its_density_is_one():
    torch.manual_seed(1)
    flow, x, side = families.RealNVP(), toy.mixture(20, seeded(0)), torch.linspace(-6, 6, 241)
    for weight in flow.parameters():
        weight.data *= 1.5  # not almost the identity
    z, log_det = flow.encode(x)
    assert torch.allclose(flow.sample(z), x, atol=1e-4)
    slopes = torch.stack([torch.autograd.functional.jacobian(lambda p: flow.encode(p[None])[0][0], p) for p in x])
    assert torch.allclose(torch.linalg.slogdet(slopes).logabsdet, log_det, atol=1e-4)
    with torch.no_grad():
        mass = flow.log_prob(torch.cartesian_prod(side, side)).exp().sum() * 0.05**2
    assert mass == pytest.approx(1, abs=0.01)


def test_the_elbo_is_on_average_the_bound_and_not_above_the_likelihood():
    vae, axis, x = families.four(0)["VAE"], torch.linspace(-9, 9, 181), toy.mixture(20, seeded(0))
    vae.encoder[-1].weight.data *= 8
    z, cell = torch.cartesian_prod(axis, axis), 0.01
    normal = torch.distributions.Normal
    with torch.no_grad():
        code, back = vae.encode(x), vae.decode(z)
        q = normal(code.mean[:, None], code.std[:, None]).log_prob(z).sum(2)  # (20, 32761)
        joint = normal(back.mean, back.std).log_prob(x[:, None]).sum(2) + normal(0.0, 1.0).log_prob(z).sum(1)
        drawn = torch.cat([vae.elbo(x.repeat(2500, 1), seeded(k)).reshape(2500, 20) for k in range(4)])
    evidence, bound = (joint.exp() * cell).sum(1).log(), (q.exp() * cell * (joint - q)).sum(1)
    off = (drawn.mean(0) - bound) / (drawn.std(0) / len(drawn) ** 0.5)  # in standard errors
    assert (bound < evidence).all() and off.abs().max() < 4.5 and off.mean().abs() < 1


def test_a_decoders_noise_is_drawn_from_the_generator():
    vae, z = families.four(0)["VAE"], torch.randn(50, 2, generator=seeded(1))
    assert torch.equal(families.draw(vae, z), families.draw(vae, z))
    assert not torch.equal(vae.sample(z, seeded(1)), vae.sample(z, seeded(2)))
    assert isinstance(vae.decode(z), Gaussian)


def test_diffusion_walks_as_ddim_does():
    """The step of the chapter, a turn by an angle, against the package's sampler."""
    model, x = families.four(2)["diffusion"], torch.randn(50, 2, generator=seeded(1))
    with torch.no_grad():
        sampled, turn = model.sample(x, n=50), torch.tensor(torch.pi / 100)
        for k in range(50, 0, -1):
            x = turn.cos() * x - turn.sin() * model(x, torch.full((50,), k / 50))
    assert torch.allclose(sampled, x, atol=1e-4)


def test_coverage_counts_strays_and_the_poorest_cluster():
    inside = 1 - math.exp(-2)  # of a Gaussian in the plane, within two deviations
    strays, poorest = families.coverage(TRUTH.sample(20_000, seeded(0)))
    assert strays == pytest.approx(1 - inside, abs=0.01) and 0.85 < poorest < 1.02
    equal = families.coverage(TRUTH.means.repeat(4, 1))  # equal shares, all at the centres
    assert equal == (0.0, pytest.approx(8 / 12 / inside, abs=1e-5))
    assert families.coverage(torch.zeros(5, 2)) == (1.0, 0.0)
    rim = TRUTH.means + TRUTH.stds[:, None] * torch.tensor([0.0, 2.5])  # beyond two deviations, within three
    due = 8 / 12 / (1 - math.exp(-9 / 2))
    assert families.coverage(rim)[0] == 1 and families.coverage(rim, within=3) == (0.0, pytest.approx(due, abs=1e-5))


def test_near_counts_deviations():
    x = TRUTH.means + TRUTH.stds[:, None] * torch.tensor([0.0, 2.5])
    close, cluster = families.near(x)
    assert close.all() and torch.equal(cluster, torch.arange(8)) and not families.near(x, within=2.0)[0].any()


def test_a_ring_strays_though_no_cluster_is_lost():
    x = families.ring(20_000, seeded(1))
    strays, poorest = families.coverage(x)
    assert torch.allclose(x.norm(dim=1), TRUTH.means[0].norm()) and x.mean(0).abs().max() < 0.03
    assert strays > 0.35 and poorest > 0.45


def test_the_exact_walk_covers_every_cluster():
    noise = torch.randn(4000, 2, generator=seeded(1))
    x = final(ddim(lambda x, t: TRUTH.denoise(x, t, Cosine()), noise, times(100), Cosine()))
    strays, poorest = families.coverage(x)
    assert strays < 0.18 and poorest > 0.8


def test_three_ways_begin_at_one_noisy_point():
    start = torch.tensor([1.0, 0.6], dtype=torch.float64)
    ways = families.three_ways(start, lambda x, t: TRUTH.denoise(x, t, Cosine()), Cosine(), many=50)
    assert [path.shape for path in ways.values()] == [(201, 1, 2), (101, 50, 2), (101, 50, 2)]
    assert all(torch.equal(ways[name][0], start.expand_as(ways[name][0])) for name in ("ddim", "ddpm"))
    out = ways["fresh noise"]
    assert torch.equal(out[0, 0], ways["ddim"][-1, 0]) and out[-1].std(0).min() > 0.7


def test_the_walk_out_knows_the_density_of_the_exact_denoiser():
    """Against the mixture's own density: v of the best guess, whose walk leads to the data and to nothing else."""

    def best_v(x, t):
        alpha, sigma = (float(c) for c in Cosine()(float(t)))
        return (alpha * x - TRUTH.denoise(x, t, Cosine())) / sigma if t > 0 else torch.zeros_like(x)

    x = TRUTH.sample(300, seeded(11))
    z, log_det = families.walk_out(best_v, x, n=200)
    off = families.standard(z).log_prob(z) + log_det - TRUTH.log_prob(x, 0.0, Cosine())
    assert off.abs().mean() < 0.1 and off.mean().abs() < 0.02


def test_a_path_back_returns_and_a_path_of_noise_forgets():
    def best(x, t):
        return TRUTH.denoise(x, t, Cosine())

    start, up = torch.randn(5, 2, generator=seeded(1)), torch.linspace(0, 1, 201).double()
    x = final(ddim(best, start, times(200), Cosine()))
    back = families.path_back(best, x, up, Cosine())
    assert back.shape == (201, 5, 2) and (back[-1] - start).norm(dim=1).max() < 0.05
    half = up[:101]  # to t = 1/2, where a trace is left
    ends = families.path_of_noise(x[:1].repeat(20_000, 1), half, Cosine(), seeded(2))[-1]
    alpha, sigma = (float(c) for c in Cosine()(0.5))
    assert torch.allclose(ends.mean(0), alpha * x[0], atol=0.02)
    assert torch.allclose(ends.std(0), torch.full((2,), sigma), atol=0.02)
