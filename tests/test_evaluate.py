"""Evaluation by every measure: a painter that obeys its captions scores 1, one that swaps a word loses just that."""

import pytest
import torch

from minidiff.app.evaluate import attributes, eval_conditions, held_out_bits, known_captions
from minidiff.app.generate import Model
from minidiff.data import load
from minidiff.data.scenes import COLOURS, Item, Scene, caption, load_scenes, render
from minidiff.denoiser import Denoiser
from minidiff.nets.text import Vocabulary
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine

PLACES = {"left": (0.8, 0.5), "right": (0.2, 0.5), "above": (0.5, 0.8), "below": (0.5, 0.2)}  # of the other item


def staged(text):
    """A scene that fits a caption, made from its words alone: the first item in the middle, the others around it."""
    items, place = [], (0.5, 0.5)
    for part in text.replace(" and ", " ").split("a ")[1:]:
        words = part.replace(" of", "").split()
        size = "small" if words[0] == "small" else "large"
        colour, shape, *then = words[size == "small" :]
        spot = next((p for p in (place, (0.5, 0.18), (0.82, 0.82)) if p not in [(i.x, i.y) for i in items]), place)
        items.append(Item(shape, colour, size, *spot))
        place = PLACES[then[0]] if then else place
    return Scene(tuple(items))


class Painter:
    """A model that draws what it is told, or something else."""

    def __init__(self, change=lambda text: text):
        self.vocabulary = Vocabulary.from_captions(load_scenes(n=200).captions)
        self.change = change

    def prompts(self, texts):
        return self.vocabulary.encode(texts)

    def sample(self, tokens, sampling, seed):
        return torch.stack([render(staged(self.change(text))) for text in self.vocabulary.decode(tokens)])


def two_at_most(texts):
    return [text for text in texts if " and " not in text]


@pytest.fixture(autouse=True)
def only_easy_scenes(monkeypatch):
    """Scenes of one or two items, which `staged` can place without thinking."""
    easy = [s for s in load_scenes(n=300).scenes if len(s.items) < 3]
    hard = [s for s in load_scenes("test", 300).scenes if len(s.items) < 3]
    fresh = iter(easy * 10)
    monkeypatch.setattr("minidiff.app.evaluate.sample_scene", lambda generator: next(fresh))

    class Some:
        scenes = hard[:40]

    monkeypatch.setattr("minidiff.app.evaluate.load_scenes", lambda split, n: Some)


def test_a_painter_that_obeys_is_always_right():
    for marks in attributes(Painter(), 40).values():
        assert set(marks.values()) == {1.0}


def test_a_painter_with_one_colour_loses_colours_and_pairs_but_not_shapes():
    def red(text):
        return " ".join("red" if word in COLOURS else word for word in text.split())

    marks = attributes(Painter(red), 40)["seen"]
    assert marks["shape"] > 0.9 > 0.6 > marks["colour"] >= marks["pair"] and marks["all"] < 0.3


def test_a_painter_that_turns_relations_round_loses_relations_only():
    turned = {"left": "right", "right": "left", "above": "below", "below": "above"}
    marks = attributes(Painter(lambda text: " ".join(turned.get(w, w) for w in text.split())), 40)["held_out"]
    assert marks["relation"] == 0 and marks["pair"] == marks["size"] == marks["number"] == 1.0


def test_where_nothing_is_asked_there_is_no_share():
    blank = Painter(lambda text: "a red circle")  # never two items, so never a relation between two that are there
    assert attributes(blank, 10)["held_out"]["relation_given_items"] is None


def test_conditions_are_labels_or_captions_with_known_words():
    net = UNet(UNetConfig(width=16))
    labels = Model(Denoiser(net, Cosine()), tuple("abc"), (1, 8, 8))
    assert eval_conditions(labels, "digits", 5).tolist() == [0, 1, 2, 0, 1]
    emoji = load("emoji", "test")
    vocabulary = Vocabulary.from_captions(load("emoji").captions)
    model = Model(Denoiser(net, Cosine()), (), (3, 32, 32), None, vocabulary)
    known = known_captions(model, emoji)
    assert 20 < len(known) < len(emoji) and set(known) < set(emoji.captions)
    n = len(known)
    assert torch.equal(eval_conditions(model, "emoji", n + 1), model.prompts([*known, known[0]]))  # held-out ones
    assert not torch.equal(model.prompts(known), model.prompts(load("emoji").captions[:n]))


def test_bits_of_a_denoiser_that_says_black_are_worse_than_bits_of_one_that_knows():
    test = load("digits", "test")
    some = torch.arange(32) * (len(test) // 32)

    class Says(torch.nn.Module):
        schedule = Cosine()

        def __init__(self, x0):
            super().__init__()
            self.x0, self.weight = x0, torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, cond):
            return self.x0.expand_as(x)

    black, oracle = (
        held_out_bits(Model(Says(x0), (), (1, 8, 8)), test) for x0 in (torch.tensor(-1.0), test.tensor(some))
    )
    assert 0 < oracle < 3.5 < 10 < black  # not 0: the last of 50 steps still allows for noise


def test_captions_of_scenes_are_read_back_by_the_painter():
    for scene in load_scenes(n=60).scenes:
        if len(scene.items) < 3:
            assert caption(staged(caption(scene))) == caption(scene)
