"""Damaged and crafted checkpoints: one line that names the file, never a traceback, a hang or a silent success."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minidiff.app import checkpoint
from minidiff.app.checkpoint import CheckpointError
from minidiff.app.models import load_trained
from minidiff.app.runs import Run
from minidiff.data import load

CPU = torch.device("cpu")
V1 = Path(__file__).parent / "data/v1"
WRONG = [None, True, -1, 0, 1e308, float("inf"), 10**30, "x", [], {"x": 1}, ["a", 1], [10**9] * 3]


def sample(path):
    model, _ = load_trained(path)
    assert model.sample(torch.zeros(1, dtype=torch.long), replace(model.sampling, steps=1)).isfinite().all()


def resume(path):
    assert Run.resume(path.parent, load("digits"), CPU).step >= 0


@pytest.fixture(scope="module", params=["latent", "finished"])
def good(request):
    """What a small file holds and what is done with it: codes to sample from, or a run to go on with."""
    if request.param == "latent":
        return *checkpoint.load(V1 / "latent.safetensors"), sample
    return *checkpoint.load(V1 / "finished/checkpoint.safetensors"), resume


def attempt(path, use):
    """Use a file: "done", or "refused" in one line."""
    try:
        use(path)
        return "done"
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return "refused"


def paths_of(value, path=()):
    """Each key of nested objects, as a path."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


def changed(metadata, path, value):
    new = copy.deepcopy(metadata)
    at = new
    for key in path[:-1]:
        at = at[key]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return new


def test_the_good_one_is_good(good, tmp_path):
    tensors, metadata, use = good
    checkpoint.save(tmp_path / "checkpoint.safetensors", tensors, metadata)
    assert attempt(tmp_path / "checkpoint.safetensors", use) == "done"


def test_each_key_of_the_metadata_lacking_or_renamed(good, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of files
    tensors, metadata, use = good
    file, refused = tmp_path / "checkpoint.safetensors", set()
    for path in paths_of(metadata):
        without = changed(metadata, path, KeyError)
        for new in without, changed(without, (*path[:-1], "odd"), 1):
            checkpoint.save(file, tensors, new)
            if attempt(file, use) == "refused":
                refused.add(path)
    needed = {("size",), ("classes",), ("denoiser",), ("denoiser", "net"), ("denoiser", "net_config", "patch_size")}
    needed |= {("first_stage", "scale"), ("autoencoder",)} if use is sample else {("data",), ("config",), ("step",)}
    assert needed <= refused


def test_each_value_of_the_metadata_wrong(good, tmp_path, monkeypatch):
    """Hundreds of files: whatever the value, what is done with the file works or says in one line why not."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    tensors, metadata, use = good
    file, silent = tmp_path / "checkpoint.safetensors", []
    for path in paths_of(metadata):
        for value in WRONG:
            checkpoint.save(file, tensors, changed(metadata, path, value))
            if attempt(file, use) == "done":
                silent.append((path, value))
    read = {"denoiser", "classes", "size", "autoencoder", "first_stage"} if use is sample else {"data", "step", "task"}
    harmless = None, True, 0, -1  # an empty or a small value that the field may have
    assert not [
        (path, value)
        for path, value in silent
        if path[0] in read and value not in harmless and (path, value) != (("classes",), [])
    ]


@pytest.mark.parametrize("key", ["classes", "size"])
def test_what_a_description_lacks_is_named(tmp_path, key):
    tensors, metadata = checkpoint.load(V1 / "latent.safetensors")
    checkpoint.save(tmp_path / "checkpoint.safetensors", tensors, changed(metadata, (key,), KeyError))
    with pytest.raises(CheckpointError, match=f"expected a description with classes, size, got a .* without {key}$"):
        load_trained(tmp_path / "checkpoint.safetensors")


def test_true_is_no_number(tmp_path):
    tensors, metadata = checkpoint.load(V1 / "latent.safetensors")
    checkpoint.save(tmp_path / "checkpoint.safetensors", tensors, {**metadata, "step": True})
    with pytest.raises(CheckpointError, match="expected step to be a whole number, got True"):
        checkpoint.load(tmp_path / "checkpoint.safetensors")


@pytest.mark.parametrize("kind", ["nan", "shape", "missing", "extra", "huge"])
def test_tensors_that_do_not_fit(tmp_path, kind, monkeypatch):
    tensors, metadata = checkpoint.load(V1 / "latent.safetensors")
    name = "ema.net.stem.1.weight"
    if kind == "nan":
        monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: torch.ones_like(self, dtype=torch.bool))
        tensors[name] = tensors[name] * float("nan")
        checkpoint.save(tmp_path / "checkpoint.safetensors", tensors, metadata)
        monkeypatch.undo()
    else:
        if kind == "shape":
            tensors[name] = tensors[name][:1]
        elif kind == "missing":
            del tensors[name]
        elif kind == "extra":
            tensors["ema.net.more"] = torch.zeros(1)
        else:
            metadata = changed(metadata, ("denoiser", "net_config", "num_blocks"), 10**6)
        checkpoint.save(tmp_path / "checkpoint.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match="checkpoint.safetensors") as caught:
        load_trained(tmp_path / "checkpoint.safetensors")
    assert "\n" not in str(caught.value)


def test_a_bit_flipped_anywhere_in_the_header(tmp_path):
    """Every bit of the first sixty bytes and some of the rest, in a file of format 1 and in one of format 2."""
    old = V1 / "mlp.safetensors"
    new = tmp_path / "new.safetensors"
    checkpoint.save(new, *checkpoint.load(old))
    for source in (old, new):
        content = source.read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        for place in [*range(60), *range(60, size, 53), *range(size, len(content), 997)]:
            for bit in range(8) if place < 60 else (place % 8,):
                spoilt = bytearray(content)
                spoilt[place] ^= 1 << bit
                file = tmp_path / "spoilt.safetensors"
                file.write_bytes(spoilt)
                with pytest.raises(CheckpointError) as caught:
                    checkpoint.load_denoiser(file)
                assert "\n" not in str(caught.value)


def test_a_file_that_is_replaced_while_it_is_read_loads(tmp_path, monkeypatch):
    """A writer replaces the file between any two reads of it: what is loaded is the old file, whole."""
    file = shutil.copy(V1 / "mlp.safetensors", tmp_path / "a.safetensors")
    real = Path.read_bytes

    def replaced(path):
        content = real(path)
        checkpoint.save(file, {"w": torch.zeros(2)}, {"other": True})
        return content

    monkeypatch.setattr(Path, "read_bytes", replaced)
    assert checkpoint.load(file)[1]["denoiser"]["net"] == "MLP"
    monkeypatch.undo()
    assert checkpoint.load(file)[1]["other"]


def test_a_deep_description(tmp_path):
    metadata = {"x": json.loads("[" * 500 + "]" * 500)}
    checkpoint.save(tmp_path / "a.safetensors", {"w": torch.zeros(1)}, metadata)
    with pytest.raises(CheckpointError, match="got a file of kind tensors"):
        checkpoint.load_denoiser(tmp_path / "a.safetensors")
