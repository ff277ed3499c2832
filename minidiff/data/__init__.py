"""Data sets: bytes on disk or in memory, float32 (B, C, H, W) in [-1, 1] to whoever draws from them.

`load` gives any data set by its name: shipped (`digits fashion emoji`), procedural (`scenes`), downloaded
(`mnist cifar10 fashion-full`), one's own (`register_data`), or the path of a folder of pictures.
Two-dimensional points are in `minidiff.data.toy`.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from minidiff.data.files import checksums, root, shipped
from minidiff.data.folder import ImageFolder, load_folder
from minidiff.data.images import SHEETS, Images, ImageSet, check_size, check_split, load_sheet
from minidiff.data.scenes import load_scenes
from minidiff.data.vision import DOWNLOADS, load_download

__all__ = [
    "ImageFolder",
    "ImageSet",
    "Images",
    "checksums",
    "load",
    "load_folder",
    "load_scenes",
    "register_data",
    "root",
    "shipped",
]

SCENES = {"train": 20_000, "test": 2_000}  # how many of the unlimited there are to be
_LOADERS: dict[str, Callable[[str], ImageSet]] = {}


def register_data(name: str, load: Callable[[str], ImageSet]) -> None:
    """Make load(split), split "train" or "test", the data set of that name. ValueError if the name is taken by another
    loader; a notebook's cell may run twice."""
    if not name or (name in _LOADERS and not _same_definition(_LOADERS[name], load)):
        raise ValueError(f"expected a name other than {', '.join(_LOADERS)}; got {name!r}")
    _LOADERS[name] = load


def _same_definition(a: Callable, b: Callable) -> bool:
    first, second = ((getattr(f, "__module__", None), getattr(f, "__qualname__", None)) for f in (a, b))
    return first == second and None not in first and "<lambda>" not in str(first[1])


for _name in SHEETS:
    register_data(_name, partial(load_sheet, _name))
register_data("scenes", lambda split: load_scenes(split, SCENES[split]))
for _name in DOWNLOADS:
    register_data(_name, partial(load_download, _name))


def load(
    name: str | Path, split: str = "train", size: int | Sequence[int] | None = None, channels: int | None = None
) -> ImageSet:
    """Return the training or test images of a registered data set or of a folder.

    `size` (pixels, or (H, W)) and `channels` are those of a folder's pictures, 32 and 3 by default; `size` is that of
    `scenes` too. ValueError where they differ from what another data set has, and for an unknown name or split.
    """
    check_split(split)
    if name not in _LOADERS:
        if not os.path.isdir(str(name)):
            known = ", ".join(_LOADERS)
            raise ValueError(f"expected one of {known} or a folder of pictures, got {str(name)[:100]!r}")
        # Path("./digits") is "digits", which would be another data set when it is loaded again.
        return load_folder(f"./{name}" if str(name) in _LOADERS else name, split, size, channels)
    if name == "scenes" and size is not None:
        height, width = check_size(size)
        if height != width:
            raise ValueError(f"expected a square size of scenes, got {height} x {width}")
        data: ImageSet = load_scenes(split, SCENES[split], height)
    else:
        data = _LOADERS[str(name)](split)
    if data.name != name:  # a checkpoint keeps only the name
        raise ValueError(f"expected the loader of {name!r} to name its data set so, got {data.name!r}")
    if (size is not None and check_size(size) != data.shape[1:]) or channels not in (None, data.shape[0]):
        raise ValueError(
            f"{name} has images of {data.shape[1]} x {data.shape[2]} pixels and {data.shape[0]} channels; "
            f"got size {size}, channels {channels}: only folders can be resized"
        )
    return data
