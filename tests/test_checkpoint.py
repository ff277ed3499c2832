"""Checkpoints: what is saved comes back; a bad file or a full disk gives one clear line and loses nothing."""

import copy
import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from minidiff.app.checkpoint import CheckpointError, build, describe, load, load_denoiser, save, save_denoiser
from minidiff.denoiser import Denoiser
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine, Flow, FromBetas, LinearBeta, VarianceExploding

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "step": torch.tensor(7),
    "half": torch.randn(4).bfloat16(),
    "none": torch.zeros(0, 3),
}


@pytest.fixture
def good(tmp_path):
    save(tmp_path / "good.safetensors", TENSORS, {"step": 7})
    return tmp_path / "good.safetensors"


def the_error(path):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_what_is_saved_comes_back(good):
    tensors, meta = load(good)
    assert meta == {"step": 7, "kind": "tensors"} and tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)
    assert list(good.parent.iterdir()) == [good]  # no part left behind


def test_missing(tmp_path):
    assert "no such checkpoint" in the_error(tmp_path / "no.safetensors")


def test_empty(tmp_path):
    (tmp_path / "empty.safetensors").touch()
    assert "the file is empty" in the_error(tmp_path / "empty.safetensors")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_off(good, share):
    content = good.read_bytes()
    good.write_bytes(content[: int(share * len(content))])
    assert "cut off or not a safetensors file" in the_error(good)


def test_foreign(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04" + bytes(200))
    assert "cut off or not a safetensors file" in the_error(tmp_path / "a.pt")
    save_file({"w": torch.zeros(2)}, tmp_path / "b.safetensors", {"format": "pt"})
    assert "not of minidiff" in the_error(tmp_path / "b.safetensors")


def test_a_newer_format(good, monkeypatch):
    monkeypatch.setattr("minidiff.app.checkpoint.VERSION", 4)
    save(good, TENSORS, {})
    monkeypatch.undo()
    assert "expected checkpoint format 3 or older, got 4; update minidiff" in the_error(good)


@pytest.mark.parametrize("place", [-1, -20])
def test_one_flipped_bit_in_the_weights(good, place):
    content = bytearray(good.read_bytes())
    content[place] ^= 1
    good.write_bytes(content)
    assert "does not match its sha256" in the_error(good)


def test_an_altered_description(good):
    good.write_bytes(good.read_bytes().replace(b'\\"step\\": 7', b'\\"step\\": 8'))
    assert "does not match its sha256" in the_error(good)


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_the_last_good_file(good, monkeypatch, failing):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        real = open

        def open_full(path, mode="r", **options):
            file = real(path, mode, **options)
            if mode == "wb":

                class Full:
                    __enter__, __exit__, write = lambda self: self, lambda self, *_: file.close(), full

                return Full()
            return file

        monkeypatch.setattr("builtins.open", open_full)
    with pytest.raises(CheckpointError, match=r"could not write .* MB \(No space left on device\).*is untouched"):
        save(good, {"weight": torch.zeros(1000)}, {})
    monkeypatch.undo()
    assert torch.equal(load(good)[0]["weight"], TENSORS["weight"])
    assert list(good.parent.iterdir()) == [good]


def test_a_refused_rename_leaves_the_last_good_file(good, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="could not write .*is untouched"):
        save(good, {"weight": torch.zeros(1000)}, {})
    assert torch.equal(load(good)[0]["weight"], TENSORS["weight"])
    assert list(good.parent.iterdir()) == [good]


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="could not write"):
        save(tmp_path / "taken.safetensors", TENSORS, {})


DENOISERS = [
    Denoiser(MLP(MLPConfig(width=16)), schedule, prediction)
    for schedule, prediction in [
        (Cosine(), "v"),
        (Flow(), "velocity"),
        (LinearBeta(0.2, 15.0), "eps"),
        (VarianceExploding(0.02, 30.0), "x0"),
        (FromBetas([0.1, 0.2, 0.3]), "eps"),
    ]
]


@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda d: type(d.schedule).__name__)
def test_a_denoiser_can_be_rebuilt_from_json(denoiser):
    description = json.loads(json.dumps(describe(denoiser)))
    again = build(description)
    assert (
        again.schedule == denoiser.schedule
        and again.prediction == denoiser.prediction
        and again.net.config == denoiser.net.config
    )


def test_a_denoiser_comes_back_in_half_precision(tmp_path):
    torch.manual_seed(0)
    denoiser = Denoiser(UNet(UNetConfig(width=16)), Cosine())
    torch.nn.init.normal_(denoiser.net.head[0].weight)
    save_denoiser(tmp_path / "d.safetensors", denoiser, {"classes": ["a", "b"]})
    again, meta = load_denoiser(tmp_path / "d.safetensors")
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(again(x, 0.5), denoiser(x, 0.5), rtol=2e-2, atol=2e-2)
    assert meta["classes"] == ["a", "b"] and not again.training and not any(p.requires_grad for p in again.parameters())


def test_weights_that_do_not_fit_are_named(tmp_path):
    denoiser = DENOISERS[0]
    weights = dict(denoiser.state_dict())
    weights.pop("net.head.bias")
    save(tmp_path / "d.safetensors", weights, {"denoiser": describe(denoiser)})
    with pytest.raises(CheckpointError, match=r"missing \['net.head.bias'\]"):
        load_denoiser(tmp_path / "d.safetensors")
    save(
        tmp_path / "d.safetensors", {**denoiser.state_dict(), "more": torch.zeros(1)}, {"denoiser": describe(denoiser)}
    )
    with pytest.raises(CheckpointError, match=r"unexpected \['more'\]"):
        load_denoiser(tmp_path / "d.safetensors")


def test_whole_numbers_are_stored_as_they_are(tmp_path):
    denoiser = copy.deepcopy(DENOISERS[0])
    denoiser.net.register_buffer("seen", torch.tensor(2049))
    save_denoiser(tmp_path / "d.safetensors", denoiser, {"kind": "run"})
    tensors, metadata = load(tmp_path / "d.safetensors")
    assert tensors["net.seen"] == 2049 and metadata["kind"] == "denoiser"


def test_the_denoiser_of_a_run_is_its_average_without_the_autoencoder(tmp_path):
    denoiser, raw = DENOISERS[0], {name: t + 1 for name, t in DENOISERS[0].state_dict().items()}
    tensors = {f"ema.{name}": t for name, t in denoiser.state_dict().items()}
    tensors |= {f"model.{name}": t for name, t in raw.items()} | {"autoencoder.w": torch.zeros(1)}
    save(tmp_path / "c.safetensors", tensors, {"kind": "run", "denoiser": describe(denoiser)})
    again = load_denoiser(tmp_path / "c.safetensors")[0].state_dict()
    assert all(torch.equal(again[name], t) for name, t in denoiser.state_dict().items())
    alone = dict(denoiser.state_dict()) | {"autoencoder.w": torch.zeros(1)}
    save(tmp_path / "d.safetensors", alone, {"kind": "denoiser", "denoiser": describe(denoiser)})
    assert load_denoiser(tmp_path / "d.safetensors")[0].prediction == denoiser.prediction


def test_a_folder_is_no_checkpoint(tmp_path):
    assert "a folder, expected a checkpoint file" in the_error(tmp_path)


def test_unknown_kinds_are_refused():
    with pytest.raises(CheckpointError, match="expected a net among MLP, UNet"):
        build({**describe(DENOISERS[0]), "net": "os.system"})


def test_all_that_a_denoiser_is_comes_back():
    net = MLP(MLPConfig(num_classes=3, width=16))
    for prediction, null, scale_input in ("eps", 3, True), ("x0", 1, False), ("edm", {"a": 2}, False):
        denoiser = Denoiser(net, VarianceExploding(), prediction, null, scale_input)
        again = build(json.loads(json.dumps(describe(denoiser))))
        assert (again.prediction, again.null, again.scale_input) == (prediction, null, scale_input)


def test_a_denoiser_is_stored_in_half_precision(tmp_path):
    save_denoiser(tmp_path / "d.safetensors", DENOISERS[0], {})
    assert {tensor.dtype for tensor in load(tmp_path / "d.safetensors")[0].values()} == {torch.float16}
