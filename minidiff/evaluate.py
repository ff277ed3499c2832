"""How good is a model, by every measure that fits it?

all        Frechet, KID, precision and recall, nearest training picture, beside as many real held-out pictures
pixels     bits per dimension of held-out pictures (eq. 4.13); a bound on codes would say nothing of pictures
labels     how often a classifier reads the label that was asked for
scenes     how often colour, shape, size and relation are those of the prompt, with combinations of the training
           set and with held-out ones
"""

import torch
from torch import Tensor

from minidiff.data import Images, load, load_scenes
from minidiff.data.reading import score
from minidiff.data.scenes import caption, sample_scene
from minidiff.generate import Model, every_label
from minidiff.losses import bits_per_dim, vlb
from minidiff.metrics import load_classifier, report
from minidiff.nets.text import split
from minidiff.samplers import times

BOUND_PICTURES, BOUND_STEPS = 32, 50
SEED = 2  # of fresh scenes: 0 and 1 gave the training and test splits


def wishes(model: Model, name: str, n: int) -> Tensor:
    """What n pictures of a data set are asked for by: every label in turn, or the captions of held-out pictures."""
    if model.vocabulary is None:
        return every_label(n, len(model.classes))
    captions = known_captions(model, load(name, "test"))
    return model.prompts([captions[k % len(captions)] for k in range(n)])


def known_captions(model: Model, images: Images) -> list[str]:
    """The captions that hold no word unknown to the model; where a set has none such, those it was trained on."""
    known = set(model.vocabulary.words)
    fits = [
        text for text in images.captions if len(split(text)) <= model.vocabulary.length and known >= set(split(text))
    ]
    return fits or list(load(images.name).captions)


def evaluate(model: Model, name: str, n: int, steps: int, guidance: float, seed: int = 0) -> dict:
    """Scores n pictures drawn from a model of the data set `name`, as `metrics.report` gives them, and more."""
    train, test = load(name), load(name, "test")
    cond = wishes(model, name, n)
    x = model.draw(cond, steps, guidance, seed)
    scores = report(x, None if model.vocabulary else cond, train, test, load_classifier(name))
    if model.latent is None and model.vocabulary is None:
        scores["bits_per_dim"] = held_out_bits(model, test)
    if model.vocabulary and train.scenes:
        scores["attributes"] = attributes(model, min(n, 500), steps, guidance, seed)
    return scores


@torch.no_grad()
def held_out_bits(model: Model, test: Images) -> float:
    """The variational bound on a few held-out pictures in bits per dimension (eqs 4.10, 4.13)."""
    some = torch.arange(BOUND_PICTURES) * (len(test) // BOUND_PICTURES)
    x, y = test[some]
    device = next(model.denoiser.parameters()).device
    x, y = x.to(device), y.to(device)
    generator = torch.Generator().manual_seed(0)
    nats = vlb(
        lambda x_t, t: model.denoiser(x_t, t, y), x, times(BOUND_STEPS), model.denoiser.schedule, generator, bins=256
    )
    return bits_per_dim(nats, x[0].numel()).mean().item()


def attributes(model: Model, n: int, steps: int, guidance: float, seed: int = 0) -> dict[str, dict[str, float]]:
    """The share of each attribute that n pictures have as asked (`data.reading.score`): "seen" for fresh scenes of
    training combinations, "held_out" for scenes with a combination that training never showed."""
    generator = torch.Generator().manual_seed(SEED)
    wanted = {"seen": [sample_scene(generator) for _ in range(n)], "held_out": load_scenes("test", n).scenes}
    return {
        kind: score(scenes, model.draw(model.prompts([caption(s) for s in scenes]), steps, guidance, seed))
        for kind, scenes in wanted.items()
    }
