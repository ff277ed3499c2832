"""Checkpoints of format 1 (release 0.1.0), brought to today's names. The files themselves stay as they are."""

from typing import Any

from torch import Tensor

SEGMENTS = {  # of the names of tensors, between two dots
    "film": "modulation",
    "tell": "emb_proj",
    "first": "fc1",
    "second": "fc2",
    "shrink": "downsample",
    "grow": "upsample",
    "place": "position_proj",
    "words": "text_encoder",
    "gist": "pooled_proj",
    "wide": "fc1",
    "narrow": "fc2",
    "used": "usage",
}
NET_KEYS = {"patch": "patch_size"}
AUTOENCODER_KEYS = {"latent": "latent_channels", "halvings": "num_downsamples", "entries": "codebook_size"}
CONFIG_KEYS = {"head_start": "shift_warmup"}


def migrate(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the metadata and tensors of a file of format 1 under the names of format 2."""
    if metadata.get("kind") == "classifier":
        return metadata, tensors
    new = dict(metadata)
    if "denoiser" in new or "autoencoder" in new:
        running = any(name.startswith("optimizer.") or name.startswith("model.") for name in tensors)
        new["kind"] = "run" if running else "denoiser"
    if "denoiser" in new:
        old = new["denoiser"]
        config = _renamed(old["net_config"], NET_KEYS if old["net"] == "UNet" else {})
        null = 0 if config.get("text") else config["classes"]
        new["denoiser"] = {**old, "net_config": config, "null": null, "scale_input": False}
    if "autoencoder" in new:
        new["autoencoder"] = _renamed(new["autoencoder"], AUTOENCODER_KEYS)
    if isinstance(new.get("config"), dict):
        new["config"] = _renamed(new["config"], CONFIG_KEYS)
    if "task" not in new and "data" in new:
        new |= {"task": {"latent": False, "text": False}, "vocabulary": None, "first_stage": None}
    return new, {".".join(SEGMENTS.get(part, part) for part in name.split(".")): t for name, t in tensors.items()}


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
