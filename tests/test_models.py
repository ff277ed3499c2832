"""Fresh models follow the pictures, also those that are not square, and two stages share one budget."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from minidiff.app import runs
from minidiff.app.generate import Sampling
from minidiff.app.models import DenoiserConfig, Task, new_autoencoder, new_denoiser
from minidiff.app.runs import Run
from minidiff.data import Images
from minidiff.latent import LatentCodec
from minidiff.nets import DataSpec, config_for
from minidiff.training import TrainConfig
from minidiff.training.objectives import denoising, reconstruction

CPU = torch.device("cpu")


def pictures(channels, height, width, n=12):
    x = torch.randint(256, (n, channels, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images("some", x, torch.arange(n) % 3, ("a", "b", "c"))


def described(images):
    return {"size": list(images.shape), "classes": list(images.classes), "vocabulary": None}


@pytest.mark.parametrize("height, width", [(64, 32), (32, 64), (128, 64)])
def test_a_network_follows_height_and_width(height, width):
    denoiser = new_denoiser(described(pictures(1, height, width)), None)
    assert denoiser.net.config == config_for("UNet", DataSpec(1, height, width, 3))
    assert denoiser.net.config != config_for("UNet", DataSpec(1, width, height, 3))
    assert denoiser.null == 3


def test_a_recipe_is_followed():
    denoiser = new_denoiser(described(pictures(1, 16, 16)), None, DenoiserConfig("UNet", "Flow", "velocity"))
    assert (type(denoiser.schedule).__name__, denoiser.prediction) == ("Flow", "velocity")


@pytest.mark.parametrize("channels, height, width", [(1, 32, 16), (3, 16, 48)])
def test_both_objectives_take_pictures_that_are_not_square(channels, height, width):
    images, config = pictures(channels, height, width), TrainConfig(batch_size=4)
    autoencoder = new_autoencoder(images)
    assert autoencoder.config.cost_weight > 0  # so that noise is drawn for the codes
    for batch in images[:4], images[:1]:
        assert reconstruction(autoencoder, batch, config, torch.Generator()).isfinite()
    codec = LatentCodec(autoencoder)
    denoiser = new_denoiser(described(images), codec)
    codes = codec.encode(images.tensor())
    assert codes.shape[1:] == codec.shape(images.shape)
    assert denoising(denoiser, (codes, images.y), config, torch.Generator()).isfinite()


@pytest.mark.parametrize("steps, seconds, first", [
    (10, None, (2, None)), (None, 100.0, (None, 20.0)), (None, 6000.0, (None, 120.0)), (10, 6000.0, (2, 120.0)),
])  # fmt: skip
def test_the_first_stage_has_a_fifth_and_at_most_two_minutes(tmp_path, monkeypatch, steps, seconds, first):
    asked = []

    def train(training, images, steps, seconds):
        asked.append((steps, seconds))
        return iter(())

    monkeypatch.setattr(runs, "train", train)
    run = Run.start(tmp_path / "run", pictures(1, 16, 16), TrainConfig(batch_size=4), CPU, Task(latent=True))
    assert list(run.train(pictures(1, 16, 16), steps, seconds)) == []
    assert asked[0] == first and len(asked) == 2


def test_steps_and_seconds_of_both_stages_add_up(tmp_path):
    images = pictures(1, 16, 16)
    run = Run.start(tmp_path / "run", images, TrainConfig(batch_size=4), CPU, Task(latent=True))
    seen = list(run.train(images, steps=10))
    assert [p.step for p in seen] == list(range(1, 11)) and run.step == 10
    assert all(a.seconds < b.seconds for a, b in pairwise(seen))
    assert run.first_stage["steps"] == 2 and run.first_stage["seconds"] == pytest.approx(seen[1].seconds)
    assert run.seconds == pytest.approx(seen[-1].seconds) and run.seconds > run.training.seconds > 0


@pytest.mark.parametrize("text", [False, True])
def test_a_model_of_words_is_sampled_in_its_own_way(tmp_path, text):
    images = pictures(1, 16, 16)
    images = replace(images, captions=tuple(f"picture {k}" for k in range(len(images))))
    run = Run.start(tmp_path / "run", images, TrainConfig(batch_size=4), CPU, Task(text=text))
    assert run.model().sampling == (runs.TEXT_SAMPLING if text else Sampling())
    assert runs.TEXT_SAMPLING != Sampling()
