"""A network, a schedule and a data set of one's own, in no file of the package: trained, saved, loaded and sampled."""

import subprocess
import sys
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from minidiff.app.checkpoint import CheckpointError, build, describe, load_denoiser, save_denoiser
from minidiff.app.generate import Sampling
from minidiff.app.models import DenoiserConfig, Task, load_trained
from minidiff.app.runs import Run
from minidiff.cli import main
from minidiff.data import load
from minidiff.denoiser import Denoiser
from minidiff.nets import NETS, register_net
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.text import TextConfig
from minidiff.schedule import Cosine
from minidiff.training import TrainConfig

PLUGIN = '''
"""One linear map of a picture, scaled by its label; a schedule between cosine and line; pictures of stripes."""
from dataclasses import dataclass

import torch
from torch import nn

from minidiff import Schedule, register_schedule
from minidiff.data import Images, register_data
from minidiff.nets import register_net


@dataclass(frozen=True)
class LinearConfig:
    channels: int = 1
    size: tuple[int, int] = (8, 8)
    num_classes: int = 2


class Linear(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        n = config.channels * config.size[0] * config.size[1]
        self.map, self.label = nn.Linear(n + 1, n), nn.Embedding(config.num_classes + 1, n)

    def forward(self, x, t, cond=None):
        cond = torch.full(t.shape, self.config.num_classes) if cond is None else cond
        return (self.map(torch.cat([x.flatten(1), t[:, None]], 1)) + self.label(cond)).view_as(x)


@dataclass(frozen=True)
class Power(Schedule):
    power: float = 1.5

    def __call__(self, t):
        t = torch.as_tensor(t)
        return 1 - t**self.power, t

    def rates(self, t):
        t = torch.as_tensor(t)
        return -self.power * t ** (self.power - 1), torch.ones_like(t)


def stripes(split):
    x = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
    x[::2, :, ::2] = 255
    x[1::2, :, :, ::2] = 255
    return Images("stripes", x, torch.arange(60) % 2, ("lying", "standing"))


register_net("Linear", LinearConfig, Linear)
register_schedule("Power", Power)
register_data("stripes", stripes)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "stripes_plugin.py").write_text(textwrap.dedent(PLUGIN))
    return folder


def command(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "minidiff", *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def test_from_nothing_to_pictures_by_command_line(plugin):
    mine = ["--plugin", "stripes_plugin"]
    train = ["train", "--data", "stripes", "--net", "Linear", "--schedule", "Power", "--prediction", "x0", *mine]
    assert command(plugin, *train, "--steps", "150", "--lr", "0.02", "--batch-size", "16", "--out", "run")[0] == 0
    code, _, errors = command(plugin, *train, "--steps", "300", "--out", "run", "--resume")
    assert code == 0, errors
    draw = ["sample", "run", "--n", "40", "--steps", "20", "--guidance", "1", "--out", "a.npz"]
    assert command(plugin, *draw, *mine)[0] == 0
    drawn = np.load(plugin / "a.npz")
    lying, standing = (drawn["x"][drawn["y"] == k].mean((0, 1)) for k in (0, 1))
    assert lying[::2].mean() > 0.5 > -0.5 > lying[1::2].mean()
    assert standing[:, ::2].mean() > 0.5 > -0.5 > standing[:, 1::2].mean()
    code, _, errors = command(plugin, "evaluate", "run", "--n", "60", "--steps", "5", *mine)
    assert code == 0, errors


def test_a_checkpoint_itself_imports_no_code(plugin):
    if not (plugin / "run").exists():
        train = ["train", "--data", "stripes", "--net", "Linear", "--plugin", "stripes_plugin"]
        command(plugin, *train, "--steps", "2", "--out", "run")
    code, _, errors = command(plugin, "sample", "run", "--n", "2")
    assert code == 1 and errors.count("\n") == 1
    assert "expected a net among MLP, UNet, got 'Linear': register it by register_net" in errors


def test_a_plugin_that_is_not_there(capsys):
    assert main(["sample", "run", "--plugin", "no_such_module"]) == 1
    assert "expected --plugin to name a module that can be imported from here" in capsys.readouterr().err


@dataclass(frozen=True)
class ReaderConfig:
    text: TextConfig
    channels: int


class Reader(nn.Module):
    """A network of words of one's own."""

    null = 0

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.words = nn.EmbeddingBag(config.text.vocab_size, config.channels)

    def forward(self, x, t, cond=None):
        return x if cond is None else x + self.words(cond)[:, :, None, None]


@dataclass(frozen=True)
class Sizes:
    values: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class NestedConfig:
    sizes: Sizes = Sizes()

    def __post_init__(self):
        if not isinstance(self.sizes, Sizes):
            raise ValueError(f"expected Sizes, got {self.sizes}")


class Nested(nn.Module):
    """A network whose config does not come back from JSON."""

    def __init__(self, config):
        super().__init__()
        self.config, self.layer = config, nn.Conv2d(1, 1, 1)

    def forward(self, x, t, cond=None):
        return self.layer(x)


@pytest.fixture
def registered():
    before = dict(NETS)
    register_net("Reader", ReaderConfig, Reader)
    register_net("Nested", NestedConfig, Nested)
    yield
    NETS.clear()
    NETS.update(before)


def test_a_network_of_words_of_ones_own_is_read_back(registered, tmp_path):
    images = load("emoji", "test")
    config, recipe = TrainConfig(batch_size=4), DenoiserConfig(net="Reader")
    run = Run.start(tmp_path / "run", images, config, torch.device("cpu"), Task(text=True), recipe)
    list(run.train(images, steps=2))
    model, _ = load_trained(tmp_path / "run")
    assert isinstance(model.denoiser.net, Reader) and isinstance(model.denoiser.net.config.text, TextConfig)
    assert model.sample(model.prompts(images.captions[:2]), Sampling(steps=2)).shape == (2, 3, 32, 32)


def test_a_network_that_could_not_be_read_back_is_refused_before_the_first_step(registered, tmp_path):
    images, recipe = load("digits"), DenoiserConfig(net="Nested")
    with pytest.raises(ValueError, match="the description of the network does not fit: expected Sizes"):
        Run.start(tmp_path / "run", images, TrainConfig(), torch.device("cpu"), recipe=recipe)
    assert not (tmp_path / "run").exists()


class Strange(nn.Module):
    """A network without a config, as many a library has them: it can be used, but not described."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, t, cond=None):
        return self.layer(x)


def test_describe_refuses_what_build_could_not_make(tmp_path):
    class Line(Cosine):
        """Not registered."""

    for denoiser, register in (
        (Denoiser(Strange(), Cosine()), "got a Strange: register its class by register_net"),
        (Denoiser(MLP(MLPConfig()), Line()), "got a Line: register its class by register_schedule"),
    ):
        with pytest.raises(ValueError, match=register):
            describe(denoiser)
        with pytest.raises(ValueError, match=register):
            save_denoiser(tmp_path / "x.safetensors", denoiser, {})
        assert not list(tmp_path.iterdir())


def test_a_null_of_any_kind_comes_back(tmp_path):
    for null in (None, 3, torch.tensor([1.0, 2.0]), {"label": 4, "style": torch.tensor([0, 0])}):
        denoiser = Denoiser(MLP(MLPConfig(num_classes=5)), Cosine(), null=null)
        save_denoiser(tmp_path / "d.safetensors", denoiser, {})
        again = load_denoiser(tmp_path / "d.safetensors")[0].null
        assert repr(again) == repr(denoiser.null)


def test_what_a_description_may_not_ask_for():
    good = describe(Denoiser(MLP(MLPConfig()), Cosine()))
    for wrong in (
        {"net": "Linear9"},
        {"schedule": "os.system"},
        {"prediction": "noise"},
        {"net_config": {"width": 10**9}},
        {"net_config": {"width": 8192, "num_blocks": 64}},  # 13 billion weights
        {"net_config": {"num_blocks": 10**6}},
        {"net_config": {"depth": 3}},
        {"net_config": {"width": "wide"}},
        {"net_config": {"width": None}},
        {"schedule_config": {"power": 2}},
    ):
        with pytest.raises(CheckpointError) as caught:
            build({**good, **wrong})
        assert "\n" not in str(caught.value)


def test_a_name_is_not_taken_twice():
    with pytest.raises(ValueError, match="network 'UNet' is registered already"):
        register_net("UNet", MLPConfig, MLP)
