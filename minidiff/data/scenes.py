"""Procedural images of coloured shapes with captions and exact truth: an unlimited data set.

    a red circle left of a small blue square and above a green star

A scene is one to three coloured shapes on white that neither overlap nor leave the canvas. Its caption
names the first item and relates each other one to it; "small" is said, large is not. Each relation is the
only one that fits: the centres differ along its axis by `MARGIN` more than across it. Lengths are in parts
of the canvas, x to the right, y down. Every shape is a ring of tips and notches, and shapes of one size
cover the same area, pi SIZES[size]^2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import torch
from torch import Generator, Tensor

from minidiff.data.images import Images, check_size, check_split

SHAPES = {  # tips, and how far out the notches lie if the tips lie at 1; cos(pi / tips) is a regular polygon
    "circle": (128, math.cos(math.pi / 128)),
    "square": (4, math.cos(math.pi / 4)),
    "triangle": (3, math.cos(math.pi / 3)),
    "star": (5, 0.45),
}
COLOURS = {
    "red": (220, 50, 47),
    "green": (40, 160, 70),
    "blue": (40, 90, 210),
    "yellow": (250, 200, 30),
    "purple": (150, 60, 190),
    "black": (30, 30, 30),
}
SIZES = {"small": 0.08, "large": 0.13}
RELATIONS = "left of", "right of", "above", "below"
MARGIN = 0.08
MAX_BYTES = 4 * 10**9
HELD_OUT = ("red", "star"), ("green", "square"), ("blue", "triangle"), ("yellow", "circle")


@dataclass(frozen=True)
class Item:
    """One shape, colour and size by name, its centre at (x, y) in [0, 1]."""

    shape: str
    colour: str
    size: str
    x: float
    y: float

    def __post_init__(self):
        for name, known in (self.shape, SHAPES), (self.colour, COLOURS), (self.size, SIZES):
            if name not in known:
                raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")


@dataclass(frozen=True)
class Scene:
    """One item or more; the caption starts from the first, and later ones are painted over earlier ones."""

    items: tuple[Item, ...]

    def __post_init__(self):
        if not self.items:
            raise ValueError("expected a scene of at least one item, got none")


def sample_scene(generator: Generator | None = None, hold_out: Sequence[tuple[str, str]] = HELD_OUT) -> Scene:
    """Draw a scene of one to three distinct (colour, shape) pairs, none of them in `hold_out`."""
    all_pairs = list(product(COLOURS, SHAPES))
    pairs = [pair for pair in all_pairs if pair not in hold_out]
    if len(pairs) < 3 or not set(hold_out) <= set(all_pairs):
        raise ValueError(f"expected (colour, shape) pairs to hold out, and three to remain, got {hold_out}")
    n = 1 + int(torch.randint(3, (), generator=generator))
    chosen = [pairs[k] for k in torch.randperm(len(pairs), generator=generator)[:n].tolist()]
    sizes = [list(SIZES)[k] for k in torch.randint(2, (n,), generator=generator).tolist()]
    kinds = [(shape, colour, size) for (colour, shape), size in zip(chosen, sizes, strict=True)]
    radii = [_circumradius(shape, size) for shape, _, size in kinds]
    edge = torch.tensor(radii)[:, None]  # (n, 1)
    while True:
        proposals = edge + (1 - 2 * edge) * torch.rand((32, n, 2), generator=generator)
        for centres in proposals.tolist():
            if _is_valid(centres, radii):
                return Scene(tuple(Item(*kind, *xy) for kind, xy in zip(kinds, centres, strict=True)))


def _circumradius(shape: str, size: str) -> float:
    """Distance of the tips from the centre."""
    tips, notch = SHAPES[shape]
    return SIZES[size] * math.sqrt(math.pi / (tips * notch * math.sin(math.pi / tips)))


def _is_valid(centres: Sequence[Sequence[float]], radii: Sequence[float]) -> bool:
    """Whether the items' circumscribed circles are apart, and each item is in a clear relation to the first."""
    discs = zip(centres, radii, strict=True)
    return all(direction(centres[0], centre) for centre in centres[1:]) and all(
        math.dist(a, b) > r + s for (a, r), (b, s) in combinations(discs, 2)
    )


def relation(a: Item, b: Item) -> str:
    """Return the relation of a to b, one of `RELATIONS`. ValueError where no single one fits."""
    unique = direction((a.x, a.y), (b.x, b.y))
    if unique is None:
        raise ValueError(
            f"expected centres that differ along one axis by {MARGIN} more than along the other, got {a} and {b}"
        )
    return unique


def direction(a: Sequence[float], b: Sequence[float], margin: float = MARGIN) -> str | None:
    """Return which of `RELATIONS` a point (x, y) has to another; None where no axis wins by the margin."""
    dx, dy = a[0] - b[0], a[1] - b[1]
    if abs(abs(dx) - abs(dy)) < margin:
        return None
    left, right, above, below = RELATIONS
    if abs(dx) > abs(dy):
        return left if dx < 0 else right
    return above if dy < 0 else below


def caption(scene: Scene) -> str:
    """Return the sentence that describes a scene. ValueError where an item is in no clear relation to the first."""
    first, *others = scene.items
    phrases = [f"{relation(first, other)} {_noun_phrase(other)}" for other in others]
    return " ".join([_noun_phrase(first), " and ".join(phrases)]).strip()


def _noun_phrase(item: Item) -> str:
    return f"a {'small ' if item.size == 'small' else ''}{item.colour} {item.shape}"


def render(scene: Scene, size: int = 64) -> Tensor:
    """Return the image of a scene, (3, size, size) in [-1, 1], its edges anti-aliased."""
    return render_batch([scene], size)[0]


def render_batch(scenes: Sequence[Scene], size: int = 64) -> Tensor:
    """Return images (B, 3, size, size) in [-1, 1]: on white, a pixel takes an item's colour as far as it is covered."""
    canvas = torch.ones(len(scenes), 3, size, size)
    owner, items = zip(*((k, item) for k, scene in enumerate(scenes) for item in scene.items), strict=True)
    colour = torch.tensor([COLOURS[item.colour] for item in items]) / 127.5 - 1  # (M, 3)
    corner, cover = rasterize(items, size)
    patch = cover.shape[-1]
    for m, (k, (x, y)) in enumerate(zip(owner, corner.tolist(), strict=True)):
        region = canvas[k, :, y : y + patch, x : x + patch]  # (3, P, P)
        region += cover[m] * (colour[m, :, None, None] - region)
    return canvas


def rasterize(items: Sequence[Item], size: int) -> tuple[Tensor, Tensor]:
    """Return for M items the corner (x, y) of a patch of pixels, (M, 2), and how far each is covered, (M, P, P).

    The cover is a clipped linear function of the distance to the edge: good along it, blunter at tips.
    """
    tips, notch = torch.tensor([SHAPES[item.shape] for item in items]).T[..., None, None]  # (M, 1, 1) each
    radius = torch.tensor([_circumradius(item.shape, item.size) for item in items])  # (M,)
    centre = torch.tensor([(item.x, item.y) for item in items])  # (M, 2)
    patch = min(size, math.ceil(2 * size * radius.max()) + 2)
    corner = (size * centre - patch / 2).round().long().clamp(0, size - patch)  # (M, 2)
    offset = (corner[..., None] + torch.arange(patch) + 0.5) / size - centre[..., None]  # (M, 2, P)
    dx, dy = offset[:, 0, None, :], offset[:, 1, :, None]  # (M, 1, P), (M, P, 1)
    # Tips and their two sides look alike: the plane folds onto one wedge from a tip, at angle 0, to a notch.
    half = math.pi / tips
    angle = torch.atan2(dx, -dy) + torch.where(tips % 2 == 0, half, 0)  # (M, P, P); even shapes sit flat
    angle = ((angle + half) % (2 * half) - half).abs()  # in [0, half]
    # The edge there is the line from the tip (1, 0) to the notch; `normal` is the angle that it faces.
    normal = torch.atan2(1 - notch * half.cos(), notch * half.sin())
    distance, radius = (dx**2 + dy**2).sqrt(), radius[:, None, None]
    outside = distance * (angle - normal).cos() - radius * normal.cos()
    outside = torch.maximum(outside, distance - radius)  # a sharp tip would otherwise blur far beyond itself
    return corner, (0.5 - size * outside).clamp(0, 1)


def load_scenes(split: str = "train", n: int = 5000, size: int = 64) -> Images:
    """Return the first n scenes of a fixed sequence, size by size pixels, labelled by the shape of their first item.

    Each of the test split shows a combination of `HELD_OUT`; those of the training split show none. ValueError for a
    set of more than `MAX_BYTES`.
    """
    check_split(split)
    check_size(size)
    if n < 1 or 3 * n * size**2 > MAX_BYTES:
        raise ValueError(f"expected 1 scene or more, of {MAX_BYTES / 1e9:g} GB at most, got {n} of {size} x {size}")
    generator = torch.Generator().manual_seed(0 if split == "train" else 1)
    hold_out = HELD_OUT if split == "train" else ()
    scenes: list[Scene] = []
    while len(scenes) < n:
        scene = sample_scene(generator, hold_out)
        if split == "train" or any((item.colour, item.shape) in HELD_OUT for item in scene.items):
            scenes.append(scene)
    batches = [render_batch(scenes[k : k + 64], size) for k in range(0, n, 64)]
    x = torch.cat([((batch + 1) * 127.5).round().byte() for batch in batches])
    y = torch.tensor([list(SHAPES).index(scene.items[0].shape) for scene in scenes])
    return Images("scenes", x, y, tuple(SHAPES), tuple(caption(scene) for scene in scenes), tuple(scenes))
