"""Golden samples: a few numbers of what each shipped checkpoint draws, so that no wiring can change unnoticed.

The numbers hold on any CPU to 5e-3. A retrained checkpoint changes them.
"""

import pytest
import torch

from minidiff.app.generate import Sampling
from minidiff.app.models import load_trained
from minidiff.data import checksums, shipped

# what is asked for, how it is sampled; then the mean, the standard deviation and six pixels of the two pictures
GOLDEN = {
    "emoji": (
        [0, 4],
        ("dpmpp_2m", 3, 2.0, 1.0),
        [0.5893, 0.4715, 0.8728, 0.4915, -0.5415, 0.0215, 0.3594, 0.566],
    ),
    "emoji-latent-text": (
        ["grinning face", "red heart"],
        ("ddpm", 3, 3.0, 1.0),
        [0.3673, 0.764, 1.0, -0.657, -0.5557, 0.9732, -0.1285, -0.9115],
    ),
    "fashion": (
        [1, 8],
        ("heun", 2, 1.5, 2.0),
        [-0.5484, 0.6694, 0.5517, -0.9651, -0.9668, 0.2417, 0.8284, 0.3892],
    ),
    "fashion-latent": (
        [7, 0],
        ("ddim", 3, 2.0, 0.5),
        [-0.5365, 0.6813, -1.0, 0.4715, 0.3383, 0.5053, 0.2367, 0.7638],
    ),
    "scenes-latent-text": (
        ["a red circle left of a small blue square", "a green star"],
        ("ddpm", 3, 3.0, 1.5),
        [0.9059, 0.3412, 0.999, 0.9974, 1.0, -0.869, -0.612, 1.0],
    ),
}


def numbers(name: str) -> list[float]:
    """Return what a checkpoint's two pictures look like, in eight numbers."""
    asked, sampling, *_ = GOLDEN[name]
    model, _ = load_trained(shipped(f"{name}.safetensors"))
    cond = model.prompts(asked) if model.vocabulary else torch.tensor(asked)
    x = model.sample(cond, Sampling(*sampling), seed=5)
    assert x.shape == (2, *model.size) and x.dtype == torch.float32 and x.abs().max() <= 1
    c, h, w = model.size
    places = [(k % 2, k % c, h // 2 + h // 8 * (k - 3), w // 2 - w // 16 * (k - 2)) for k in range(6)]
    return [x.mean().item(), x.std().item(), *(x[place].item() for place in places)]


def test_each_shipped_denoiser_has_its_numbers():
    assert {f"{name}.safetensors" for name in GOLDEN} == {
        name for name in checksums() if name.endswith(".safetensors") and not name.startswith(("classifier", "encoder"))
    }


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_samples(name):
    torch.testing.assert_close(torch.tensor(numbers(name)), torch.tensor(GOLDEN[name][2]), atol=5e-3, rtol=0)
