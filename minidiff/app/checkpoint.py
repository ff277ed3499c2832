"""Checkpoints: one safetensors file with named tensors and, in its header, a JSON description.

The header has a format version and a sha256 over it, tensors and description; a file is written whole or not at all.
Loading runs no code from the file: a network or a schedule is built from a description only if its class is
registered. Files of older formats are migrated when they are read.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from minidiff.app.files import FileError, write_atomically
from minidiff.app.metadata import check_metadata
from minidiff.app.migrate import migrate
from minidiff.denoiser import Denoiser
from minidiff.nets import NETS
from minidiff.nets.text import TextConfig
from minidiff.process import PREDICTIONS
from minidiff.schedule import SCHEDULES

VERSION = 3
M = TypeVar("M", bound=nn.Module)
MAX_PARAMETERS = 2 * 10**9  # of a network that a description may ask for


class CheckpointError(FileError):
    """A checkpoint that cannot be written or read; the message is one line that names the file and the remedy."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint that was whole once: empty, cut off or altered."""


@contextmanager
def prefix_errors(path: str | Path) -> Iterator[None]:
    """Turn errors in the block into a CheckpointError of one line that begins with the path."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(reason if reason.startswith(str(path)) else f"{path}: {reason}") from None


def save(path: str | Path, tensors: dict[str, Tensor], metadata: dict, previous: Path | None = None) -> None:
    """Write tensors and a JSON-able description; with `previous`, the file that was there goes on under that name.

    CheckpointError if a number is not finite or the disk refuses: the old file still stands.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: not saved, since {name} is not finite; an earlier file is untouched")
    text = json.dumps(metadata)
    header = {"minidiff": str(VERSION), "metadata": text, "sha256": _digest(tensors, text, VERSION)}
    try:
        write_atomically(Path(path), to_bytes(tensors, header), previous)
    except FileError as error:
        raise CheckpointError(str(error)) from None


def load(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Return (tensors, metadata) as they were saved. CheckpointError if missing, empty, cut off, foreign or altered."""
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, expected a checkpoint file, such as checkpoint.safetensors in a run")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train one with `python -m minidiff train`")
    try:
        content = path.read_bytes()  # in one go: a file that is replaced meanwhile is the old one, whole
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if not content:
        raise DamagedCheckpoint(f"{path}: the file is empty; delete it and train again or copy it again")
    try:
        tensors = from_bytes(content)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, RuntimeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DamagedCheckpoint(
            f"{path}: cut off or not a safetensors file ({reason}); copy it again or train again"
        ) from None
    return _open(path, tensors, header)


def _open(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> tuple[dict[str, Tensor], dict]:
    if "minidiff" not in header:
        some = ", ".join(sorted(tensors)[:2]) or "none"
        raise CheckpointError(
            f"{path}: a safetensors file, but not of minidiff (tensors such as {some}); expected one written by "
            "`minidiff train`"
        )
    version = header["minidiff"]
    if version not in map(str, range(1, VERSION + 1)):
        raise CheckpointError(f"{path}: expected checkpoint format {VERSION} or older, got {version}; update minidiff")
    text = header.get("meta" if version == "1" else "metadata", "")
    if header.get("sha256") != _digest(tensors, text, int(version)):
        raise DamagedCheckpoint(
            f"{path}: the content does not match its sha256, it was altered or damaged; copy it again or train again"
        )
    try:
        metadata = json.loads(text)
        if version != str(VERSION):
            metadata, tensors = migrate(metadata, tensors, int(version))
        check_metadata(metadata)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description is not one of minidiff's ({error})") from None
    return tensors, metadata


def describe(denoiser: Denoiser) -> dict[str, Any]:
    """Return the network, the schedule and the prediction of a denoiser, as JSON-able values.

    ValueError for what `build` could not make: a network or a schedule whose class is not registered.
    """
    net, schedule = denoiser.net, denoiser.schedule
    nets = [name for name, (Net, _) in NETS.items() if Net is type(net)]
    schedules = [name for name, kind in SCHEDULES.items() if kind is type(schedule)]
    if not nets or not schedules:
        kind, register = (net, "register_net") if not nets else (schedule, "register_schedule")
        known = ", ".join(NETS if not nets else SCHEDULES)
        raise ValueError(f"expected one of {known}, got a {type(kind).__name__}: register its class by {register}")
    return {
        "net": nets[0],
        "net_config": asdict(cast(Any, net.config)),
        "schedule": schedules[0],
        "schedule_config": asdict(cast(Any, schedule)),
        "prediction": denoiser.prediction,
        "null": _to_json(denoiser.null),
        "scale_input": denoiser.scale_input,
    }


def build(description: dict[str, Any]) -> Denoiser:
    """Return the denoiser of a description, with fresh weights. CheckpointError if its parts are not registered, do
    not fit together, or are too large."""
    for key, known, register in ("net", NETS, "register_net"), ("schedule", SCHEDULES, "register_schedule"):
        if description[key] not in known:
            raise CheckpointError(
                f"expected a {key} among {', '.join(known)}, got {str(description[key])[:80]!r}: "
                f"register it by {register}, for the command line in a module named by --plugin"
            )
    if description["prediction"] not in PREDICTIONS:
        raise CheckpointError(
            f"expected a prediction among {', '.join(PREDICTIONS)}, got {str(description['prediction'])[:80]!r}"
        )
    Net, Config = NETS[description["net"]]
    try:
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in description["net_config"].items()
        }
        if isinstance(values.get("text"), dict):
            values["text"] = TextConfig(**values["text"])
        config = Config(**values)
        schedule = SCHEDULES[description["schedule"]](**description["schedule_config"])
        check_parameters(Net, config)
        null = _from_json(description.get("null"))
        return Denoiser(Net(config), schedule, description["prediction"], null, description.get("scale_input", True))
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the description of the network does not fit: {error}") from None


def check_parameters(Net: Callable[[Any], nn.Module], config: Any) -> None:
    """Raise a ValueError for a network of too many parameters, before memory is taken for them."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Net(config).parameters())
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"a network of {parameters:.3g} parameters, expected at most {MAX_PARAMETERS:.3g}")


def _to_json(null):
    if isinstance(null, dict):
        return {key: _to_json(value) for key, value in null.items()}
    return null.tolist() if isinstance(null, Tensor) else null


def _from_json(null):
    if isinstance(null, dict):
        return {key: _from_json(value) for key, value in null.items()}
    return torch.tensor(null) if isinstance(null, list) else null


def save_denoiser(path: str | Path, denoiser: Denoiser, metadata: dict) -> None:
    """Write a denoiser for sampling only: weights in half precision and, beside metadata, what builds it again."""
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in denoiser.state_dict().items()}
    save(path, tensors, {**metadata, "kind": "denoiser", "denoiser": describe(denoiser)})


def denoiser_prefix(tensors: dict[str, Tensor]) -> str:
    """Return what the names of a denoiser's weights begin with: in a run those are the averaged ones."""
    return "ema." if any(name.startswith("ema.") for name in tensors) else ""


def load_denoiser(path: str | Path) -> tuple[Denoiser, dict]:
    """Return (denoiser in float32, ready to sample; metadata) of a checkpoint; of a run, the averaged weights.

    Of a model on codes it is the denoiser of codes, without the autoencoder: `models.load_trained` returns both.
    """
    tensors, metadata = load(path)
    if "denoiser" not in metadata:
        raise CheckpointError(f"{path}: expected a denoiser, got a file of kind {metadata['kind']}")
    with prefix_errors(path):
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith("autoencoder.")}
        return restore(build(metadata["denoiser"]), own, denoiser_prefix(own), path), metadata


def restore(module: M, tensors: dict[str, Tensor], prefix: str, path: str | Path) -> M:
    """Return the module with the weights named prefix..., in float32, frozen. CheckpointError if they do not fit."""
    weights = {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: the weights do not fit the described network; missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
    for name, tensor in weights.items():
        if tuple(tensor.shape) != own[name]:
            raise CheckpointError(f"{path}: expected {name} of shape {own[name]}, got {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: expected finite weights, got some in {name} that are not")
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)


def _digest(tensors: dict[str, Tensor], text: str, version: int) -> str:
    digest = hashlib.sha256((text if version < 3 else f"{version} {text}").encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
