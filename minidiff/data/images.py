"""What is a set of pictures, and how are the shipped ones stored?

    x in [-1, 1]  =  byte / 127.5 - 1

A set is kept as bytes (N, C, H, W) with a label each. On disk it is one lossless sheet per split, its
pictures in rows from the top left, beside `labels.json`: classes, one digit per label and, where there are
any, captions.
"""

import json
import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from minidiff.data.files import shipped

SHEETS = "digits", "fashion", "emoji"
EVERY = 6  # where nobody else has split a set, each sixth picture is for testing


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures x uint8 (N, C, H, W) and labels y int64 (N,) into `classes`; `load(name)` gives them again.

    `captions` (texts) and `scenes` (`minidiff.data.scenes.Scene`) have one entry per picture, or none at all.
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
            wanted, found = f"0..{len(self.classes) - 1}", f"{self.y.min()}..{self.y.max()}"
            raise ValueError(f"expected labels {wanted}, got {found}")
        for words in self.captions, self.scenes:
            if len(words) not in (0, n):
                raise ValueError(f"expected 0 or {n} captions and scenes, got {len(words)}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return tuple(self.x.shape[1:])

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        """(x0, y) at `index`, as `tensor` gives them: what training draws its batches from."""
        return self.tensor(index), self.y[index]

    def tensor(self, index=slice(None)) -> Tensor:
        """Pictures at `index`, a slice or int64 (B,), all by default: float32 (B, C, H, W) in [-1, 1]."""
        return self.x[index].float() / 127.5 - 1


def check_split(split: str) -> None:
    """ValueError unless split is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")


def held_out(n: int, split: str) -> Tensor:
    """Indices (int64) of the training or test pictures of a set of n that has no official split."""
    check_split(split)
    test = torch.arange(n) % EVERY == EVERY - 1
    return torch.nonzero(test if split == "test" else ~test).squeeze(1)


def on_white(image: Image.Image) -> Image.Image:
    """An RGB copy of any Pillow image; what is transparent becomes white."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def pack(x: np.ndarray) -> Image.Image:
    """Pictures uint8 (N, H, W, C) as one sheet, as square as N allows; unfilled places are black."""
    n, h, w, c = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    x = np.concatenate([x, np.zeros((rows * columns - n, h, w, c), np.uint8)])
    sheet = x.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)
    return Image.fromarray(sheet.squeeze(-1) if c == 1 else sheet)


def unpack(sheet: Image.Image, n: int, size: int) -> Tensor:
    """The first n pictures of a sheet, uint8 (n, C, size, size): the inverse of `pack`."""
    x = torch.from_numpy(np.array(sheet))  # (rows size, columns size[, C])
    x = x.unflatten(0, (-1, size)).unflatten(2, (-1, size))  # (rows, size, columns, size[, C])
    x = x.reshape(*x.shape[:4], -1).permute(0, 2, 4, 1, 3)  # (rows, columns, C, size, size)
    return x.flatten(0, 1)[:n].contiguous()


def load_sheet(name: str, split: str) -> Images:
    """A shipped set by name, its pictures padded with black as its `labels.json` says."""
    about = json.loads(shipped(f"{name}/labels.json").read_text(encoding="utf-8"))
    part = about[split]
    with Image.open(shipped(f"{name}/{split}.png")) as sheet:
        x = unpack(sheet, len(part["labels"]), about["size"])
    x = F.pad(x, (about["pad"],) * 4)
    y = torch.tensor([int(digit) for digit in part["labels"]])
    return Images(name, x, y, tuple(about["classes"]), tuple(part["captions"]))
