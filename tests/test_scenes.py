"""Scenes: what the caption and the structure say is what the picture shows."""

import itertools
import math
import re

import pytest
import torch
from PIL import Image, ImageDraw

from minidiff.data.scenes import (
    COLOURS,
    HELD_OUT,
    MARGIN,
    RELATIONS,
    SHAPES,
    SIZES,
    Item,
    Scene,
    caption,
    load_scenes,
    relation,
    render,
    sample_scene,
)


def draw(n, seed=0, hold_out=HELD_OUT):
    generator = torch.Generator().manual_seed(seed)
    return [sample_scene(generator, hold_out) for _ in range(n)]


def one(shape, size="large", x=0.5, y=0.5, colour="black"):
    return Scene((Item(shape, colour, size, x, y),))


def ink(picture, colour):
    """How far a lone item covers each pixel, from the channel in which it differs most from white."""
    colour = torch.tensor(COLOURS[colour]) / 127.5 - 1
    return (1 - picture[colour.argmin()]) / (1 - colour.min())


def corners(shape, scale):
    """Corners of a shape around the origin, `scale` away from it, by school geometry, not by the package."""
    if shape == "square":
        half = scale * math.sqrt(0.5)
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    if shape == "triangle":
        return [(0, -scale), (scale * math.sqrt(3) / 2, scale / 2), (-scale * math.sqrt(3) / 2, scale / 2)]
    return [
        (scale * r * math.sin(math.pi * k / 5), -scale * r * math.cos(math.pi * k / 5))
        for k in range(10)
        for r in [0.45 if k % 2 else 1]
    ]


def shoelace(points):
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(points, points[1:] + points[:1], strict=True))) / 2


@pytest.mark.parametrize("size", [24, 64, 150])
@pytest.mark.parametrize("radius", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_covers_its_area(shape, radius, size):
    area = math.pi * SIZES[radius] ** 2 * size**2
    covered = (
        sum(
            ink(render(one(shape, radius, 0.5 + dx / size, 0.5 + dy / size), size), "black").sum()
            for dx, dy in ((0, 0), (0.3, 0.1), (0.7, 0.45))
        )
        / 3
    )
    assert abs(covered / area - 1) < {24: 0.05, 64: 0.01, 150: 0.005}[size]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_one_a_polygon_drawer_draws(shape):
    size, fine, (x, y) = 48, 16, (0.47, 0.53)
    large = Image.new("L", (size * fine,) * 2)
    pen, radius = ImageDraw.Draw(large), SIZES["large"]
    if shape == "circle":
        pen.ellipse([size * fine * v for v in (x - radius, y - radius, x + radius, y + radius)], fill=255)
    else:
        scale = radius * math.sqrt(math.pi / shoelace(corners(shape, 1.0)))
        points = [(size * fine * (x + u), size * fine * (y + v)) for u, v in corners(shape, scale)]
        pen.polygon(points, fill=255)
    truth = torch.tensor(list(large.resize((size, size), Image.BOX).tobytes())).reshape(size, size) / 255
    error = (ink(render(one(shape, "large", x, y), size), "black") - truth).abs()
    assert error.max() < 0.4 and error.sum() / truth.sum() < 0.03


@pytest.mark.parametrize("size", [8, 33, 64])
def test_pictures_are_anti_aliased_and_in_range(size):
    pictures = torch.stack([render(scene, size) for scene in draw(50)])
    assert pictures.shape == (50, 3, size, size) and pictures.dtype == torch.float32
    assert pictures.min() >= -1 and pictures.max() == 1
    edge = ink(render(one("circle"), size), "black")
    partial = ((edge > 0.05) & (edge < 0.95)).sum()
    assert partial > 2 * math.pi * SIZES["large"] * size / 2  # about one pixel in each step along the edge
    assert partial < 2 * math.pi * SIZES["large"] * size * 2


def test_what_is_said_is_what_is_seen():
    """The colour at each centre, and each relation of the caption by the middles of its colours' pixels."""
    size, checked = 64, 0
    for scene in draw(300):
        picture = render(scene, size)
        for item in scene.items:
            seen = picture[:, int(item.y * size), int(item.x * size)]
            assert torch.allclose(seen, torch.tensor(COLOURS[item.colour]) / 127.5 - 1, atol=1e-5)
        nouns = re.findall(r"a (?:small )?(\w+) (?:\w+)", caption(scene))
        relations = re.findall("|".join(RELATIONS), caption(scene))
        assert len(nouns) == len(scene.items) == len(relations) + 1
        if len(set(nouns)) < len(nouns):
            continue
        middle = []
        for noun in nouns:
            match = (picture - (torch.tensor(COLOURS[noun]) / 127.5 - 1)[:, None, None]).abs().amax(0) < 0.02
            middle.append([float(v) for v in torch.nonzero(match).float().mean(0)])  # (row, column)
        for (row, column), word in zip(middle[1:], relations, strict=True):
            down, right = middle[0][0] - row, middle[0][1] - column
            ahead, across = {
                "left of": (-right, down),
                "right of": (right, down),
                "above": (-down, right),
                "below": (down, right),
            }[word]
            assert ahead > abs(across) + (MARGIN * size - 3)
            checked += 1
    assert checked > 150


def test_items_are_distinct_apart_and_whole():
    size = 96
    for scene in draw(150):
        parts = [ink(render(Scene((item,)), size), item.colour) for item in scene.items]
        for item, part in zip(scene.items, parts, strict=True):
            assert abs(part.sum() / (math.pi * (SIZES[item.size] * size) ** 2) - 1) < 0.03  # nothing cut off
            assert abs((part.sum(0) @ (torch.arange(size) + 0.5)) / part.sum() / size - item.x) < 0.005
            assert abs((part.sum(1) @ (torch.arange(size) + 0.5)) / part.sum() / size - item.y) < 0.005
        for a, b in itertools.combinations(parts, 2):
            assert (a * b).max() < 0.3  # at most the rims of two share a pixel
        assert len({(item.colour, item.shape) for item in scene.items}) == len(scene.items)


def test_a_scene_is_its_items_painted_in_order():
    overlapping = Scene(tuple(Item("star", colour, "large", 0.4, 0.5) for colour in ("black", "red", "blue")))
    for scene in [*draw(20, seed=3), overlapping]:
        picture = torch.ones(3, 40, 40)
        for item in scene.items:
            alone = render(Scene((item,)), 40)
            part = ink(alone, item.colour)
            picture = picture * (1 - part) + (alone - (1 - part))  # the share of the item itself
        assert torch.allclose(render(scene, 40), picture, atol=1e-5)
        assert render(scene, 40).min() >= -1


def test_captions_follow_the_grammar():
    items = (
        Item("circle", "red", "large", 0.3, 0.3),
        Item("square", "blue", "small", 0.7, 0.35),
        Item("star", "green", "large", 0.35, 0.8),
    )
    assert caption(Scene(items[:1])) == "a red circle"
    assert caption(Scene(items)) == "a red circle left of a small blue square and above a green star"
    assert caption(Scene(items[1::-1])) == "a small blue square right of a red circle"
    assert caption(Scene(items[::-1][:2])) == "a green star below a small blue square"
    colour, shape = "|".join(COLOURS), "|".join(SHAPES)
    noun = f"a (small )?({colour}) ({shape})"
    sentence = re.compile(f"{noun}( ({'|'.join(RELATIONS)}) {noun}( and ({'|'.join(RELATIONS)}) {noun})?)?")
    captions = [caption(scene) for scene in draw(500)]
    assert all(sentence.fullmatch(text) for text in captions)
    assert {word for text in captions for word in re.findall("|".join(RELATIONS), text)} == set(RELATIONS)


def test_no_relation_where_none_is_clear():
    a = Item("circle", "red", "small", 0.3, 0.3)
    b = Item("star", "blue", "small", 0.7, 0.7 - 0.9 * MARGIN)
    for function in lambda: relation(a, b), lambda: caption(Scene((a, b))):
        with pytest.raises(ValueError, match="along one axis by 0.08 more"):
            function()
    assert relation(a, Item("star", "blue", "small", 0.7, 0.7 - 1.1 * MARGIN)) == "left of"
    assert relation(a, Item("star", "blue", "small", 0.7, 0.7 + 1.1 * MARGIN)) == "above"


def test_the_generator_decides():
    assert draw(20) == draw(20) != draw(20, seed=1)
    counts = torch.bincount(torch.tensor([len(scene.items) for scene in draw(1500)]))
    assert counts[0] == 0 and (counts[1:] - 500).abs().max() < 80


def test_what_is_held_out_never_appears_and_all_else_does():
    every = set(itertools.product(COLOURS, SHAPES))
    for hold_out in HELD_OUT, (("black", "circle"),), ():
        seen = {(item.colour, item.shape) for scene in draw(600, hold_out=hold_out) for item in scene.items}
        assert seen == every - set(hold_out)
    assert {shape for _, shape in HELD_OUT} == set(SHAPES) and len({colour for colour, _ in HELD_OUT}) == 4


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Item("heart", "red", "large", 0.5, 0.5), "circle, square, triangle, star, got 'heart'"),
        (lambda: Item("circle", "pink", "large", 0.5, 0.5), "got 'pink'"),
        (lambda: Item("circle", "red", "huge", 0.5, 0.5), "small, large, got 'huge'"),
        (lambda: Scene(()), "at least one item"),
        (lambda: sample_scene(hold_out=[("star", "red")]), r"\(colour, shape\) pairs to hold out"),
        (lambda: sample_scene(hold_out=list(itertools.product(COLOURS, SHAPES))[2:]), "three to remain"),
        (lambda: load_scenes("valid"), "'train' or 'test', got 'valid'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_loaded_scenes_agree_with_their_truth():
    for split in "train", "test":
        found = load_scenes(split, n=100, size=48)
        assert len(found) == 100 and found.shape == (3, 48, 48) and found.classes == tuple(SHAPES)
        for k in (0, 63, 64, 99):
            scene = found.scenes[k]
            assert found.captions[k] == caption(scene)
            assert found.classes[found.y[k]] == scene.items[0].shape
            assert (found.tensor(slice(k, k + 1))[0] - render(scene, 48)).abs().max() < 0.51 / 127.5
        held = [any((item.colour, item.shape) in HELD_OUT for item in scene.items) for scene in found.scenes]
        assert all(held) if split == "test" else not any(held)
        assert load_scenes(split, n=30, size=48).scenes == found.scenes[:30]
