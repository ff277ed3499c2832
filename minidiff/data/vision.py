"""How do pictures from elsewhere become a set?

Public sets come through torchvision into `cache()`; a folder of pictures is cropped to squares at the
centre and resized, its subfolders are the classes, and each sixth picture, in the order of the names, is
for testing.
"""

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from minidiff.data.images import EVERY, Images, held_out, on_white

DOWNLOADS = {  # what torchvision.datasets calls each, and the folder in which it keeps its files
    "mnist": ("MNIST", "MNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "fashion-full": ("FashionMNIST", "FashionMNIST/raw"),
}
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def cache() -> Path:
    """The folder for downloads: the environment variable MINIDIFF_DATA, else ~/.cache/minidiff."""
    return Path(os.environ.get("MINIDIFF_DATA") or Path.home() / ".cache" / "minidiff").expanduser()


def load_download(name: str, split: str) -> Images:
    """A set of `DOWNLOADS`, fetched once; 28 pixels are padded to 32. ConnectionError if it cannot be had."""
    import torchvision  # slow to import, and needed here only

    dataset, folder = DOWNLOADS[name]
    try:
        found = getattr(torchvision.datasets, dataset)(cache(), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        why = " ".join(str(error).split())  # torchvision's takes several lines
        raise ConnectionError(
            f"{name} could not be downloaded ({why}); put its unpacked files into {cache() / folder} "
            "by hand, or take digits, fashion, emoji or scenes, which need no network"
        ) from error
    x = torch.as_tensor(found.data)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)  # (N, C, H, W)
    x = F.pad(x, ((32 - x.shape[-1]) // 2,) * 4)
    return Images(name, x.contiguous(), torch.as_tensor(found.targets), tuple(found.classes))


def load_folder(folder: str | Path, split: str = "train", size: int = 32) -> Images:
    """All pictures under a folder as RGB of size by size; ValueError if there are none or one is broken."""
    folder = Path(folder)
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    labels = [path.parent.relative_to(folder).as_posix() for path in paths]
    classes = sorted(set(labels))
    picks = held_out(len(paths), split).tolist()
    if not picks:
        raise ValueError(
            f"expected pictures ({' '.join(sorted(SUFFIXES))}) under {folder}, at least {EVERY} "
            f"for a test split; got {len(paths)} for split {split!r}"
        )
    x = torch.stack([_read(paths[k], size) for k in picks])
    y = torch.tensor([classes.index(labels[k]) for k in picks])
    return Images(str(folder.resolve()), x, y, tuple(classes))


def _read(path: Path, size: int) -> Tensor:
    try:
        with Image.open(path) as image:
            image = ImageOps.fit(on_white(ImageOps.exif_transpose(image)), (size, size))
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ValueError(f"cannot read {path} as a picture ({error}); repair or remove it") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, size, size)
