"""What `evaluate` compares with what: which pictures, which labels, which sampling, which scenes."""

from types import SimpleNamespace

import pytest
import torch

from minidiff.app import evaluate
from minidiff.app.generate import Sampling
from minidiff.data import load
from minidiff.data.scenes import HELD_OUT, load_scenes
from minidiff.nets.classifier import Encoder
from minidiff.nets.text import Vocabulary
from minidiff.schedule import Cosine


class Model:
    """A model that remembers how it was asked for pictures, and draws grey ones."""

    sampling, latent, vocabulary = Sampling(steps=3), None, None

    fingerprint = None

    def __init__(self, name, text=False):
        images = load(name)
        self.classes, self.size, self.asked = images.classes, images.shape, []
        if text:
            self.vocabulary = Vocabulary.from_captions(images.captions)
        self.denoiser = self
        self.schedule = Cosine()
        self.labels = []

    def prompts(self, texts):
        return self.vocabulary.encode(texts)

    def sample(self, cond, sampling, seed):
        self.asked.append((cond, sampling, seed))
        return torch.zeros(len(cond), *self.size)

    def parameters(self):
        return iter([torch.zeros(1)])

    def __call__(self, x_t, t, y=None):
        self.labels.append(y)
        return torch.zeros_like(x_t)


@pytest.fixture
def compared(monkeypatch):
    """What the report is given."""
    given = SimpleNamespace()

    def report(x, y, train, test, classifier, encoder):
        given.__dict__.update(x=x, y=y, train=train, test=test, classifier=classifier, encoder=encoder)
        return {"generated": {}}

    monkeypatch.setattr(evaluate, "report", report)
    return given


@pytest.mark.parametrize("sampling", [None, Sampling("heun", 7, 0.5)])
def test_samples_are_drawn_as_asked_and_compared_with_both_splits(compared, sampling):
    model = Model("digits")
    evaluate.evaluate(model, "digits", 30, sampling, seed=4)
    ((cond, used, seed),) = model.asked
    assert (used, seed) == (sampling or model.sampling, 4)
    assert cond.tolist() == [*range(10)] * 3 == compared.y.tolist()
    assert (len(compared.train), len(compared.test)) == (len(load("digits")), len(load("digits", "test")))
    assert torch.equal(compared.test.tensor(), load("digits", "test").tensor())
    assert compared.classifier is not None and len(compared.x) == 30
    assert type(compared.encoder) is Encoder  # not the classifier, which is one too


def test_a_model_of_words_is_not_asked_for_labels(compared, monkeypatch):
    monkeypatch.setattr(evaluate, "attributes", lambda *_: {})
    scores = evaluate.evaluate(Model("emoji", text=True), "emoji", 20, seed=1)
    assert compared.y is None and "bits_per_dim" not in scores


def test_bits_are_of_pictures_spread_over_the_held_out_ones_with_their_labels():
    model, test = Model("digits"), load("digits", "test")
    bits = evaluate.held_out_bits(model, test)
    spread = torch.arange(32) * (len(test) // 32)
    assert model.labels and all(torch.equal(y, test.y[spread]) for y in model.labels)
    assert bits > 0


def test_scenes_are_fresh_or_hold_what_training_never_showed(monkeypatch):
    judged = []
    monkeypatch.setattr(evaluate, "attribute_accuracy", lambda scenes, x: judged.append(scenes) or {})
    model = Model("scenes", text=True)
    evaluate.attributes(model, 40, Sampling("ddpm", 9), seed=3)
    assert [(used, seed) for _, used, seed in model.asked] == [(Sampling("ddpm", 9), 3)] * 2
    fresh, held_out = judged
    assert len(fresh) == len(held_out) == 40
    for split in "train", "test":
        assert set(fresh).isdisjoint(load_scenes(split, 200).scenes)
    for scenes, shown in (fresh, False), (held_out, True):
        assert all(any((i.colour, i.shape) in HELD_OUT for i in scene.items) == shown for scene in scenes)


def test_no_caption_holds_a_word_that_the_model_does_not_know():
    model, images = Model("emoji", text=True), load("emoji", "test")
    known = evaluate.known_captions(model, images)
    assert 0 < len(known) < len(images)
    model.prompts(known)  # else a ValueError
