"""Which pictures to learn from?

`load` gives any set by its name: shipped (`digits fashion emoji`), procedural (`scenes`), downloaded
(`mnist cifar10 fashion-full`), or the path of a folder of pictures. All give `Images`: bytes in, [-1, 1] out.
Two-dimensional points are in `minidiff.data.toy`.
"""

from pathlib import Path

from minidiff.data.files import registry, root, shipped
from minidiff.data.images import SHEETS, Images, check_split, load_sheet
from minidiff.data.scenes import load_scenes
from minidiff.data.vision import DOWNLOADS, load_download, load_folder

__all__ = ["NAMES", "Images", "load", "load_folder", "load_scenes", "registry", "root", "shipped"]

SCENES = {"train": 20_000, "test": 2_000}  # how many of the unlimited there are to be
NAMES = *SHEETS, "scenes", *DOWNLOADS


def load(name: str | Path, split: str = "train") -> Images:
    """Training or test pictures of a set in `NAMES` or of a folder; ValueError for another name or split."""
    check_split(split)
    if name in SHEETS:
        return load_sheet(name, split)
    if name == "scenes":
        return load_scenes(split, SCENES[split])
    if name in DOWNLOADS:
        return load_download(name, split)
    if Path(name).is_dir():
        return load_folder(name, split)
    raise ValueError(f"expected one of {', '.join(NAMES)} or a folder of pictures, got {str(name)!r}")
