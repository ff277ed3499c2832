"""How is a trained model kept, so that nothing is lost and nothing wrong is loaded?

A checkpoint is one safetensors file: named tensors, and in its header a JSON description, a format version
and a sha256 over both. It is written beside its place, flushed to disk and renamed, so that the file under the
name is always a whole one: the old or the new. Loading runs no code from the file.
"""

import hashlib
import json
import os
import struct
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from minidiff.denoiser import Denoiser
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine, Flow, FromBetas, LinearBeta, VarianceExploding

VERSION = 1
NETS = {"UNet": (UNet, UNetConfig), "MLP": (MLP, MLPConfig)}
SCHEDULES = {cls.__name__: cls for cls in (Cosine, Flow, FromBetas, LinearBeta, VarianceExploding)}


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; the message is one line that names the file and the remedy."""


def save(path: str | Path, tensors: dict[str, Tensor], meta: dict) -> None:
    """Writes tensors and a JSON-able description; CheckpointError if the disk refuses: the old file still stands."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(meta)
    header = {"minidiff": str(VERSION), "meta": text, "sha256": _digest(tensors, text)}
    write_atomically(Path(path), to_bytes(tensors, header))


def load(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """(tensors, meta) as they were saved. CheckpointError if missing, empty, cut off, foreign or altered."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train one with `python -m minidiff train`")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty; delete it and train again or copy it again")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, struct.error) as error:
        raise CheckpointError(
            f"{path}: cut off or not a safetensors file ({error}); copy it again or train again"
        ) from None
    if "minidiff" not in header:
        raise CheckpointError(
            f"{path}: a safetensors file, but not of minidiff; expected one written by `minidiff train`"
        )
    if header["minidiff"] != str(VERSION):
        raise CheckpointError(
            f"{path}: expected checkpoint format {VERSION}, got {header['minidiff']}; update minidiff"
        )
    if header.get("sha256") != _digest(tensors, header["meta"]):
        raise CheckpointError(
            f"{path}: the content does not match its sha256, it was altered or damaged; copy it again or train again"
        )
    return tensors, json.loads(header["meta"])


def write_atomically(path: Path, content: bytes) -> None:
    """Puts content under path in one step: a reader sees the old file or the new one, never half of one."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(
            f"{path}: could not write {len(content) / 1e6:.1f} MB ({reason}); "
            "free space or choose another folder; an earlier file of that name is untouched"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def describe(denoiser: Denoiser) -> dict:
    """The architecture, the schedule and the prediction of a denoiser, as JSON-able values."""
    net, schedule = denoiser.net, denoiser.schedule
    return {
        "net": type(net).__name__,
        "net_config": asdict(net.config),
        "schedule": type(schedule).__name__,
        "schedule_config": asdict(schedule),
        "prediction": denoiser.prediction,
    }


def build(description: dict) -> Denoiser:
    """The denoiser of a description, with fresh weights."""
    if description["net"] not in NETS or description["schedule"] not in SCHEDULES:
        raise CheckpointError(
            f"expected a net among {', '.join(NETS)} and a schedule among {', '.join(SCHEDULES)}, "
            f"got {description['net']} and {description['schedule']}"
        )
    Net, Config = NETS[description["net"]]
    config = Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in description["net_config"].items()})
    schedule = SCHEDULES[description["schedule"]](**description["schedule_config"])
    return Denoiser(Net(config), schedule, description["prediction"])


def save_denoiser(path: str | Path, denoiser: Denoiser, meta: dict) -> None:
    """A denoiser for sampling only: weights in half precision and, beside meta, what is needed to build it again."""
    halves = {name: tensor.half() for name, tensor in denoiser.state_dict().items()}
    save(path, halves, {**meta, "denoiser": describe(denoiser)})


def load_denoiser(path: str | Path, prefix: str = "") -> tuple[Denoiser, dict]:
    """(denoiser in float32, ready to sample; meta). prefix picks one of several sets of weights in the file."""
    tensors, meta = load(path)
    return restore(build(meta["denoiser"]), tensors, prefix, path), meta


def restore(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: str | Path) -> nn.Module:
    """The module with the weights named prefix..., in float32, frozen. CheckpointError if they do not fit."""
    weights = {name.removeprefix(prefix): tensor.float() for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes that differ
        raise CheckpointError(f"{path}: {error}") from None
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: the weights do not fit the described network; missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
    return module.eval().requires_grad_(False)


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
