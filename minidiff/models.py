"""Of what is a model made that learns a given set of pictures?

`Task` says what is wanted, `new_denoiser` builds it fresh, `load_trained` reads it back from a run or a checkpoint.
The U-Net's widest level is 16 pixels wide on pictures from 32 pixels on, and as wide as the code on codes.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from minidiff import checkpoint
from minidiff.checkpoint import CheckpointError
from minidiff.data import Images
from minidiff.denoiser import Denoiser
from minidiff.generate import Model
from minidiff.latent import Latent
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.text import TextConfig, Vocabulary
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine

CHECKPOINT = "checkpoint.safetensors"  # in the folder of a run


@dataclass(frozen=True)
class Task:
    """What a run learns to draw: pictures or their codes, asked for by a label or by words."""

    latent: bool = False
    text: bool = False

    def __str__(self) -> str:
        return " ".join(f"--{name}" for name, wanted in asdict(self).items() if wanted) or "neither --latent nor --text"


class Captioned:
    """Pictures with their captions' tokens in place of labels, as training draws them."""

    def __init__(self, images: Images, tokens: Tensor):
        self.images, self.tokens = images, tokens

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        return self.images.tensor(index), self.tokens[index]


def new_autoencoder(images: Images) -> Autoencoder:
    """A fresh autoencoder: codes 8 pixels wide, of 4 (from 32 pixels) or 8 (from 64 pixels) channels."""
    halvings = max(1, images.shape[1].bit_length() - 4)
    return Autoencoder(AutoencoderConfig(channels=images.shape[0], latent=2**halvings, width=24, halvings=halvings))


def load_trained(path: str | Path) -> tuple[Model, dict]:
    """(model with the averaged weights, meta) of a run's folder or of a checkpoint file."""
    path = Path(path) / CHECKPOINT if Path(path).is_dir() else Path(path)
    tensors, meta = checkpoint.load(path)
    if "denoiser" not in meta:
        raise CheckpointError(f"{path}: only the autoencoder is there so far; go on with `train --resume`")
    prefix = "ema." if any(name.startswith("ema.") for name in tensors) else ""
    denoiser = checkpoint.restore(checkpoint.build(meta["denoiser"]), tensors, prefix, path)
    return as_model(denoiser, meta, frozen_latent(tensors, meta, path)), meta


def as_model(denoiser: Denoiser, meta: dict, latent: Latent | None) -> Model:
    """A denoiser with all that a run or checkpoint says about it."""
    vocabulary = Vocabulary(**meta["vocabulary"]) if meta.get("vocabulary") else None
    return Model(denoiser, tuple(meta["classes"]), tuple(meta["size"]), latent, vocabulary)


def frozen_latent(tensors: dict[str, Tensor], meta: dict, path: Path) -> Latent | None:
    """The finished autoencoder of a checkpoint with its scale; None if there is none."""
    if not meta.get("first_stage"):
        return None
    autoencoder = Autoencoder(AutoencoderConfig(**meta["autoencoder"]))
    return Latent(checkpoint.restore(autoencoder, tensors, "autoencoder.", path), meta["first_stage"]["scale"])


def new_denoiser(about: dict, latent: Latent | None) -> Denoiser:
    """A fresh denoiser for the pictures or codes and for the labels or words of a run."""
    size = tuple(about["size"])
    channels, height, width = size if latent is None else latent.shape(size)
    patch = 1 if latent else max(2, height // 16)
    base, multipliers = (48, (1, 2)) if latent else (24, (1, 2, 4))
    while len(multipliers) > 1 and any(n % (patch * 2 ** (len(multipliers) - 1)) for n in (height, width)):
        multipliers = multipliers[:-1]
    text = about["vocabulary"] and Vocabulary(**about["vocabulary"])
    config = UNetConfig(
        channels=channels,
        classes=0 if text else len(about["classes"]),
        width=base,
        multipliers=multipliers,
        patch=patch,
        text=TextConfig(len(text), text.length) if text else None,
    )
    return Denoiser(UNet(config), Cosine())
