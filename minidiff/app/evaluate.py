"""Scores of a model by every measure that fits it.

all        Frechet by two rulers, KID, sliced Wasserstein, precision and recall, nearest training picture, beside as
           many real held-out pictures
pixels     bits per dimension of held-out pictures (eq. 4.13); a bound on codes would say nothing of pictures
labels     how often a classifier reads the label that was asked for
scenes     how often colour, shape, size and relation are those of the prompt, with combinations of the training
           set and with held-out ones
"""

import math
from typing import Any

import torch
from torch import Tensor

from minidiff.app.generate import Model, Sampling, cycle_labels
from minidiff.app.metrics import check_enough, load_classifier, load_encoder, report
from minidiff.data import ImageSet, load, load_scenes
from minidiff.data.scene_parser import attribute_accuracy
from minidiff.data.scenes import caption, sample_scene
from minidiff.losses import bits_per_dim, vlb
from minidiff.nets.text import tokenize
from minidiff.samplers import times

BOUND_PICTURES, BOUND_STEPS = 32, 50
SCENE_PICTURES = 500  # at most, of each kind
SEED = 2  # of fresh scenes: 0 and 1 gave the training and test splits


def eval_conditions(model: Model, name: str, n: int) -> Tensor:
    """Return what n pictures of a data set are asked for by: every label in turn, or captions of held-out pictures."""
    if model.vocabulary is None:
        return cycle_labels(n, len(model.classes))
    captions = known_captions(model, load_for(model, name, "test"))
    return model.prompts([captions[k % len(captions)] for k in range(n)])


def load_for(model: Model, name: str, part: str) -> ImageSet:
    """Return the training or test pictures of a data set in the size that the model was trained on."""
    channels, *size = model.size
    return load(name, part, size, channels)


def known_captions(model: Model, images: ImageSet) -> list[str]:
    """Return the captions that hold no word unknown to the model; where a set has none such, those it learned from."""
    if model.vocabulary is None:
        raise ValueError("expected a model with words, got one with labels")
    known = set(model.vocabulary.words)
    fits = [
        text
        for text in images.captions
        if len(tokenize(text)) <= model.vocabulary.length and known >= set(tokenize(text))
    ]
    return fits or list(load_for(model, images.name, "train").captions)


def evaluate(model: Model, name: str, n: int, sampling: Sampling | None = None, seed: int = 0) -> dict[str, Any]:
    """Return the scores of n pictures, at most as many as are held out, drawn from a model of the data set `name`, as
    `metrics.report` gives them, and more. Without `sampling` the pictures are drawn as the model recommends.

    ValueError if the data are not those that the model was trained on: what is held out now it may have seen then.
    """
    sampling = sampling or model.sampling
    train, test = load_for(model, name, "train"), load_for(model, name, "test")
    if model.fingerprint not in (None, train.fingerprint):
        raise ValueError(
            f"expected the pictures of {name} that the model was trained on (fingerprint {model.fingerprint}), got "
            f"others ({train.fingerprint}), among which held-out ones may be known to it"
        )
    check_enough(n, len(test))
    cond = eval_conditions(model, name, min(n, len(test)))
    x = model.sample(cond, sampling, seed)
    scores = report(x, None if model.vocabulary else cond, train, test, load_classifier(name), load_encoder(name))
    if model.latent is None and model.vocabulary is None:
        scores["bits_per_dim"] = held_out_bits(model, test)
    if model.vocabulary and train.scenes:
        scores["attributes"] = attributes(model, min(n, SCENE_PICTURES), sampling, seed)
    return scores


@torch.no_grad()
def held_out_bits(model: Model, test: ImageSet) -> float:
    """Return the variational bound on a few held-out pictures in bits per dimension (eqs 4.10, 4.13)."""
    n = min(BOUND_PICTURES, len(test))
    some = torch.arange(n) * (len(test) // n)
    x, y = test[some]
    device = next(model.denoiser.parameters()).device
    x, y = x.to(device), y.to(device)
    generator = torch.Generator().manual_seed(0)
    nats = vlb(
        lambda x_t, t: model.denoiser(x_t, t, y), x, times(BOUND_STEPS), model.denoiser.schedule, generator, bins=256
    )
    return bits_per_dim(nats, x[0].numel()).mean().item()


def attributes(
    model: Model, n: int, sampling: Sampling | None = None, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Return the share of each attribute that n pictures have as asked (`scene_parser.attribute_accuracy`).

    "seen" is for fresh scenes of training combinations, "held_out" for scenes with a combination that training never
    showed. None, JSON's null, where nothing was asked.
    """
    generator = torch.Generator().manual_seed(SEED)
    requested = {"seen": [sample_scene(generator) for _ in range(n)], "held_out": load_scenes("test", n).scenes}
    shares = {
        kind: attribute_accuracy(scenes, model.sample(model.prompts([caption(s) for s in scenes]), sampling, seed))
        for kind, scenes in requested.items()
    }
    return {kind: {k: None if math.isnan(v) else v for k, v in found.items()} for kind, found in shares.items()}
