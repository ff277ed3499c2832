"""Data sets of images in memory, and the sheets in which the shipped ones are stored.

    x in [-1, 1]  =  byte / 127.5 - 1

A data set keeps bytes (N, C, H, W) with a label each. On disk it is one lossless sheet per split, its
images in rows from the top left, beside `labels.json`: classes, one digit per label and, where there are
any, captions.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from minidiff.data.files import shipped

SHEETS = "digits", "fashion", "emoji"
TEST_EVERY = 6  # of a data set without an official split, each sixth image is for testing


class ImageSet(Protocol):
    """What training, evaluation and checkpoints use of a data set; `Images` and `ImageFolder` provide it.

    `captions` (texts) and `scenes` (`minidiff.data.scenes.Scene`) have one entry per image, or none at all.
    """

    @property
    def name(self) -> str: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def captions(self) -> tuple[str, ...]: ...
    @property
    def scenes(self) -> tuple: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> tuple[Tensor, Tensor]: ...
    def tensor(self, index: Any = ..., /) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Images:
    """Images x uint8 (N, C, H, W) and labels y int64 (N,) into `classes`; `load(name)` gives them again.

    `captions` (texts) and `scenes` (`minidiff.data.scenes.Scene`) have one entry per image, or none at all.
    """

    name: str
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    classes: tuple[str, ...]
    captions: tuple[str, ...] = field(default=(), repr=False)
    scenes: tuple = field(default=(), repr=False)

    def __post_init__(self):
        if self.x.dtype != torch.uint8 or self.x.ndim != 4:
            raise ValueError(f"expected x uint8 (N, C, H, W), got {self.x.dtype} {tuple(self.x.shape)}")
        n = len(self.x)
        if self.y.dtype != torch.int64 or self.y.shape != (n,):
            raise ValueError(f"expected y int64 ({n},), got {self.y.dtype} {tuple(self.y.shape)}")
        if n and not 0 <= self.y.min() <= self.y.max() < len(self.classes):
            expected, actual = f"0..{len(self.classes) - 1}", f"{self.y.min()}..{self.y.max()}"
            raise ValueError(f"expected labels {expected}, got {actual}")
        for entries in self.captions, self.scenes:
            if len(entries) not in (0, n):
                raise ValueError(f"expected 0 or {n} captions and scenes, got {len(entries)}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the classes, the size, the labels, the captions or the images."""
        return fingerprint(self, [self.x.contiguous().numpy()])

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        """Return (x0, y) at `index`: images as `tensor` gives them and labels int64 (B,)."""
        return self.tensor(index), self.y[index]

    def tensor(self, index=slice(None)) -> Tensor:
        """Return images at `index`, a slice or int64 (B,), all by default: float32 (B, C, H, W) in [-1, 1]."""
        return to_unit_range(self.x[index])


def to_unit_range(x: Tensor) -> Tensor:
    """Map bytes 0..255 to float32 in [-1, 1]."""
    return x.float() / 127.5 - 1


def fingerprint(data: ImageSet, contents: Iterable) -> str:
    """Return 16 hexadecimal digits of a sha256 of what describes a data set and of its contents, buffers of bytes."""
    digest = hashlib.sha256(json.dumps([data.classes, data.shape, data.captions]).encode())
    digest.update(data.y.numpy().tobytes())
    for part in contents:
        digest.update(part)
    return digest.hexdigest()[:16]


def check_split(split: str) -> None:
    """Raise ValueError unless split is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")


def check_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (H, W) of a size given as one number, for squares, or as (H, W); ValueError unless each is 1 to 4096."""
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(n, int) and 1 <= n <= 4096 for n in sides):
        raise ValueError(f"expected a size from 1 to 4096 pixels, or two: (height, width); got {size}")
    return sides


def split_indices(n: int, split: str) -> Tensor:
    """Return the indices (int64) of the training or test images of a data set of n without an official split."""
    check_split(split)
    test = torch.arange(n) % TEST_EVERY == TEST_EVERY - 1
    return torch.nonzero(test if split == "test" else ~test).squeeze(1)


def to_8_bit(image: Image.Image, channels: int = 3) -> Image.Image:
    """Convert an image of any Pillow mode to 8-bit RGB or, for channels=1, greyscale; transparency becomes white.

    16-bit integers are divided by 257, floats in [0, 1] multiplied by 255; other ranges are a ValueError.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = np.asarray(image)
        low, high, top = pixels.min(), pixels.max(), 1 if image.mode == "F" else 65535
        if not 0 <= low <= high <= top:  # also where one is not a number
            kind = "float" if image.mode == "F" else "integer"
            raise ValueError(f"expected {kind} pixels from 0 to {top}, got {low:g} to {high:g}")
        image = Image.fromarray(np.rint(pixels * (255 / top)).astype(np.uint8))
    if image.mode not in ("1", "L", "RGB", "CMYK") or "transparency" in image.info:  # the others are opaque
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB").convert("L") if channels == 1 else image.convert("RGB")


def pack_sheet(x: np.ndarray) -> Image.Image:
    """Arrange images uint8 (N, H, W, C) in one sheet, as square as N allows; unfilled places are black."""
    n, h, w, c = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    x = np.concatenate([x, np.zeros((rows * columns - n, h, w, c), np.uint8)])
    sheet = x.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)
    return Image.fromarray(sheet.squeeze(-1) if c == 1 else sheet)


def unpack_sheet(sheet: Image.Image, n: int, size: int) -> Tensor:
    """Return the first n images of a sheet, uint8 (n, C, size, size): the inverse of `pack_sheet`."""
    x = torch.from_numpy(np.array(sheet))  # (rows size, columns size[, C])
    x = x.unflatten(0, (-1, size)).unflatten(2, (-1, size))  # (rows, size, columns, size[, C])
    x = x.reshape(*x.shape[:4], -1).permute(0, 2, 4, 1, 3)  # (rows, columns, C, size, size)
    return x.flatten(0, 1)[:n].contiguous()


def load_sheet(name: str, split: str) -> Images:
    """Return a shipped data set, its images padded with black as its `labels.json` says."""
    metadata = json.loads(shipped(f"{name}/labels.json").read_text(encoding="utf-8"))
    part = metadata[split]
    with Image.open(shipped(f"{name}/{split}.png")) as sheet:
        x = unpack_sheet(sheet, len(part["labels"]), metadata["size"])
    x = F.pad(x, (metadata["pad"],) * 4)
    y = torch.tensor([int(digit) for digit in part["labels"]])
    return Images(name, x, y, tuple(metadata["classes"]), tuple(part["captions"]))
