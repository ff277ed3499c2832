"""The models that learn a given set of pictures: built fresh, or read back from a run or a checkpoint."""

import json
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from minidiff.app import checkpoint
from minidiff.app.checkpoint import CheckpointError, DamagedCheckpoint
from minidiff.app.generate import Model, Sampling
from minidiff.app.metadata import require_keys
from minidiff.data import ImageSet
from minidiff.denoiser import Denoiser
from minidiff.latent import LatentCodec
from minidiff.nets import NETS, DataSpec, config_for
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.text import TextConfig, Vocabulary
from minidiff.process import check_regular, target_coefficients
from minidiff.schedule import SCHEDULES

CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"  # in the folder of a run


@dataclass(frozen=True)
class Task:
    """What a run learns to draw: pictures or their codes, asked for by a label or by words."""

    latent: bool = False
    text: bool = False

    def __str__(self) -> str:
        return " ".join(f"--{name}" for name, chosen in asdict(self).items() if chosen) or "neither --latent nor --text"


@dataclass(frozen=True)
class DenoiserConfig:
    """What a run makes its denoiser of: registered names of a network and a schedule, and what the network predicts."""

    net: str = "UNet"
    schedule: str = "Cosine"
    prediction: str = "v"

    def __post_init__(self):
        for kind, name, known in ("net", self.net, NETS), ("schedule", self.schedule, SCHEDULES):
            if name not in known:
                raise ValueError(f"expected a {kind} among {', '.join(known)}, got {name!r}")


class TokenizedImages:
    """Pictures with their captions' tokens in place of labels, as training draws them."""

    def __init__(self, images: ImageSet, tokens: Tensor):
        self.images, self.tokens = images, tokens

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        return self.images.tensor(index), self.tokens[index]


def new_autoencoder(images: ImageSet) -> Autoencoder:
    """Return a fresh autoencoder with f = 2^k for codes about 8 pixels wide, of f channels."""
    channels, height, width = images.shape
    num_downsamples = max(1, min(height, width).bit_length() - 4)
    while (height % 2**num_downsamples or width % 2**num_downsamples) and num_downsamples > 1:
        num_downsamples -= 1
    config = AutoencoderConfig(channels, latent_channels=2**num_downsamples, width=24, num_downsamples=num_downsamples)
    if height % config.factor or width % config.factor:
        raise ValueError(f"expected pictures of even height and width for --latent, got {height} x {width}")
    return Autoencoder(config)


def new_denoiser(
    metadata: dict[str, Any], latent: LatentCodec | None, recipe: DenoiserConfig = DenoiserConfig()
) -> Denoiser:  # noqa: B008
    """Return a fresh denoiser for the pictures or codes and for the labels or words that a run's metadata tell."""
    size = tuple(metadata["size"])
    text = metadata["vocabulary"] and Vocabulary(**metadata["vocabulary"])
    num_classes = 0 if text else len(metadata["classes"])
    text_config = TextConfig(len(text), text.length) if text else None
    channels, height, width = size if latent is None else latent.shape(size)
    spec = DataSpec(channels, height, width, num_classes, text_config, latent is not None)
    try:
        schedule = SCHEDULES[recipe.schedule]()
    except TypeError:
        raise ValueError(f"expected a schedule whose values have defaults, got {recipe.schedule}") from None
    (alpha, sigma), (a, b) = schedule(1.0), target_coefficients(recipe.prediction, 1.0, schedule)
    check_regular(alpha * b - sigma * a, recipe.prediction, 1.0, schedule)  # sampling begins there
    net = NETS[recipe.net][0](config_for(recipe.net, spec))
    null = 0 if text_config else num_classes  # the padding token, or the label after the last
    denoiser = Denoiser(net, schedule, recipe.prediction, null)
    as_stored = json.loads(json.dumps(checkpoint.describe(denoiser)))
    checkpoint.build(as_stored)  # what could not be read back is refused now
    return denoiser


def load_trained(path: str | Path) -> tuple[Model, dict[str, Any]]:
    """Return (model with the averaged weights, metadata) of a run's folder or of a checkpoint file."""
    path = Path(path)
    path = newest_file(path) if path.is_dir() else path
    tensors, metadata = checkpoint.load(path)
    if metadata["kind"] in ("classifier", "encoder"):
        article = "an" if metadata["kind"] == "encoder" else "a"
        raise CheckpointError(f"{path}: {article} {metadata['kind']}, expected a run or a denoiser to sample from")
    if "denoiser" not in metadata:
        if "autoencoder" in metadata:
            raise CheckpointError(f"{path}: only the autoencoder is there so far; go on with `train --resume`")
        raise CheckpointError(
            f"{path}: expected a run or a denoiser to sample from, got a file of kind {metadata['kind']}"
        )
    with checkpoint.prefix_errors(path):
        require_keys(metadata, "classes", "size")
        denoiser = checkpoint.restore(
            checkpoint.build(metadata["denoiser"]), tensors, checkpoint.denoiser_prefix(tensors), path
        )
        return as_model(denoiser, metadata, load_codec(tensors, metadata, path)), metadata


def newest_file(folder: Path) -> Path:
    """Return the checkpoint of a run; where it is damaged or gone, with a warning, the one before it."""
    newest, previous = folder / CHECKPOINT, folder / PREVIOUS
    if not previous.is_file():
        return newest
    if not newest.exists():
        warnings.warn(f"{newest}: gone; going on from the one before it", stacklevel=3)
        return previous
    try:
        checkpoint.load(newest)
    except DamagedCheckpoint as error:
        warnings.warn(f"{error}; going on from the one before it", stacklevel=3)
        return previous
    except CheckpointError:  # of another kind or version: whoever reads it says so
        pass
    return newest


def as_model(denoiser: Denoiser, metadata: dict[str, Any], latent: LatentCodec | None) -> Model:
    """Return a denoiser with all that a run or checkpoint says about it."""
    vocabulary = Vocabulary(**metadata["vocabulary"]) if metadata.get("vocabulary") else None
    text = getattr(getattr(denoiser.net, "config", None), "text", None)
    if vocabulary and text and (len(vocabulary), vocabulary.length) != (text.vocab_size, text.context_length):
        raise ValueError(
            f"expected a vocabulary of {text.vocab_size} tokens and {text.context_length} words a prompt, as the "
            f"network has them, got {len(vocabulary)} and {vocabulary.length}"
        )
    known = {key: value for key, value in metadata.get("sampling", {}).items() if key in SAMPLING}
    return Model(
        denoiser,
        tuple(metadata["classes"]),
        tuple(metadata["size"]),
        latent,
        vocabulary,
        Sampling(**known),
        metadata.get("fingerprint"),
    )


SAMPLING = tuple(field.name for field in fields(Sampling))


def load_codec(tensors: dict[str, Tensor], metadata: dict[str, Any], path: Path) -> LatentCodec | None:
    """Return the finished autoencoder of a checkpoint with its scale; None if there is none."""
    if not metadata.get("first_stage"):
        return None
    require_keys(metadata, "autoencoder")
    config = AutoencoderConfig(**metadata["autoencoder"])
    checkpoint.check_parameters(Autoencoder, config)
    return LatentCodec(
        checkpoint.restore(Autoencoder(config), tensors, "autoencoder.", path), metadata["first_stage"]["scale"]
    )
