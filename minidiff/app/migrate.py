"""Checkpoints of older formats, brought to today's names. The files themselves stay as they are.

Each format has a step to the next: 1 is that of release 0.1.0, 2 that of the first versions of 0.2.0.
"""

from typing import Any

from torch import Tensor

Metadata = dict[str, Any]
Tensors = dict[str, Tensor]

# From format 1 to 2
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
UNET_KEYS_2 = {"patch": "patch_size"}
AUTOENCODER_KEYS_2 = {"latent": "latent_channels", "halvings": "num_downsamples", "entries": "codebook_size"}
CONFIG_KEYS_2 = {"head_start": "shift_warmup"}

# From format 2 to 3
UNET_KEYS_3 = {"classes": "num_classes", "multipliers": "channel_mult", "blocks": "num_blocks"}
MLP_KEYS_3 = {"classes": "num_classes", "blocks": "num_blocks"}
TEXT_KEYS_3 = {"tokens": "vocab_size", "length": "context_length"}
AUTOENCODER_KEYS_3 = {"blocks": "num_blocks", "weight": "cost_weight"}
CLASSIFIER_KEYS_3 = {"classes": "num_classes"}
CONFIG_KEYS_3 = {"warmup": "warmup_steps", "clip": "max_grad_norm"}


def migrate(metadata: Metadata, tensors: Tensors, version: int) -> tuple[Metadata, Tensors]:
    """Return the metadata and tensors of a file of format `version`, 1 or 2, under the names of format 3."""
    if version == 1:
        metadata, tensors = _from_1_to_2(metadata, tensors)
    return _from_2_to_3(metadata), tensors


def _from_1_to_2(metadata: Metadata, tensors: Tensors) -> tuple[Metadata, Tensors]:
    if metadata.get("kind") == "classifier":
        return metadata, tensors
    new = dict(metadata)
    if "denoiser" in new or "autoencoder" in new:
        running = any(name.startswith("optimizer.") or name.startswith("model.") for name in tensors)
        new["kind"] = "run" if running else "denoiser"
    if "denoiser" in new:
        old = new["denoiser"]
        config = _renamed(old["net_config"], UNET_KEYS_2 if old["net"] == "UNet" else {})
        null = 0 if config.get("text") else config["classes"]
        new["denoiser"] = {**old, "net_config": config, "null": null, "scale_input": False}
    if "autoencoder" in new:
        new["autoencoder"] = _renamed(new["autoencoder"], AUTOENCODER_KEYS_2)
    if isinstance(new.get("config"), dict):
        new["config"] = _renamed(new["config"], CONFIG_KEYS_2)
    if "task" not in new and "data" in new:
        new |= {"task": {"latent": False, "text": False}, "vocabulary": None, "first_stage": None}
    return new, {".".join(SEGMENTS.get(part, part) for part in name.split(".")): t for name, t in tensors.items()}


def _from_2_to_3(metadata: Metadata) -> Metadata:
    new = dict(metadata)
    if new.get("kind") == "classifier":
        return new | {"config": _renamed(new["config"], CLASSIFIER_KEYS_3)}
    if "denoiser" in new:
        old = new["denoiser"]
        # the keys of networks of one's own are one's own
        config = _renamed(old["net_config"], {"UNet": UNET_KEYS_3, "MLP": MLP_KEYS_3}.get(old["net"], {}))
        if old["net"] == "UNet" and isinstance(config.get("text"), dict):
            config["text"] = _renamed(config["text"], TEXT_KEYS_3)
        new["denoiser"] = {**old, "net_config": config}
    if "autoencoder" in new:
        new["autoencoder"] = _renamed(new["autoencoder"], AUTOENCODER_KEYS_3)
    if isinstance(new.get("config"), dict):
        new["config"] = _renamed(new["config"], CONFIG_KEYS_3)
    return new


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
