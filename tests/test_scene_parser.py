"""The parser of scenes: it finds in a true image all that is there, and in a wrong one what is wrong."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from minidiff.data.scene_parser import (
    MIN_AREA,
    MIN_IOU,
    Detection,
    attribute_accuracy,
    connected_components,
    grade,
    parse,
    pixel_colours,
)
from minidiff.data.scenes import COLOURS, SHAPES, SIZES, Item, Scene, render, sample_scene

RED = Item("circle", "red", "large", 0.28, 0.5)
BLUE = Item("square", "blue", "small", 0.72, 0.52)
WANTED = Scene((RED, BLUE))
ATTRIBUTES = [
    *("colour", "shape", "pair", "items_present", "size", "relation", "relation_given_items", "number", "all"),
]


def fresh(n: int, seed: int = 7, hold_out=()) -> list[Scene]:
    generator = torch.Generator().manual_seed(seed)
    return [sample_scene(generator, hold_out) for _ in range(n)]


def drawn(*scenes: Scene, size: int = 64) -> torch.Tensor:
    return torch.stack([render(scene, size) for scene in scenes])


def grades(*items: Item, wanted: Scene = WANTED) -> dict[str, tuple[int, int]]:
    """What the picture of some items gets that was to show `wanted`."""
    return grade(wanted, parse(drawn(Scene(items)))[0])


ONE_PAIR = {"pair": 1, "items_present": 0, "relation": 0, "relation_given_items": None}  # the other one is missing


@pytest.mark.parametrize("size", [64, 96])
def test_true_pictures_get_full_marks(size):
    scenes = fresh(100)
    assert attribute_accuracy(scenes, drawn(*scenes, size=size)) == dict.fromkeys(ATTRIBUTES, 1.0)


def test_true_items_are_found_where_they_are():
    for scene, found in zip(scenes := fresh(50), parse(drawn(*scenes)), strict=True):
        true = sorted((i.colour, i.shape, i.size) for i in scene.items)
        assert sorted((f.item.colour, f.item.shape, f.item.size) for f in found) == true
        place = {(i.colour, i.shape): (i.x, i.y) for i in scene.items}
        for item, fit in found:
            assert fit > 0.85
            x, y = place[item.colour, item.shape]
            assert abs(item.x - x) < 0.01 and abs(item.y - y) < 0.01


def test_larger_items_come_first():
    assert [f.item.size for f in parse(drawn(Scene((BLUE, RED))))[0]] == ["large", "small"]


@pytest.mark.parametrize(
    "items, wrong",
    [
        ((RED, BLUE), {}),
        ((BLUE, RED), {}),  # the order of painting is nobody's business
        ((dataclasses.replace(RED, colour="green"), BLUE), {"colour": 1, "size": 1} | ONE_PAIR),
        ((dataclasses.replace(RED, shape="star"), BLUE), {"shape": 1, "size": 1} | ONE_PAIR),
        ((RED, dataclasses.replace(BLUE, size="large")), {"size": 1}),
        (
            (dataclasses.replace(RED, colour="blue"), dataclasses.replace(BLUE, colour="red")),
            {"size": 0} | ONE_PAIR | {"pair": 0},
        ),
        (
            (dataclasses.replace(RED, x=0.72), dataclasses.replace(BLUE, x=0.28)),
            {"relation": 0, "relation_given_items": 0},
        ),
        ((RED,), {"colour": 1, "shape": 1, "size": 1, "number": 0} | ONE_PAIR),
        ((RED, BLUE, dataclasses.replace(RED, colour="black", y=0.15)), {"number": 0}),
        ((RED, BLUE, dataclasses.replace(RED, y=0.15)), {"number": 0}),
    ],
    ids=[
        "truth",
        "order",
        "colour",
        "shape",
        "size",
        "colours swapped",
        "mirrored",
        "one missing",
        "one too many",
        "one twice",
    ],
)
def test_what_is_wrong_is_marked_wrong(items, wrong):
    full = dict.fromkeys(ATTRIBUTES[:-1], (1, 1)) | dict.fromkeys(("colour", "shape", "pair", "size"), (2, 2))
    expected = full | {name: (0, 0) if right is None else (right, full[name][1]) for name, right in wrong.items()}
    assert grades(*items) == expected | {"all": (int(not wrong), 1)}


def test_relations_are_those_to_the_first_item():
    third = Item("star", "green", "large", 0.3, 0.15)
    wanted = Scene((RED, BLUE, third))
    assert grades(RED, BLUE, third, wanted=wanted)["relation"] == (2, 2)
    below = dataclasses.replace(third, y=0.85)
    assert grades(RED, BLUE, below, wanted=wanted)["relation"] == (1, 2)
    assert grades(BLUE, third, wanted=wanted)["relation"] == (0, 2)  # without the first there is no relation to it
    assert grades(BLUE, third, wanted=wanted)["relation_given_items"] == (0, 0)
    one_gone = grades(RED, below, wanted=wanted)
    assert one_gone["relation"] == (0, 2) and one_gone["relation_given_items"] == (0, 1)
    assert grades(RED, third, wanted=wanted)["relation_given_items"] == (1, 1)
    assert one_gone["items_present"] == (0, 1) and grades(RED, BLUE, below, wanted=wanted)["items_present"] == (1, 1)


def test_a_lone_item_has_no_relation():
    lone = Scene((RED,))
    assert grades(RED, wanted=lone)["relation"] == (0, 0)
    accuracy = attribute_accuracy([lone], drawn(lone))  # neither right nor wrong
    assert [name for name, share in accuracy.items() if share != 1] == ["relation", "relation_given_items"]
    assert math.isnan(accuracy["relation"]) and math.isnan(accuracy["relation_given_items"])


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("cover", [0.2, 0.7, 1.0])
def test_a_pixel_is_white_and_a_share_of_its_colour(colour, cover):
    pixel = 1 + cover * (torch.tensor(COLOURS[colour]) / 127.5 - 2)
    index, covered = pixel_colours(pixel[None, :, None, None])
    assert list(COLOURS)[index.item()] == colour and abs(covered.item() - cover) < 1e-5


def test_cover_is_the_least_squares_share():
    """Oracle: torch.linalg.lstsq on random pixels, for the colour that leaves least."""
    x = 2 * torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)) - 1
    index, cover = pixel_colours(x)
    axes = 2 - torch.tensor(list(COLOURS.values())) / 127.5
    for k, away in enumerate((1 - x)[0].flatten(1).T):
        shares = torch.stack([torch.linalg.lstsq(axis[:, None], away[:, None]).solution[0, 0] for axis in axes])
        best = (away - shares[:, None] * axes).square().sum(1).argmin()
        assert index.flatten()[k] == best and abs(cover.flatten()[k] - shares[best].clamp(0, 1)) < 1e-5


def test_connected_parts_are_those_of_a_flood():
    """Oracle: a flood with a stack, corners counted as neighbours."""
    mask = torch.rand(20, 20, generator=torch.Generator().manual_seed(0)) < 0.35
    names = connected_components(mask)
    assert torch.equal(names > 0, mask)
    todo, parts = {tuple(p) for p in mask.nonzero().tolist()}, 0
    while todo:
        stack, part = [todo.pop()], []
        while stack:
            i, j = stack.pop()
            part.append((i, j))
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & todo
            todo -= near
            stack += near
        parts += 1
        assert len({names[p].item() for p in part}) == 1
    assert len(names.unique()) == parts + 1


def test_blobs_have_a_colour_and_no_shape():
    """Half-transparent clouds, as a half-trained model draws them."""
    picture = F.avg_pool2d(drawn(WANTED), 25, 1, padding=12, count_include_pad=False)
    found = grade(WANTED, parse(picture.clamp(-1, 1))[0])
    assert found["pair"] == (0, 2) and found["all"] == (0, 1)
    ring = drawn(Scene((RED,)))
    ring[:, :, 27:37, 13:23] = 1  # a large hole in the disc
    (only,) = parse(ring)[0]
    assert only.item.colour == "red" and only.iou < MIN_IOU
    assert grade(Scene((RED,)), [only])["colour"] == (1, 1) and grade(Scene((RED,)), [only])["shape"] == (0, 1)


def test_noise_and_nothing_get_no_marks():
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    for found in parse(noise):
        assert grade(WANTED, found)["pair"] == (0, 2)
    assert parse(torch.ones(1, 3, 64, 64)) == [[]]
    assert grade(WANTED, [])["number"] == (0, 1)


def test_an_item_of_no_known_shape_is_an_item_too():
    first, second = (Detection(item, 1.0) for item in WANTED.items)
    blob = Detection(RED, 0.0)
    assert grade(WANTED, [first, second])["number"] == (1, 1) != grade(WANTED, [first, second, blob])["number"]


@pytest.mark.parametrize("colour", ["black", "red"])  # of no item, and of one
def test_specks_are_no_items(colour):
    picture = drawn(WANTED)
    picture[:, :, 2:5, 2:5] = (torch.tensor(COLOURS[colour]) / 127.5 - 1)[:, None, None]
    assert grade(WANTED, parse(picture)[0])["all"] == (1, 1)


def test_score_adds_up_over_pictures():
    one = Scene((RED,))
    result = attribute_accuracy([WANTED, one], drawn(Scene((RED,)), one))
    assert result["colour"] == 2 / 3 and result["number"] == result["items_present"] == 1 / 2
    assert result["relation"] == 0.0 and math.isnan(result["relation_given_items"])
    both = attribute_accuracy([WANTED, WANTED], drawn(Scene((RED,)), WANTED))
    assert both["relation"] == both["items_present"] == 1 / 2 and both["relation_given_items"] == 1.0


def test_pictures_of_another_shape_or_number_are_refused():
    with pytest.raises(ValueError, match=r"expected images \(B, 3, S, S\), got \(1, 1, 64, 64\)"):
        parse(torch.zeros(1, 1, 64, 64))
    for scenes in [WANTED], []:
        with pytest.raises(ValueError, match=f"one scene or more and an image of each, got {len(scenes)} and 2"):
            attribute_accuracy(scenes, drawn(WANTED, WANTED))


def test_the_thresholds_are_those_of_the_reports():
    """A looser parser would find shapes in blots and items in specks: both limits are met from either side."""
    size = 64
    small = math.pi * (SIZES["small"] * size) ** 2
    for share, seen in (0.26, 0), (0.34, 1):
        side, picture = math.sqrt(share * small), torch.ones(1, 3, size, size)
        height, width = round(side), round(share * small / round(side))
        picture[:, :, 10 : 10 + height, 10 : 10 + width] = (torch.tensor(COLOURS["red"]) / 127.5 - 1)[:, None, None]
        assert abs(height * width / small - share) < 0.035 and len(parse(picture)[0]) == seen
    disc = Scene((dataclasses.replace(RED, x=0.5 + 0.5 / size, y=0.5 + 0.5 / size),))  # centred on the pixel (32, 32)
    for (high, wide), shaped in ((3, 4), True), ((3, 5), False):  # a hole of 7 x 9 pixels leaves 0.71, 7 x 11 0.64
        picture = drawn(disc)
        area = (picture[0, 1] < 0.05).sum().item()
        picture[:, :, 32 - high : 33 + high, 32 - wide : 33 + wide] = 1
        (only,) = parse(picture)[0]
        assert abs(only.iou - (1 - (2 * high + 1) * (2 * wide + 1) / area)) < 0.02
        assert grade(disc, [only])["shape"] == (shaped, 1) and grade(disc, [only])["colour"] == (1, 1)
    assert (MIN_IOU, MIN_AREA) == (0.7, 0.3)


def test_every_kind_of_item_is_told_apart():
    items = [Item(shape, colour, size, 0.5, 0.5) for shape in SHAPES for colour in COLOURS for size in SIZES]
    for item, found in zip(items, parse(drawn(*(Scene((i,)) for i in items))), strict=True):
        assert len(found) == 1 and found[0].item == dataclasses.replace(item, x=found[0].item.x, y=found[0].item.y)
