"""Autoencoders: shapes and refusals, both bottlenecks against exact answers, the loss by hand, and that it learns."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.utils.data import TensorDataset

from minidiff.data import load
from minidiff.nets.autoencoder import (
    COMMITMENT,
    Autoencoder,
    AutoencoderConfig,
    GaussianBottleneck,
    VectorQuantizer,
    autoencoder_loss,
)
from minidiff.training import TrainConfig, TrainState, train
from minidiff.training.objectives import reconstruction


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(**config):
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(**{"width": 8, "latent_channels": 3} | config))


def vq(codebook_size=6, latent_channels=3):
    layer = VectorQuantizer(latent_channels, codebook_size)
    layer.codebook.weight.data = rand(codebook_size, latent_channels, seed=1)
    return layer


def vectors(h):
    """(B, c, H, W) -> (BHW, c)."""
    return h.permute(0, 2, 3, 1).reshape(-1, h.shape[1])


# Shapes and refusals


@pytest.mark.parametrize("codebook_size", [0, 6])
@pytest.mark.parametrize(
    "channels, num_downsamples, blocks, size", [(1, 1, 1, (8, 12)), (3, 2, 2, (16, 8)), (2, 3, 0, (8, 8))]
)
def test_shapes(codebook_size, channels, num_downsamples, blocks, size):
    net = small(channels=channels, num_downsamples=num_downsamples, num_blocks=blocks, codebook_size=codebook_size)
    x, f = rand(2, channels, *size), 2**num_downsamples
    assert net.config.factor == f
    z, cost = net.encode(x)
    assert z.shape == (2, 3, size[0] // f, size[1] // f) and cost.shape == (2,) and (cost >= 0).all()
    x_hat, same_cost = net(x)
    assert x_hat.shape == x.shape and torch.equal(x_hat, net.decode(z)) and torch.equal(cost, same_cost)


def test_each_picture_keeps_its_own_code():
    net, x = small().eval(), rand(3, 1, 8, 8)
    changed = x.clone()
    changed[1] += 1
    before, after = net.encode(x).z, net.encode(changed).z
    assert torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-5) and not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 10, 8), (2, 1, 8, 6), (1, 8, 8), (0, 1, 8, 8), (1, 1, 0, 8)])
def test_encode_refuses_other_pictures(shape):
    with pytest.raises(ValueError, match=r"expected pictures \(B, 1, H, W\), B > 0, H and W divisible by 4, got"):
        small().encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 4, 2, 2), (3, 2, 2), (0, 3, 2, 2)])
def test_decode_refuses_other_codes(shape):
    with pytest.raises(ValueError, match=r"expected codes \(B, 3, H, W\), got"):
        small().decode(torch.zeros(shape))


# KL


def test_kl_is_the_divergence_from_the_standard_normal():
    mean, log_var = rand(5, 3, 2, 4, seed=2), rand(5, 3, 2, 4, seed=3)
    exact = kl_divergence(
        Independent(Normal(mean, (log_var / 2).exp()), 3), Independent(Normal(torch.zeros_like(mean), 1.0), 3)
    )
    torch.testing.assert_close(GaussianBottleneck(3)(torch.cat([mean, log_var], 1)).cost, exact)


def test_kl_is_zero_at_the_standard_normal_and_nowhere_else():
    assert torch.equal(GaussianBottleneck(3)(torch.zeros(2, 6, 4, 4)).cost, torch.zeros(2))
    assert (GaussianBottleneck(3)(0.1 * rand(50, 6, 4, 4)).cost > 0).all()


def test_kl_is_finite_however_wild_the_network():
    z, cost = GaussianBottleneck(1)(torch.tensor([[[[3.0]], [[1e4]]], [[[3.0]], [[-1e4]]]]), torch.ones(2, 1, 1, 1))
    assert z.isfinite().all() and cost.isfinite().all()


def test_kl_samples_have_the_mean_and_the_deviation_that_they_pay_for():
    mean, log_var = torch.tensor([0.5, -2.0]), torch.tensor([-2.0, 1.0])
    h = torch.cat([mean, log_var]).view(1, 4, 1, 1).expand(-1, -1, 200, 200)
    z = GaussianBottleneck(2)(h, rand(1, 2, 200, 200, seed=4)).z[0].flatten(1)  # (2, 40000)
    std = (log_var / 2).exp()
    assert ((z.mean(1) - mean).abs() < 5 * std / 200).all() and ((z.std(1) / std - 1).abs() < 0.02).all()
    assert torch.equal(GaussianBottleneck(2)(h).z, h[:, :2])  # without noise the mean


# VQ


def test_vq_takes_the_nearest_entry():
    layer, h = vq().eval(), rand(4, 3, 5, 2)
    z = layer(h).z
    distances = (vectors(h)[:, None] - layer.codebook.weight).square().sum(2)  # (N, K)
    torch.testing.assert_close(vectors(z), layer.codebook.weight[distances.argmin(1)])
    assert torch.allclose((vectors(z) - vectors(h)).square().sum(1), distances.min(1).values, atol=1e-5)


def test_vq_chooses_in_full_precision_inside_autocast():
    layer, h = vq(64).eval(), rand(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(h).z
    assert torch.equal(found, layer(h).z)


def test_vq_at_an_entry_costs_nothing():
    layer = vq().eval()
    h = layer.codebook.weight.detach().view(6, 3, 1, 1)
    z, cost = layer(h)
    torch.testing.assert_close(z, h)
    assert torch.allclose(cost, torch.zeros(6))


def test_vq_hands_the_decoders_gradient_straight_through():
    layer, h = vq().eval(), rand(4, 3, 5, 2).requires_grad_()
    upstream = rand(4, 3, 5, 2, seed=5)
    to_h, to_codebook = torch.autograd.grad(
        (layer(h).z * upstream).sum(), (h, layer.codebook.weight), allow_unused=True
    )
    assert torch.equal(to_h, upstream) and to_codebook is None


def test_vq_cost_moves_each_side_by_its_share():
    assert COMMITMENT == 0.25  # beta of van den Oord et al. (2017), section 3.2
    layer, h = vq().eval(), rand(4, 3, 5, 2).requires_grad_()
    z, cost = layer(h)
    z = z.detach()
    torch.testing.assert_close(cost, (1 + COMMITMENT) * (z - h.detach()).square().flatten(1).sum(1))
    to_h, to_codebook = torch.autograd.grad(cost.sum(), (h, layer.codebook.weight))
    torch.testing.assert_close(to_h, 2 * COMMITMENT * (h - z).detach())
    index = torch.cdist(vectors(h.detach()), layer.codebook.weight.detach()).argmin(1)
    for i, entry in enumerate(layer.codebook.weight.detach()):
        served = vectors(h.detach())[index == i]
        torch.testing.assert_close(to_codebook[i], 2 * (entry - served).sum(0))


def far_entry(layer, chosen=1.0):
    """One entry too far away to be chosen, and not chosen for long."""
    layer.codebook.weight.data[2] = 1e3
    layer.usage[2] = chosen


def test_revive_moves_the_dead_onto_the_vector_served_worst():
    layer, h = vq().train(), rand(4, 3, 5, 2)
    far_entry(layer, 0.0)
    alive = layer.codebook.weight.detach().clone()
    worst = torch.cdist(vectors(h), alive).min(1).values.argmax()
    layer(h)
    torch.testing.assert_close(layer.codebook.weight[2].detach(), vectors(h)[worst])
    others = torch.arange(6) != 2
    assert torch.equal(layer.codebook.weight[others], alive[others]) and layer.usage[2] == 1


def test_nothing_is_revived_in_evaluation_or_with_threshold_zero_or_too_early():
    for layer, chosen in [(vq().eval(), 0.0), (vq().train(), 0.0), (vq().train(), 1.0)]:
        far_entry(layer, chosen)
        if layer.training and not chosen:
            layer.dead_threshold = 0
        before, used = layer.codebook.weight.detach().clone(), layer.usage.clone()
        layer(rand(4, 3, 5, 2))
        assert torch.equal(layer.codebook.weight, before)
        assert layer.training or torch.equal(layer.usage, used)


def test_an_entry_that_the_batch_chose_is_never_moved_away():
    layer, h = vq().train(), rand(4, 3, 5, 2)
    layer.usage.zero_()  # all seem dead; those that this batch chooses are not
    before = layer.codebook.weight.detach().clone()
    chosen = torch.cdist(vectors(h), before).argmin(1)
    layer(h)
    assert torch.equal(layer.codebook.weight[chosen], before[chosen])


def test_use_is_counted_in_mean_uses():
    layer, h = vq().train(), rand(4, 3, 5, 2)
    index = torch.cdist(vectors(h), layer.codebook.weight.detach()).argmin(1)
    share = torch.bincount(index, minlength=6) * 6 / len(index)
    layer(h)
    torch.testing.assert_close(layer.usage, 0.97 + 0.03 * share)
    assert layer.usage.mean().item() == pytest.approx(1)


def test_a_dead_codebook_comes_to_life():
    """All entries but one out of reach: after 200 batches all are used."""
    layer = vq(16).train()
    layer.codebook.weight.data[1:] = 1e3
    for seed in range(200):
        layer(rand(8, 3, 4, 4, seed=seed))
    index = torch.cdist(vectors(rand(64, 3, 4, 4, seed=999)), layer.codebook.weight.detach()).argmin(1)
    assert len(index.unique()) == 16


# The whole


@pytest.mark.parametrize("codebook_size", [0, 6])
def test_the_loss_by_hand(codebook_size):
    net, x = small(channels=2, codebook_size=codebook_size, cost_weight=0.3).eval(), rand(4, 2, 8, 8)
    eps = None if codebook_size else rand(4, 3, 2, 2, seed=6)
    z, cost = net.encode(x, eps)
    z, cost = z.detach(), cost.detach()
    x_hat = net.decode(z).detach()
    by_hand = [(float((x_hat[i] - x[i]).square().sum()) + 0.3 * float(cost[i])) / 128 for i in range(4)]
    assert autoencoder_loss(net, x, eps).tolist() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("codebook_size", [0, 6])
def test_every_weight_learns(codebook_size):
    net = small(codebook_size=codebook_size)
    for p in net.parameters():  # blocks start at zero and hand nothing back: from anywhere else they do
        p.data += 0.1 * rand(*p.shape, seed=p.numel())
    autoencoder_loss(net, rand(8, 1, 16, 16), None if codebook_size else rand(8, 3, 4, 4, seed=6)).mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("codebook_size", [0, 6])
def test_state_dict_round_trip(codebook_size):
    net, x = small(codebook_size=codebook_size).eval(), rand(2, 1, 8, 8)
    torch.manual_seed(1)
    other = Autoencoder(net.config).eval()
    assert not torch.equal(other(x)[0], net(x)[0])
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x)[0], net(x)[0])


def test_reconstruction_draws_noise_only_for_codes_that_cost_something():
    x, config = rand(4, 1, 8, 8).clamp(-1, 1), TrainConfig()
    for weight, noisy in [(0.0, False), (0.1, True)]:
        net = small(cost_weight=weight)
        losses = [reconstruction(net, (x,), config, torch.Generator().manual_seed(seed)).item() for seed in (0, 0, 1)]
        assert losses[0] == losses[1] and (losses[0] != losses[2]) == noisy
        eps = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) if noisy else None
        assert losses[0] == pytest.approx(autoencoder_loss(net, x, eps).mean().item())


@pytest.mark.parametrize("codebook_size", [0, 32])
def test_sixty_steps_halve_the_loss_on_digits(codebook_size):
    digits = load("digits")
    data = TensorDataset(digits.tensor(), digits.y)
    net = small(width=16, num_downsamples=1, codebook_size=codebook_size)
    training = TrainState(net, TrainConfig(batch_size=32, lr=1e-2, warmup_steps=10, precision="fp32"), reconstruction)
    losses = [p.loss for p in train(training, data, steps=60)]
    assert sum(losses[-10:]) / 10 < losses[0] / 2
    x = load("digits", "test").tensor(slice(0, 100))
    with torch.no_grad():
        error = (training.model.eval()(x)[0] - x).square().mean()
    assert math.sqrt(error) < 0.8 * x.std()  # better than the mean
