"""What if every picture came with its exact truth, and there were as many as one likes?

    a red circle left of a small blue square and above a green star

A scene is one to three coloured shapes on white that neither overlap nor leave the canvas. Its caption names the first
item and relates each other one to it; "small" is said, large is not. Each relation is the only one that fits: the
centres differ along its axis by `MARGIN` more than across it. Positions and radii are in parts of the canvas, x to
the right, y down. Shapes of one size cover the same area, pi radius^2, in tip-and-notch form: k tips, k notches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import torch
from torch import Generator, Tensor

from minidiff.data.images import Images

# Tips, and how far the notches lie out if the tips lie at 1. Notches at cos(pi / tips) make a polygon convex and regular.
SHAPES = {"circle": (128, math.cos(math.pi / 128)), "square": (4, math.cos(math.pi / 4)),
          "triangle": (3, math.cos(math.pi / 3)), "star": (5, 0.45)}
COLOURS = {"red": (220, 50, 47), "green": (40, 160, 70), "blue": (40, 90, 210), "yellow": (250, 200, 30),
           "purple": (150, 60, 190), "black": (30, 30, 30)}
SIZES = {"small": 0.08, "large": 0.13}
RELATIONS = "left of", "right of", "above", "below"
MARGIN = 0.08
HELD_OUT = ("red", "star"), ("green", "square"), ("blue", "triangle"), ("yellow", "circle")


@dataclass(frozen=True)
class Item:
    """One shape, colour and size by name, its centre at (x, y) in [0, 1]."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """One to three items; the caption starts from the first."""

    items: tuple[Item, ...]


def sample_scene(generator: Generator | None = None, hold_out: Sequence[tuple[str, str]] = HELD_OUT) -> Scene:
    """A random scene of distinct (colour, shape) pairs, none of them in `hold_out`."""
    pairs = [pair for pair in product(COLOURS, SHAPES) if pair not in hold_out]
    n = 1 + int(torch.randint(3, (), generator=generator))
    chosen = [pairs[k] for k in torch.randperm(len(pairs), generator=generator)[:n].tolist()]
    small = torch.rand(n, generator=generator) < 0.5
    looks = [(shape, colour, "small" if s else "large") for (colour, shape), s in zip(chosen, small.tolist(), strict=True)]
    reach = [_reach(shape, size) for shape, _, size in looks]
    while True:
        for places in torch.rand((32, n, 2), generator=generator).tolist():
            places = [(r + (1 - 2 * r) * x, r + (1 - 2 * r) * y) for r, (x, y) in zip(reach, places, strict=True)]
            if _fits(places, reach):
                return Scene(tuple(Item(*look, *place) for look, place in zip(looks, places, strict=True)))


def _reach(shape: str, size: str) -> float:
    """Distance of the tips from the centre."""
    tips, notch = SHAPES[shape]
    return SIZES[size] * math.sqrt(math.pi / (tips * notch * math.sin(math.pi / tips)))


def _fits(places: Sequence[tuple[float, float]], reach: Sequence[float]) -> bool:
    """Whether no two items come closer than their reach, and each is in a clear relation to the first."""
    return (all(_direction(places[0], place) for place in places[1:])
            and all(math.dist(a, b) > r + s for (a, r), (b, s) in combinations(zip(places, reach, strict=True), 2)))


def relation(a: Item, b: Item) -> str | None:
    """The relation of a to b, one of `RELATIONS`; None where no single one fits."""
    return _direction((a.x, a.y), (b.x, b.y))


def _direction(a: tuple[float, float], b: tuple[float, float]) -> str | None:
    dx, dy = a[0] - b[0], a[1] - b[1]
    if abs(abs(dx) - abs(dy)) < MARGIN:
        return None
    left, right, above, below = RELATIONS
    if abs(dx) > abs(dy):
        return left if dx < 0 else right
    return above if dy < 0 else below


def caption(scene: Scene) -> str:
    """The sentence that describes a scene."""
    first, *others = scene.items
    words = [f"{relation(first, other)} {_noun(other)}" for other in others]
    return " ".join([_noun(first), " and ".join(words)]).strip()


def _noun(item: Item) -> str:
    return f"a {'small ' if item.size == 'small' else ''}{item.colour} {item.shape}"


def render(scene: Scene, size: int = 64) -> Tensor:
    """The picture of a scene, (3, size, size) in [-1, 1], its edges anti-aliased."""
    return _paint([scene], size)[0]


def _paint(scenes: Sequence[Scene], size: int) -> Tensor:
    """Pictures (B, 3, size, size): white, and each item's colour in proportion to the area that it covers of a pixel."""
    canvas = torch.ones(len(scenes), 3, size, size)
    owner, items = zip(*((k, item) for k, scene in enumerate(scenes) for item in scene.items), strict=True)
    ink = torch.tensor([COLOURS[item.colour] for item in items]) / 127.5 - 2  # (M, 3), to be added to white
    corner, cover = _coverage(items, size)
    paint = cover[:, None] * ink[..., None, None]  # (M, 3, P, P)
    for k, (x, y), patch in zip(owner, corner.tolist(), paint, strict=True):
        canvas[k, :, y : y + patch.shape[-1], x : x + patch.shape[-1]] += patch
    return canvas


def _coverage(items: Sequence[Item], size: int) -> tuple[Tensor, Tensor]:
    """Left and top corner (M, 2) of a patch of pixels around each item, and the part of each pixel that it covers (M, P, P).

    The part is a clipped linear function of the distance to the edge: exact along straight edges, close at corners.
    """
    tips, notch = torch.tensor([SHAPES[item.shape] for item in items]).T[..., None, None]  # (M, 1, 1) each
    reach = torch.tensor([_reach(item.shape, item.size) for item in items])  # (M,)
    centre = torch.tensor([(item.x, item.y) for item in items])  # (M, 2)
    patch = min(size, math.ceil(2 * size * reach.max()) + 2)
    corner = (size * centre - patch / 2).round().long().clamp(0, size - patch)  # (M, 2)
    dx, dy = ((corner[..., None] + torch.arange(patch) + 0.5) / size - centre[..., None]).unbind(1)  # (M, P) each
    dx, dy = dx[:, None], dy[..., None]  # (M, 1, P), (M, P, 1)
    # All tips and their two sides look alike, so the plane folds onto one wedge between a tip, at angle 0, and a notch.
    half = math.pi / tips
    angle = torch.atan2(dx, -dy) + torch.where(tips % 2 == 0, half, 0)  # (M, P, P) from a tip; even shapes stand on a side
    angle = ((angle + half) % (2 * half) - half).abs()  # in [0, pi / tips]
    # The edge there is the line from the tip (1, 0) to the notch; its outward normal points along the angle `normal`.
    normal = torch.atan2(1 - notch * half.cos(), notch * half.sin())
    outside = (dx**2 + dy**2).sqrt() * (angle - normal).cos() - reach[:, None, None] * normal.cos()
    return corner, (0.5 - size * outside).clamp(0, 1)


def load_scenes(split: str = "train", n: int = 5000, size: int = 64) -> Images:
    """n scenes from a fixed seed; each of the test split shows a combination of `HELD_OUT`, those of the training split none.

    The label is the shape of the first item; `captions` and `scenes` hold the rest.
    """
    generator = torch.Generator().manual_seed(("train", "test").index(split))
    hold_out = HELD_OUT if split == "train" else ()
    scenes = []
    while len(scenes) < n:
        scene = sample_scene(generator, hold_out)
        if split == "train" or any((item.colour, item.shape) in HELD_OUT for item in scene.items):
            scenes.append(scene)
    batches = [_paint(scenes[k : k + 64], size) for k in range(0, n, 64)]
    x = torch.cat([((batch + 1) * 127.5).round().byte() for batch in batches])
    y = torch.tensor([list(SHAPES).index(scene.items[0].shape) for scene in scenes])
    return Images("scenes", x, y, tuple(SHAPES), tuple(caption(scene) for scene in scenes), tuple(scenes))
