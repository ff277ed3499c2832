"""How do pictures from elsewhere become a set?

Public sets come through torchvision into `cache()`; a folder of pictures is cropped to squares at the centre and
resized, its subfolders are the classes, and each sixth picture, in the order of the names, is for testing.
"""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from minidiff.data.images import Images, held_out, on_white

DOWNLOADS = {"mnist": "MNIST", "cifar10": "CIFAR10", "fashion-full": "FashionMNIST"}
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def cache() -> Path:
    """The folder for downloads: the environment variable MINIDIFF_DATA, else ~/.cache/minidiff."""
    return Path(os.environ.get("MINIDIFF_DATA") or Path.home() / ".cache" / "minidiff").expanduser()


def load_download(name: str, split: str) -> Images:
    """A set of `DOWNLOADS`, downloaded once; 28 pixels are padded to 32. ConnectionError if it cannot be had."""
    import torchvision  # slow to import, and needed here only

    dataset = getattr(torchvision.datasets, DOWNLOADS[name])
    try:
        found = dataset(cache(), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(f"{name} could not be downloaded ({error}); put its files into {cache()} by hand as "
                              f"torchvision.datasets.{DOWNLOADS[name]} lays them out, or take digits, fashion, emoji or "
                              f"scenes, which need no network") from error
    x = torch.as_tensor(found.data)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)  # (N, C, H, W)
    x = F.pad(x, ((32 - x.shape[-1]) // 2,) * 4)
    return Images(name, x.contiguous(), torch.as_tensor(found.targets), tuple(found.classes))


def load_folder(folder: str | Path, split: str = "train", size: int = 32) -> Images:
    """All pictures under a folder as RGB of size by size. ValueError names a file that is no picture, or an empty folder."""
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    paths = [paths[k] for k in held_out(len(paths), split)]
    if not paths:
        raise ValueError(f"expected pictures ({', '.join(sorted(SUFFIXES))}) for split {split!r} under {folder}, found none")
    labels = [path.parent.relative_to(folder).as_posix() for path in paths]
    classes = sorted(set(labels))
    x = torch.stack([_read(path, size) for path in paths])
    return Images(folder.name, x, torch.tensor([classes.index(label) for label in labels]), tuple(classes))


def _read(path: Path, size: int) -> Tensor:
    try:
        with Image.open(path) as image:
            image = ImageOps.fit(on_white(ImageOps.exif_transpose(image)), (size, size))
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ValueError(f"cannot read {path} as a picture ({error}); repair it or take it out of the folder") from error
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(size, size, 3).permute(2, 0, 1)
