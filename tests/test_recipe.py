"""The recipe: its defaults, which optimiser has which weights, in which precision a step runs, which data fit."""

from dataclasses import asdict
from itertools import islice

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from minidiff.denoiser import Denoiser
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine
from minidiff.training import Ema, TrainConfig, TrainState, progress_bar, train
from minidiff.training.objectives import denoising


def images(n=20, low=-1.0, high=1.0):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(low + (high - low) * x, torch.arange(n) % 10)


def tiny(**settings):
    torch.manual_seed(0)
    settings = {"batch_size": 4, "precision": "fp32"} | settings
    objective = settings.pop("objective", denoising)
    return TrainState(Denoiser(UNet(UNetConfig(width=16)), Cosine()), TrainConfig(**settings), objective)


def test_the_defaults():
    assert asdict(TrainConfig()) == {
        "batch_size": 64, "lr": 3e-3, "warmup_steps": 100, "cooldown": 0.0, "shift_warmup": 0.0, "max_grad_norm": 1.0,
        "ema_gamma": 6.94, "label_dropout": 0.1, "weighting": "v", "precision": "auto", "seed": 0,
    }  # fmt: skip


def test_hidden_weights_go_to_muon_and_the_rest_to_adamw():
    training = tiny()
    adamw, muon = training.optimizers
    assert type(adamw).__name__ == "AdamW" and adamw.defaults["betas"] == (0.9, 0.99)
    assert adamw.defaults["weight_decay"] == 0.01
    assert (type(muon).__name__, muon.defaults["weight_decay"]) == ("Muon", 0.01)
    places = {id(p): name for name, p in training.model.named_parameters()}
    shares = [[places[id(p)] for group in o.param_groups for p in group["params"]] for o in (adamw, muon)]
    assert sorted(shares[0] + shares[1]) == sorted(places.values()) and len(places) == sum(map(len, shares))
    assert "net.middle.0.conv1.weight" in shares[1] and "net.head.0.bias" in shares[0]


def test_every_weight_moves():
    training = tiny(lr=1e-2, warmup_steps=0, label_dropout=0.5)
    before = {name: p.clone() for name, p in training.model.named_parameters()}
    list(train(training, images(), steps=6))
    assert [name for name, p in training.model.named_parameters() if torch.equal(p, before[name])] == []


@pytest.mark.parametrize("precision, wanted", [("bf16", torch.bfloat16), ("fp32", None)])
def test_a_step_runs_in_its_precision(precision, wanted):
    seen = []

    def objective(*arguments):
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return denoising(*arguments)

    list(train(tiny(precision=precision, objective=objective), images(), steps=2))
    assert seen == [wanted] * 2


def test_the_average_is_ready_to_sample_and_follows_the_buffers():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    ema = Ema(module.train(), 6.94)
    assert module.training and not any(m.training for m in ema.module.modules())
    assert not any(p.requires_grad for p in ema.module.parameters())
    module(torch.randn(8, 3))
    ema.update(module, 5)
    assert torch.equal(ema.module[1].running_mean, module[1].running_mean) and module[1].running_mean.abs().max() > 0


def test_steps_and_seconds_come_back():
    first, second = tiny(), tiny()
    list(train(first, images(), steps=2))
    second.load_state_dict(first.state_dict(), 2, 5.5)
    assert (second.step, second.seconds) == (2, 5.5)
    assert [p.seconds > 5.5 for p in train(second, images(), steps=3)] == [True]


def test_a_budget_in_seconds_ends_a_training_that_has_steps_left():
    assert len(list(islice(train(tiny(), images(), steps=10**6, seconds=1e-9), 3))) == 1
    training = tiny()
    training.seconds = 2.0
    (p,) = train(training, images(), steps=1, seconds=8.0)
    assert p.fraction == 1.0  # whichever comes first
    assert p.lr == pytest.approx(3e-3 / 100)


@pytest.mark.parametrize("low, high, complaint", [
    (-1.5, 0.9, r"in \[-1, 1\], got values from -1.5"), (-0.9, 1.5, r"in \[-1, 1\]"), (0.0, 1.0, r"make them 2 x - 1"),
])  # fmt: skip
def test_images_beyond_their_range_are_refused(low, high, complaint):
    with pytest.raises(ValueError, match=complaint):
        list(train(tiny(), images(low=low, high=high), steps=1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -3.0])
def test_a_bad_image_is_noticed_wherever_it_is(value):
    data = images(300)
    data.tensors[0][299, 0, 0, 0] = value
    with pytest.raises(ValueError, match="expected (finite data|images in)"):
        list(train(tiny(batch_size=30), data, steps=10))


def test_the_bar_ends_at_a_hundred(monkeypatch):
    shown = []

    class Bar:
        n = 0

        def __init__(self, *, total, bar_format):
            shown.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def set_postfix_str(self, text, refresh):
            pass

        def update(self, by):
            self.n += by

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    for p in progress_bar(train(tiny(), images(), steps=4)):
        assert shown[0].n == pytest.approx(100 * p.fraction)


def test_a_network_without_labels_learns_without_them():
    training = TrainState(Denoiser(MLP(MLPConfig(width=32)), Cosine()), TrainConfig(batch_size=8))
    data = TensorDataset(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))
    assert len(list(train(training, data, steps=2))) == 2
