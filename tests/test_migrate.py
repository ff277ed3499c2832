"""Checkpoints of format 1 load, sample and go on as release 0.1.0 would have them."""

import json
import shutil
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import torch

from minidiff.app.checkpoint import load, load_denoiser
from minidiff.app.metrics import load_classifier
from minidiff.app.migrate import migrate
from minidiff.app.models import Task, load_trained
from minidiff.app.runs import Run
from minidiff.data import load as load_data
from minidiff.nets.classifier import Classifier, ClassifierConfig

V1 = Path(__file__).parent / "data/v1"
EXPECTED = json.loads((V1 / "expected.json").read_text())
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def noise(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def head(x):
    return x.flatten()[:8]


def assert_output(denoiser, name):
    expected = EXPECTED[name]
    x, t, cond = noise(expected["input"]), torch.tensor(expected["t"]), torch.tensor(expected["cond"])
    torch.testing.assert_close(head(denoiser(x, t, cond)), torch.tensor(expected["output"]), **CLOSE)
    torch.testing.assert_close(head(denoiser(x, t)), torch.tensor(expected["output_without_cond"]), **CLOSE)


@pytest.mark.parametrize("name", ["pixel", "latent", "latent-text"])
def test_a_model_samples_as_before(name):
    model, metadata = load_trained(V1 / f"{name}.safetensors")
    expected = EXPECTED[f"{name}.safetensors"]
    assert metadata["kind"] == "denoiser"
    assert_output(model.denoiser, f"{name}.safetensors")
    if "latent" in name:
        assert model.latent.scale == expected["scale"]
        for key, part in ("encode", "picture"), ("decode", "code"):
            done = getattr(model.latent, key)(noise(expected[key][part]))
            torch.testing.assert_close(head(done), torch.tensor(expected[key]["output"]), **CLOSE)
    if "text" in name:
        assert model.prompts(expected["prompts"]).tolist() == expected["cond"]
    n = len(expected["cond"])
    assert model.sample(torch.tensor(expected["cond"])).shape == (n, *model.size)


def test_an_mlp_with_a_table_of_betas():
    denoiser, metadata = load_denoiser(V1 / "mlp.safetensors")
    expected = EXPECTED["mlp.safetensors"]
    assert metadata["kind"] == "denoiser" and (denoiser.prediction, denoiser.null) == ("eps", 3)
    alpha, sigma = denoiser.schedule(torch.tensor(expected["t"]))
    torch.testing.assert_close(alpha, torch.tensor(expected["alpha"]), **CLOSE)
    torch.testing.assert_close(sigma, torch.tensor(expected["sigma"]), **CLOSE)
    assert_output(denoiser, "mlp.safetensors")


def test_a_classifier():
    expected = EXPECTED["classifier.safetensors"]
    tensors, metadata = load(V1 / "classifier.safetensors")
    net = Classifier(ClassifierConfig(**metadata["config"]))
    net.load_state_dict(tensors)
    x = noise(expected["input"])
    torch.testing.assert_close(net.eval()(x), torch.tensor(expected["logits"]), **CLOSE)
    torch.testing.assert_close(head(net.features(x)), torch.tensor(expected["features"]), **CLOSE)
    assert load_classifier("digits") is not None  # a shipped one


def resumed(tmp_path, name):
    folder = shutil.copytree(V1 / name, tmp_path / name)
    task = Task(**{"latent": False, "text": False, **EXPECTED[name]["task"]})
    run = Run.resume(folder, load_data("digits"), torch.device("cpu"), task)
    assert (run.step, len(run.history)) == (EXPECTED[name]["step"], EXPECTED[name]["history"])
    assert run.seconds == EXPECTED[name]["seconds"]
    return run


def test_a_finished_run_goes_on(tmp_path):
    expected, run = EXPECTED["finished"], resumed(tmp_path, "finished")
    assert_output(run.model().denoiser, "finished")
    losses = [p.loss for p in run.train(load_data("digits"), steps=run.step + 2)]
    assert losses == pytest.approx(expected["next_losses"], rel=1e-5)
    x, t, cond = noise(expected["input"]), torch.tensor(expected["t"]), torch.tensor(expected["cond"])
    torch.testing.assert_close(
        head(run.model().denoiser(x, t, cond)), torch.tensor(expected["after_next"]), rtol=1e-4, atol=1e-4
    )
    assert load(run.folder / "checkpoint.safetensors")[1]["step"] == run.step  # in today's format
    assert Run.resume(run.folder, load_data("digits"), torch.device("cpu")).step == run.step


@pytest.mark.parametrize("name", ["first-stage", "vq-first-stage"])
def test_a_run_in_its_first_stage_goes_on_into_the_second(tmp_path, name):
    expected, run = EXPECTED[name], resumed(tmp_path, name)
    autoencoder = run.training.ema.module
    code = autoencoder.encode(noise(expected["encode"]["picture"])).z
    torch.testing.assert_close(head(code), torch.tensor(expected["encode"]["output"]), **CLOSE)
    with closing(run.train(load_data("digits"), steps=expected["budget"])) as progress:
        losses = [p.loss for p in islice(progress, 4)]
    assert losses == pytest.approx(expected["next_losses"] + expected["then_denoiser_losses"], rel=1e-5)
    assert run.first_stage["scale"] == pytest.approx(expected["then_scale"], rel=1e-5)


def test_what_a_description_of_format_1_becomes():
    denoiser = {"net": "UNet", "net_config": {"patch": 2, "classes": 4}, "schedule": "Flow"}
    old = {"denoiser": denoiser, "config": {"head_start": 0.4, "cooldown": 0.1}, "data": "digits"}
    new, tensors = migrate(old, {"model.down.film.weight": torch.zeros(1), "ema.tell.bias": torch.ones(1)}, 1)
    assert new["config"] == {"shift_warmup": 0.4, "cooldown": 0.1}
    assert new["denoiser"]["net_config"] == {"patch_size": 2, "num_classes": 4}
    assert (new["denoiser"]["null"], new["denoiser"]["scale_input"], new["kind"]) == (4, False, "run")
    assert sorted(tensors) == ["ema.emb_proj.bias", "model.down.modulation.weight"]
    words = {"denoiser": {**denoiser, "net_config": {"classes": 10, "text": {"tokens": 3}}}}
    new, _ = migrate(words, {}, 1)
    assert new["denoiser"]["null"] == 0 and new["kind"] == "denoiser"


def test_what_a_description_of_format_2_becomes():
    text = {"tokens": 3, "length": 5, "width": 8}
    net_config = {"classes": 0, "multipliers": [1, 2], "blocks": 2, "patch_size": 1, "text": text}
    old = {
        "kind": "run",
        "denoiser": {"net": "UNet", "net_config": net_config, "null": 0, "scale_input": True},
        "autoencoder": {"channels": 3, "blocks": 1, "weight": 1e-3},
        "config": {"warmup": 7, "clip": 2.0, "lr": 1e-3},
        "vocabulary": {"words": ["a", "b"], "length": 5},
    }
    tensors = {"ema.first.bias": torch.zeros(1)}
    new, same = migrate(old, tensors, 2)
    assert same == tensors  # names of tensors are those of format 2
    assert new["denoiser"] == {
        "net": "UNet",
        "net_config": {
            "num_classes": 0,
            "channel_mult": [1, 2],
            "num_blocks": 2,
            "patch_size": 1,
            "text": {"vocab_size": 3, "context_length": 5, "width": 8},
        },
        "null": 0,
        "scale_input": True,
    }
    assert new["autoencoder"] == {"channels": 3, "num_blocks": 1, "cost_weight": 1e-3}
    assert new["config"] == {"warmup_steps": 7, "max_grad_norm": 2.0, "lr": 1e-3}
    assert new["vocabulary"] == old["vocabulary"]
    assert "multipliers" in net_config  # what was given is as it was


@pytest.mark.parametrize("net, key", [("MLP", "num_classes"), ("Mine", "classes")])
def test_keys_of_networks_of_ones_own_are_not_renamed(net, key):
    old = {"kind": "denoiser", "denoiser": {"net": net, "net_config": {"classes": 3}}}
    assert migrate(old, {}, 2)[0]["denoiser"]["net_config"] == {key: 3}
