"""The reader of scenes: it finds in a true picture all that is there, and in a wrong one what is wrong."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from minidiff.data.reading import FIT, colours, components, mark, read, score
from minidiff.data.scenes import COLOURS, SHAPES, SIZES, Item, Scene, render, sample_scene

RED = Item("circle", "red", "large", 0.28, 0.5)
BLUE = Item("square", "blue", "small", 0.72, 0.52)
WANTED = Scene((RED, BLUE))
ATTRIBUTES = ["colour", "shape", "pair", "size", "relation", "number", "all"]


def fresh(n: int, seed: int = 7, hold_out=()) -> list[Scene]:
    generator = torch.Generator().manual_seed(seed)
    return [sample_scene(generator, hold_out) for _ in range(n)]


def drawn(*scenes: Scene, size: int = 64) -> torch.Tensor:
    return torch.stack([render(scene, size) for scene in scenes])


def marks(*items: Item, wanted: Scene = WANTED) -> dict[str, tuple[int, int]]:
    """What the picture of some items gets that was to show `wanted`."""
    return mark(wanted, read(drawn(Scene(items)))[0])


@pytest.mark.parametrize("size", [64, 96])
def test_true_pictures_get_full_marks(size):
    scenes = fresh(100)
    assert score(scenes, drawn(*scenes, size=size)) == dict.fromkeys(ATTRIBUTES, 1.0)


def test_true_items_are_found_where_they_are():
    for scene, found in zip(scenes := fresh(50), read(drawn(*scenes)), strict=True):
        true = sorted((i.colour, i.shape, i.size) for i in scene.items)
        assert sorted((f.item.colour, f.item.shape, f.item.size) for f in found) == true
        place = {(i.colour, i.shape): (i.x, i.y) for i in scene.items}
        for item, fit in found:
            assert fit > 0.85
            x, y = place[item.colour, item.shape]
            assert abs(item.x - x) < 0.01 and abs(item.y - y) < 0.01


def test_larger_items_come_first():
    assert [f.item.size for f in read(drawn(Scene((BLUE, RED))))[0]] == ["large", "small"]


@pytest.mark.parametrize(
    "items, wrong",
    [
        ((RED, BLUE), {}),
        ((BLUE, RED), {}),  # the order of painting is nobody's business
        ((dataclasses.replace(RED, colour="green"), BLUE), {"colour": 1, "pair": 1, "size": 1, "relation": 0}),
        ((dataclasses.replace(RED, shape="star"), BLUE), {"shape": 1, "pair": 1, "size": 1, "relation": 0}),
        ((RED, dataclasses.replace(BLUE, size="large")), {"size": 1}),
        (
            (dataclasses.replace(RED, colour="blue"), dataclasses.replace(BLUE, colour="red")),
            {"pair": 0, "size": 0, "relation": 0},
        ),
        ((dataclasses.replace(RED, x=0.72), dataclasses.replace(BLUE, x=0.28)), {"relation": 0}),
        ((RED,), {"colour": 1, "shape": 1, "pair": 1, "size": 1, "relation": 0, "number": 0}),
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
    full = {"colour": (2, 2), "shape": (2, 2), "pair": (2, 2), "size": (2, 2), "relation": (1, 1), "number": (1, 1)}
    expected = full | {name: (right, full[name][1]) for name, right in wrong.items()}
    assert marks(*items) == expected | {"all": (int(not wrong), 1)}


def test_relations_are_those_to_the_first_item():
    third = Item("star", "green", "large", 0.3, 0.15)
    wanted = Scene((RED, BLUE, third))
    assert marks(RED, BLUE, third, wanted=wanted)["relation"] == (2, 2)
    below = dataclasses.replace(third, y=0.85)
    assert marks(RED, BLUE, below, wanted=wanted)["relation"] == (1, 2)
    assert marks(BLUE, third, wanted=wanted)["relation"] == (0, 2)  # without the first there is no relation to it


def test_a_lone_item_has_no_relation():
    lone = Scene((RED,))
    assert marks(RED, wanted=lone)["relation"] == (0, 0)
    assert score([lone], drawn(lone))["relation"] == 1.0


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("cover", [0.2, 0.7, 1.0])
def test_a_pixel_is_white_and_a_share_of_its_colour(colour, cover):
    pixel = 1 + cover * (torch.tensor(COLOURS[colour]) / 127.5 - 2)
    index, covered = colours(pixel[None, :, None, None])
    assert list(COLOURS)[index.item()] == colour and abs(covered.item() - cover) < 1e-5


def test_cover_is_the_least_squares_share():
    """Oracle: torch.linalg.lstsq on random pixels, for the colour that leaves least."""
    x = 2 * torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)) - 1
    index, cover = colours(x)
    axes = 2 - torch.tensor(list(COLOURS.values())) / 127.5
    for k, away in enumerate((1 - x)[0].flatten(1).T):
        shares = torch.stack([torch.linalg.lstsq(axis[:, None], away[:, None]).solution[0, 0] for axis in axes])
        best = (away - shares[:, None] * axes).square().sum(1).argmin()
        assert index.flatten()[k] == best and abs(cover.flatten()[k] - shares[best].clamp(0, 1)) < 1e-5


def test_connected_parts_are_those_of_a_flood():
    """Oracle: a flood with a stack, corners counted as neighbours."""
    mask = torch.rand(20, 20, generator=torch.Generator().manual_seed(0)) < 0.35
    names = components(mask)
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
    found = mark(WANTED, read(picture.clamp(-1, 1))[0])
    assert found["pair"] == (0, 2) and found["all"] == (0, 1)
    ring = drawn(Scene((RED,)))
    ring[:, :, 27:37, 13:23] = 1  # a large hole in the disc
    (only,) = read(ring)[0]
    assert only.item.colour == "red" and only.fit < FIT
    assert mark(Scene((RED,)), [only])["colour"] == (1, 1) and mark(Scene((RED,)), [only])["shape"] == (0, 1)


def test_noise_and_nothing_get_no_marks():
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    for found in read(noise):
        assert mark(WANTED, found)["pair"] == (0, 2)
    assert read(torch.ones(1, 3, 64, 64)) == [[]]
    assert mark(WANTED, [])["number"] == (0, 1)


@pytest.mark.parametrize("colour", ["black", "red"])  # of no item, and of one
def test_specks_are_no_items(colour):
    picture = drawn(WANTED)
    picture[:, :, 2:5, 2:5] = (torch.tensor(COLOURS[colour]) / 127.5 - 1)[:, None, None]
    assert mark(WANTED, read(picture)[0])["all"] == (1, 1)


def test_score_adds_up_over_pictures():
    one = Scene((RED,))
    result = score([WANTED, one], drawn(Scene((RED,)), one))
    assert result["colour"] == 2 / 3 and result["number"] == 1 / 2 and result["relation"] == 0.0


def test_pictures_of_another_shape_or_number_are_refused():
    with pytest.raises(ValueError, match=r"expected pictures \(B, 3, S, S\), got \(1, 1, 64, 64\)"):
        read(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match="expected a picture of each of 1 scenes, got 2"):
        score([WANTED], drawn(WANTED, WANTED))


def test_every_kind_of_item_is_told_apart():
    items = [Item(shape, colour, size, 0.5, 0.5) for shape in SHAPES for colour in COLOURS for size in SIZES]
    for item, found in zip(items, read(drawn(*(Scene((i,)) for i in items))), strict=True):
        assert len(found) == 1 and found[0].item == dataclasses.replace(item, x=found[0].item.x, y=found[0].item.y)
