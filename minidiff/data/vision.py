"""Public data sets that torchvision downloads, into `cache_dir()`."""

import os
from pathlib import Path

import torch
import torch.nn.functional as F

from minidiff.data.images import Images

DOWNLOADS = {  # what torchvision.datasets calls each, and the folder in which it keeps its files
    "mnist": ("MNIST", "MNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "fashion-full": ("FashionMNIST", "FashionMNIST/raw"),
}
SHIPPED = "digits, fashion, emoji or scenes, which need no network"


def cache_dir() -> Path:
    """Return the folder for downloads: the environment variable MINIDIFF_DATA, else ~/.cache/minidiff."""
    return Path(os.environ.get("MINIDIFF_DATA") or Path.home() / ".cache" / "minidiff").expanduser()


def load_download(name: str, split: str) -> Images:
    """Return a data set of `DOWNLOADS`, fetched once; 28 pixels are padded to 32.

    ConnectionError if it cannot be had, ValueError if the files there are damaged; each names their folder.
    """
    import torchvision  # slow to import, and needed here only

    dataset, subfolder = DOWNLOADS[name]
    folder = cache_dir() / subfolder
    try:
        found = getattr(torchvision.datasets, dataset)(cache_dir(), train=split == "train", download=True)
        x = torch.as_tensor(found.data)
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)  # (N, C, H, W)
        x = F.pad(x, ((32 - x.shape[-1]) // 2,) * 4)
        images = Images(name, x.contiguous(), torch.as_tensor(found.targets), tuple(found.classes))
    except Exception as error:  # of damaged files torchvision raises many kinds
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"  # torchvision's takes several lines
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"{name}: the files in {folder} are damaged ({why}); remove that folder and retry"
            ) from error
        raise ConnectionError(
            f"{name} could not be downloaded ({why}); put its unpacked files into {folder} by hand, or take {SHIPPED}"
        ) from error
    return images
