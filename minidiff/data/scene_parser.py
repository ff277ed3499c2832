"""A parser of images of scenes: which items they show, and whether these are the ones asked for.

A pixel of a scene is white + a (colour - white): its direction from white tells the colour, its length a how
far an item covers the pixel. A connected region of one colour is an item; its shape and size are those of the
drawing, among all eight at its centre, that overlaps it best. An item whose best overlap is below `MIN_IOU` has
no shape. `grade` compares what was parsed with the scene that was asked for.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.scenes import COLOURS, SHAPES, SIZES, Item, Scene, direction, rasterize, relation

MIN_IOU = 0.7  # least intersection over union with a drawing of the shape
MIN_AREA = 0.3  # least area of an item, as a share of a small one's


class Detection(NamedTuple):
    """An item parsed from an image, and its intersection over union with a drawing of it (1 at best)."""

    item: Item
    iou: float


def pixel_colours(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (index into COLOURS int64, cover in [0, 1]), both (B, H, W), of images (B, 3, H, W) in [-1, 1]."""
    away = 1 - x.float()  # (B, 3, H, W), from white
    axes = 2 - torch.tensor(list(COLOURS.values()), device=x.device) / 127.5  # (6, 3)
    length = torch.einsum("bchw,kc->bkhw", away, axes) / axes.square().sum(1)[:, None, None]  # (B, 6, H, W)
    residual = away.square().sum(1, keepdim=True) - length.square() * axes.square().sum(1)[:, None, None]
    index = residual.argmin(1)  # (B, H, W)
    return index, length.gather(1, index[:, None])[:, 0].clamp(0, 1)


def connected_components(mask: Tensor) -> Tensor:
    """Return a number above zero for each connected region of a mask (H, W), zero elsewhere: (H, W) float32."""
    label = torch.arange(1, mask.numel() + 1, dtype=torch.float32, device=mask.device).view(1, *mask.shape) * mask
    while True:  # the largest number of a region spreads over it
        spread = F.max_pool2d(label, 3, stride=1, padding=1) * mask
        if torch.equal(spread, label):
            return label[0]
        label = spread


def parse(x: Tensor) -> list[list[Detection]]:
    """Return the items of each image (B, 3, S, S) in [-1, 1], largest first."""
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3]:
        raise ValueError(f"expected images (B, 3, S, S), got {tuple(x.shape)}")
    min_pixels = MIN_AREA * math.pi * (SIZES["small"] * x.shape[-1]) ** 2
    index, cover = pixel_colours(x)
    result = []
    for colour_map in torch.where(cover > 0.5, index, -1).cpu():  # (S, S)
        regions = []
        for k, colour in enumerate(COLOURS):
            mask = colour_map == k
            if mask.sum() < min_pixels:
                continue
            components = connected_components(mask)
            labels, areas = components.unique(return_counts=True)
            regions += [
                (area, classify_shape(components == label, colour))
                for label, area in zip(labels.tolist(), areas.tolist(), strict=True)
                if label and area >= min_pixels
            ]
        result.append([detection for _, detection in sorted(regions, key=lambda region: -region[0])])
    return result


def classify_shape(mask: Tensor, colour: str) -> Detection:
    """Return the item of that colour whose drawing at the centre of a mask (S, S) overlaps the mask best."""
    size = mask.shape[0]
    y, x = ((mask.nonzero().double().mean(0) + 0.5) / size).tolist()
    candidates = [Item(shape, colour, scale, x, y) for shape in SHAPES for scale in SIZES]
    corner, cover = rasterize(candidates, size)
    ious = []
    for (left, top), drawn in zip(corner.tolist(), cover > 0.5, strict=True):
        patch = mask[top : top + len(drawn), left : left + len(drawn)]
        intersection = (drawn & patch).sum()
        ious.append((intersection / (drawn.sum() + mask.sum() - intersection)).item())
    best = max(range(len(ious)), key=ious.__getitem__)
    return Detection(candidates[best], ious[best])


def grade(scene: Scene, detections: Sequence[Detection]) -> dict[str, tuple[int, int]]:
    """Return (right, asked) of each attribute of a scene, given what its image shows; what is missing is wrong.

    colour, shape: of each item, wherever it is; pair: both at one item; items_present: all pairs; size: of each pair;
    relation: of each further pair to the first; relation_given_items: of those only where both are present; number: of
    items; all: everything at once.
    """
    asked, seen = scene.items, [d.item for d in detections]
    shaped = [d.item for d in detections if d.iou >= MIN_IOU]
    by_pair = {(item.colour, item.shape): item for item in shaped}
    matches = [by_pair.get((item.colour, item.shape)) for item in asked]
    related = [
        direction((matches[0].x, matches[0].y), (match.x, match.y), 0.0) == relation(asked[0], item)
        for match, item in zip(matches[1:], asked[1:], strict=True)
        if matches[0] and match
    ]
    n, present = len(asked), sum(match is not None for match in matches)
    grades = {
        "colour": (_matching((i.colour for i in asked), (i.colour for i in seen)), n),
        "shape": (_matching((i.shape for i in asked), (i.shape for i in shaped)), n),
        "pair": (present, n),
        "items_present": (int(present == n), 1),
        "size": (sum(m is not None and m.size == i.size for m, i in zip(matches, asked, strict=True)), n),
        "relation": (sum(related), n - 1),
        "relation_given_items": (sum(related), len(related)),
        "number": (int(len(seen) == n), 1),
    }
    return grades | {"all": (int(all(right == asked for right, asked in grades.values())), 1)}


def attribute_accuracy(scenes: Sequence[Scene], images: Tensor) -> dict[str, float]:
    """Return the share of each attribute of `grade` that is right over images (B, 3, S, S) of B scenes.

    It is nan where nothing was asked: relations of single items, or between items of which one is missing.
    """
    if not scenes or len(scenes) != len(images):
        raise ValueError(f"expected one scene or more and an image of each, got {len(scenes)} and {len(images)}")
    grades = [grade(scene, detections) for scene, detections in zip(scenes, parse(images), strict=True)]
    totals = {name: [sum(column) for column in zip(*(g[name] for g in grades), strict=True)] for name in grades[0]}
    return {name: right / asked if asked else math.nan for name, (right, asked) in totals.items()}


def _matching(a: Iterable[str], b: Iterable[str]) -> int:
    """How many entries two lists share, whatever their order."""
    return (Counter(a) & Counter(b)).total()
