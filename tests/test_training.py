"""Training: exact resume, averaged weights, checked ranges, clean interrupts, and learning what can be learned."""

import json
import os
import signal

import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import TensorDataset

from minidiff.data.toy import mixture, mixture_parameters
from minidiff.denoiser import Denoiser
from minidiff.losses import denoising_loss, sample_times, weight
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.oracle import Mixture
from minidiff.process import noise_like, target
from minidiff.schedule import Cosine
from minidiff.training import Ema, TrainConfig, TrainState, autocast_dtype, batch_indices, progress_bar, train
from minidiff.training.objectives import denoising

IMAGES = TensorDataset(
    torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.arange(50) % 10
)


def tiny(seed=0, **settings):
    torch.manual_seed(0)
    return TrainState(Denoiser(UNet(UNetConfig(width=16)), Cosine()), TrainConfig(batch_size=8, seed=seed, **settings))


def run(training, steps):
    return [p.loss for p in train(training, IMAGES, steps=steps)]


def test_ten_and_ten_steps_equal_twenty_bit_for_bit():
    whole = tiny()
    losses = run(whole, 20)
    first = tiny()
    losses_first = run(first, 10)
    again = tiny()
    run(again, 3)  # other weights, to be replaced by the saved ones
    again.load_state_dict(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in first.state_dict().items()},
        first.step,
        first.seconds,
    )
    losses_second = run(again, 20)
    assert losses == losses_first + losses_second
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_seeds_matter():
    assert run(tiny(seed=0), 3) == run(tiny(seed=0), 3) != run(tiny(seed=1), 3)


@pytest.mark.parametrize("n, batch_size", [(10, 4), (10, 10), (7, 16), (1000, 64)])
def test_each_epoch_shows_each_image_once(n, batch_size):
    seen = torch.cat([batch_indices(step, n, batch_size, seed=3) for step in range(-(-3 * n // batch_size))])[: 3 * n]
    for epoch in seen.reshape(3, n):
        assert torch.equal(epoch.sort().values, torch.arange(n))
    assert not torch.equal(seen[:n], seen[n : 2 * n]) and not torch.equal(seen[:n], torch.arange(n))


def test_each_seed_has_its_own_order():
    assert not torch.equal(batch_indices(0, 50, 50, seed=3), batch_indices(0, 50, 50, seed=4))


def test_ema_equals_torchs_averaged_model():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    ours = Ema(net, gamma=6.94)
    theirs = AveragedModel(
        net, avg_fn=lambda mean, new, n: mean + (1 - (1 - 1 / (n + 1)) ** 7.94) * (new - mean), use_buffers=False
    )
    for step in range(1, 30):
        for p in net.parameters():
            p.data += torch.randn_like(p)
        net(torch.randn(5, 3))  # moves the buffers
        ours.update(net, step)
        theirs.update_parameters(net)
    for a, b in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(ours.module[1].running_mean, net[1].running_mean)


def test_ema_weighs_the_past_by_a_power_of_time():
    """After n steps the weights of step k count like k^gamma (Karras et al. 2024, eq. 121)."""
    net = torch.nn.Linear(1, 1, bias=False)
    ema, n, gamma = Ema(net, gamma=6.94), 200, 6.94
    for k in range(1, n + 1):
        net.weight.data.fill_(k)
        ema.update(net, k)
    k = torch.arange(1, n + 1, dtype=torch.float64)
    assert ema.module.weight.item() == pytest.approx(((k**gamma * k).sum() / (k**gamma).sum()).item(), rel=1e-2)


def test_warm_up_reaches_the_learning_rate():
    lrs = [p.lr for p in train(tiny(lr=1e-3, warmup_steps=4), IMAGES, steps=6)]
    assert lrs == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_a_cooldown_falls_to_zero_over_the_last_share_of_the_budget():
    lrs = [p.lr for p in train(tiny(lr=1e-3, warmup_steps=1, cooldown=0.5), IMAGES, steps=8)]
    assert lrs == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


def test_a_shift_warmup_leans_the_times_to_noise_and_then_lets_go(monkeypatch):
    shifts = []

    def spy(n, generator, shift):
        shifts.append(shift)
        return sample_times(n, generator, shift=shift)

    monkeypatch.setattr("minidiff.training.objectives.sample_times", spy)
    list(train(tiny(shift_warmup=0.5), IMAGES, steps=8))
    assert shifts == pytest.approx([60, 60**0.75, 60**0.5, 60**0.25, 1, 1, 1, 1])


def test_the_first_step_moves_by_its_learning_rate_and_the_average_goes_with_it():
    """Adam's first step is lr sign(gradient), and at step 1 the average is the weights after it."""
    training = tiny(lr=1e-3, warmup_steps=4)
    before = training.model.net.head[0].bias.clone()
    run(training, 1)
    moved = training.model.net.head[0].bias - before
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.25e-3), rtol=0.02, atol=0)
    for average, p in zip(training.ema.module.parameters(), training.model.parameters(), strict=True):
        assert torch.equal(average, p)


def test_a_step_draws_times_noise_and_labels_for_each_image(monkeypatch):
    drawn = []

    def spy(denoise, x0, eps, t, schedule, cond):
        drawn.append((x0, eps, t, cond))
        return denoising_loss(denoise, x0, eps, t, schedule, cond)

    monkeypatch.setattr("minidiff.training.objectives.denoising_loss", spy)
    training = tiny(label_dropout=0.5)
    losses = run(training, 4)
    x0, eps, t, labels = (torch.stack(column) for column in zip(*drawn, strict=True))  # (4, 8, ...)
    assert (t.diff(dim=1) > 0).all()  # one in each eighth of [0, 1]
    assert len(eps.flatten(2).sum(2).unique()) == 4 * 8
    assert 0.2 < (labels == training.model.null).double().mean() < 0.8
    v = target("v", x0[0], eps[0], t[0], Cosine())
    assert losses[0] == pytest.approx(v.square().mean().item(), rel=1e-4)  # a new network answers v = 0


def test_prompts_become_the_padding_token_which_is_0(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "minidiff.training.objectives.denoising_loss", lambda *args: asked.append(args[-1]) or torch.zeros(64)
    )
    denoiser, prompts = tiny().model, torch.arange(1, 4).expand(64, 3)
    denoiser.null = 0
    generator = torch.Generator().manual_seed(0)
    denoising(denoiser, (torch.zeros(64, 1, 8, 8), prompts), TrainConfig(label_dropout=0.5), generator)
    dropped = (asked[0] == 0).all(1)
    assert 16 < dropped.sum() < 48 and torch.equal(asked[0][~dropped], prompts[~dropped])


def test_gradients_are_clipped(monkeypatch):
    norms = []
    real = torch.nn.utils.clip_grad_norm_

    def spy(parameters, limit):
        parameters = list(parameters)
        norm = real(parameters, limit)
        norms.append(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item())
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    run(tiny(max_grad_norm=0.01), 3)
    assert len(norms) == 3 and max(norms) <= 0.01 * 1.001


def infinite_gradient(training):
    """Let the gradient of the next step be infinite where its loss is finite."""
    training.model.net.head[0].bias.register_hook(lambda grad: grad * float("inf"))


def infinite_loss(training):
    real = training.objective
    training.objective = lambda *arguments: real(*arguments) + float("inf")


@pytest.mark.parametrize("spoil", [infinite_loss, infinite_gradient])
def test_what_is_not_finite_stops_before_the_step_and_keeps_all_state(spoil):
    training = tiny()
    run(training, 3)
    before = {k: v.clone() for k, v in training.state_dict().items()}
    spoil(training)
    with pytest.raises(
        ValueError, match=r"norm of its gradient .* at step 4 \(learning rate .*\).*smaller.*are those of step 3"
    ):
        run(training, 5)
    assert all(torch.equal(before[k], v) for k, v in training.state_dict().items()) and training.step == 3
    assert all(p.grad is None for p in training.model.parameters())


def test_frozen_weights_are_refused_and_others_are_trained():
    denoiser = Denoiser(MLP(MLPConfig(width=8)), Cosine()).eval().requires_grad_(False)
    with pytest.raises(ValueError, match="expected weights that require gradients, got none"):
        TrainState(denoiser)
    assert TrainState(denoiser.requires_grad_()).model.training


def test_an_unknown_weighting():
    with pytest.raises(ValueError, match="expected a weighting among x0, eps, .*min_snr, vlb, got 'mse'"):
        TrainConfig(weighting="mse")


def test_budget_in_seconds_counts_training_alone():
    import time

    training = tiny()
    began = time.perf_counter()
    fractions = []
    for progress in train(training, IMAGES, seconds=0.5):
        fractions.append(progress.fraction)
        time.sleep(0.05)
    assert training.seconds >= 0.5 and fractions[-1] == 1.0 and fractions == sorted(fractions)
    assert time.perf_counter() - began > training.seconds + 0.05 * training.step * 0.9
    assert next(train(training, IMAGES, seconds=0.5), None) is None  # spent


def test_a_budget_is_needed():
    with pytest.raises(ValueError, match="expected a budget"):
        next(train(tiny(), IMAGES))


def test_labels_that_the_network_does_not_have_are_refused():
    x0 = IMAGES.tensors[0]
    for wrong in 11, -1:
        labels = IMAGES.tensors[1].clone()
        labels[17] = wrong
        with pytest.raises(ValueError, match=f"expected labels 0..9, or 10 for none, got .*{wrong}"):
            list(train(tiny(), TensorDataset(x0, labels), steps=7))


def test_images_outside_the_range_are_refused():
    with pytest.raises(ValueError, match=r"expected images in \[-1, 1\], got values from 0 to 255"):
        next(
            train(
                tiny(),
                TensorDataset(torch.tensor([0.0, 255.0]).reshape(2, 1, 1, 1).expand(2, 1, 8, 8), torch.zeros(2).long()),
                steps=1,
            )
        )
    with pytest.raises(ValueError, match="expected floating-point data, got torch.uint8"):
        next(train(tiny(), TensorDataset(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long()), steps=1))


def test_ctrl_c_waits_for_the_end_of_the_step():
    """Interrupted at the worst moment, the run equals one that made the same number of whole steps."""
    before, training = signal.getsignal(signal.SIGINT), tiny()  # ignored in a job that runs in the background

    class Interrupting(TensorDataset):
        def __getitem__(self, index):
            if training.step == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        for _ in train(training, Interrupting(*IMAGES.tensors), steps=20):
            pass
    assert training.step == 6
    whole = tiny()
    run(whole, 6)
    assert all(torch.equal(v, training.state_dict()[k]) for k, v in whole.state_dict().items())
    assert signal.getsignal(signal.SIGINT) is before


def test_precision():
    cpu = torch.device("cpu")
    assert autocast_dtype(cpu, "fp32") is None and autocast_dtype(cpu, "bf16") == torch.bfloat16
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert autocast_dtype(cpu, "auto") == (torch.bfloat16 if fast else None)
    with pytest.raises(ValueError, match="expected a precision among auto, fp32, bf16, got 'fp16'"):
        autocast_dtype(cpu, "fp16")
    training = tiny(precision="bf16")
    losses = run(training, 60)
    assert sum(losses[-10:]) < sum(losses[:10]) and training.model.net.head[0].weight.dtype == torch.float32


def test_the_bar_passes_everything_on(capfd):
    progress = list(progress_bar(train(tiny(), IMAGES, steps=5)))
    assert [p.step for p in progress] == [1, 2, 3, 4, 5]
    assert "step 5" in capfd.readouterr().err


def test_an_mlp_comes_near_the_least_possible_loss():
    """On a mixture the oracle's loss is the floor; an MLP gets within 25 % of it in a thousand steps."""
    torch.manual_seed(0)
    oracle, schedule = Mixture(*mixture_parameters()), Cosine()
    data = TensorDataset(mixture(20_000, torch.Generator().manual_seed(0)))
    training = TrainState(Denoiser(MLP(MLPConfig()), schedule), TrainConfig(batch_size=256))
    for _ in train(training, data, steps=1000):
        pass
    generator = torch.Generator().manual_seed(1)
    x0 = mixture(8192, generator)
    t, eps = sample_times(8192, generator), noise_like(x0, generator)

    def loss(denoise):
        with torch.no_grad():
            return (weight("v", t, schedule) * denoising_loss(denoise, x0, eps, t, schedule)).mean().item()

    floor, reached = loss(lambda x, t: oracle.denoise(x, t, schedule)), loss(training.ema.module)
    assert floor < reached < 1.25 * floor


@pytest.mark.parametrize("fast", [False, True])
def test_auto_is_what_the_hardware_multiplies(monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    assert autocast_dtype(torch.device("cpu"), "auto") == (torch.bfloat16 if fast else None)


@pytest.mark.parametrize("change", [lambda t: t[:1], lambda t: t[:, :1]], ids=["broadcasts", "fewer columns"])
def test_moments_of_another_shape_are_refused(change):
    training = tiny()
    list(train(training, IMAGES, steps=1))
    tensors = training.state_dict()
    name = next(n for n, t in tensors.items() if n.endswith("exp_avg") and t.ndim > 1 and min(t.shape[:2]) > 1)
    with pytest.raises(ValueError, match="expected moments of .* weights, got AdamW"):
        tiny().load_state_dict(tensors | {name: change(tensors[name])}, 1, 0.0)


def test_state_is_plain_tensors():
    training = tiny()
    run(training, 2)
    tensors = training.state_dict()
    assert all(isinstance(t, torch.Tensor) for t in tensors.values())
    assert {name.split(".")[0] for name in tensors} == {"model", "ema", "optimizer"}
    json.dumps([list(tensors)])
