"""What does a picture of a scene really show? Read off its pixels, by a program that cannot be flattered.

A pixel of the course's scenes is white + a (colour - white): its direction from white tells the colour, its
length a how far the pixel is covered. Pixels of one colour that hang together are an item; its shape and size
are those of the drawing, among all eight at its centre, that overlaps it best. An item that overlaps none by
`FIT` has no shape. `mark` compares what was read with the scene that was asked for.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.scenes import COLOURS, SHAPES, SIZES, Item, Scene, covering, direction, relation

FIT = 0.7  # least overlap, intersection over union
SPECK = 0.3  # an item covers at least this share of a small one's area


class Found(NamedTuple):
    """An item read off a picture, and how well a drawing of it overlaps the pixels (1 at best)."""

    item: Item
    fit: float


def colours(x: Tensor) -> tuple[Tensor, Tensor]:
    """(index into COLOURS int64, cover in [0, 1]), both (B, H, W), of pictures (B, 3, H, W) in [-1, 1]."""
    away = 1 - x.float()  # (B, 3, H, W), from white
    axes = 2 - torch.tensor(list(COLOURS.values())) / 127.5  # (6, 3)
    length = torch.einsum("bchw,kc->bkhw", away, axes) / axes.square().sum(1)[:, None, None]  # (B, 6, H, W)
    miss = away.square().sum(1, keepdim=True) - length.square() * axes.square().sum(1)[:, None, None]
    index = miss.argmin(1)  # (B, H, W)
    return index, length.gather(1, index[:, None])[:, 0].clamp(0, 1)


def components(mask: Tensor) -> Tensor:
    """A number above zero for each connected part of a mask (H, W), zero elsewhere: (H, W) float32."""
    name = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view(1, *mask.shape) * mask
    while True:  # the largest number of a part floods it
        wider = F.max_pool2d(name, 3, stride=1, padding=1) * mask
        if torch.equal(wider, name):
            return name[0]
        name = wider


def read(x: Tensor) -> list[list[Found]]:
    """The items of each picture (B, 3, S, S) in [-1, 1], largest first."""
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3]:
        raise ValueError(f"expected pictures (B, 3, S, S), got {tuple(x.shape)}")
    size = x.shape[-1]
    least = SPECK * torch.pi * (SIZES["small"] * size) ** 2  # in pixels
    index, cover = colours(x)
    result = []
    for kind in torch.where(cover > 0.5, index, -1):  # (S, S)
        items = []
        for k, colour in enumerate(COLOURS):
            mask = kind == k
            if mask.sum() < least:
                continue
            parts = components(mask)
            names, areas = parts.unique(return_counts=True)
            items += [
                (area, recognise(parts == name, colour))
                for name, area in zip(names.tolist(), areas.tolist(), strict=True)
                if name and area >= least
            ]
        result.append([found for _, found in sorted(items, key=lambda item: -item[0])])
    return result


def recognise(mask: Tensor, colour: str) -> Found:
    """The shape and size whose drawing at the centre of a mask (S, S) overlaps it best."""
    size = mask.shape[0]
    y, x = ((mask.nonzero().double().mean(0) + 0.5) / size).tolist()
    candidates = [Item(shape, colour, scale, x, y) for shape in SHAPES for scale in SIZES]
    corner, cover = covering(candidates, size)
    fits = []
    for (left, top), drawn in zip(corner.tolist(), cover > 0.5, strict=True):
        patch = mask[top : top + len(drawn), left : left + len(drawn)]
        both = (drawn & patch).sum()
        fits.append((both / (drawn.sum() + mask.sum() - both)).item())
    best = max(range(len(fits)), key=fits.__getitem__)
    return Found(candidates[best], fits[best])


def mark(scene: Scene, found: Sequence[Found]) -> dict[str, tuple[int, int]]:
    """(right, asked) of each attribute of a scene, in what was found in its picture; what is missing is wrong.

    colour, shape: of each item, wherever it is; pair: both at one item; size: of each pair; relation: of each pair to
    the first; number: of items; all: everything at once.
    """
    wanted, seen = scene.items, [f.item for f in found]
    shaped = [f.item for f in found if f.fit >= FIT]
    pairs = {(item.colour, item.shape): item for item in shaped}
    got = [pairs.get((item.colour, item.shape)) for item in wanted]
    related = [
        a is not None and b is not None and direction((a.x, a.y), (b.x, b.y), 0.0) == relation(wanted[0], other)
        for a, b, other in zip(got[:1] * (len(got) - 1), got[1:], wanted[1:], strict=True)
    ]
    n = len(wanted)
    marks = {
        "colour": (_common((i.colour for i in wanted), (i.colour for i in seen)), n),
        "shape": (_common((i.shape for i in wanted), (i.shape for i in shaped)), n),
        "pair": (sum(item is not None for item in got), n),
        "size": (sum(g is not None and g.size == i.size for g, i in zip(got, wanted, strict=True)), n),
        "relation": (sum(related), n - 1),
        "number": (int(len(seen) == n), 1),
    }
    return marks | {"all": (int(all(right == asked for right, asked in marks.values())), 1)}


def score(scenes: Sequence[Scene], pictures: Tensor) -> dict[str, float]:
    """The share of each attribute of `mark` that is right over pictures (B, 3, S, S) of B scenes."""
    if len(scenes) != len(pictures):
        raise ValueError(f"expected a picture of each of {len(scenes)} scenes, got {len(pictures)}")
    marks = [mark(scene, found) for scene, found in zip(scenes, read(pictures), strict=True)]
    totals = {name: [sum(column) for column in zip(*(m[name] for m in marks), strict=True)] for name in marks[0]}
    return {name: right / asked if asked else 1.0 for name, (right, asked) in totals.items()}


def _common(a, b) -> int:
    return (Counter(a) & Counter(b)).total()
