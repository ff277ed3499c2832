"""A small residual encoder of pictures, whose features the metrics compare, and the classifier that is one layer more.

The vector before the last layer of the classifier describes a picture:

    x (B, C, H, W) -> convolutions, halved to 4x4 or less -> features (B, D) -> logits (B, K)

Normalisation is over one whole picture, so that a picture's features never depend on its neighbours in the batch or
on a running statistic.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .checks import MAX_CHANNELS, MAX_CLASSES, check_int


@dataclass(frozen=True)
class EncoderConfig:
    """Square pictures of `channels` and `size`, `width` of the first stage, D = `features`."""

    channels: int = 1
    size: int = 32
    width: int = 16
    features: int = 64

    def __post_init__(self):
        check_int("channels", self.channels, 1, MAX_CHANNELS)
        check_int("size", self.size, 8, MAX_CHANNELS)
        check_int("width", self.width, 1, MAX_CHANNELS // 4)  # the last stages have four widths
        check_int("features", self.features, 1, MAX_CHANNELS)


@dataclass(frozen=True)
class ClassifierConfig(EncoderConfig):
    """An encoder, and K = `num_classes`."""

    num_classes: int = 10

    def __post_init__(self):
        super().__post_init__()
        check_int("num_classes", self.num_classes, 1, MAX_CLASSES)


class EncoderBlock(nn.Module):
    """x + two normalised 3x3 convolutions of x; the second starts at zero, and so the block as x."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(h)))


class Encoder(nn.Module):
    """Pictures (B, C, H, W) in [-1, 1] to features (B, D)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        layers, width, size, wider = [], config.channels, config.size, config.width
        while size > 4:
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), EncoderBlock(wider)]
            width, size, wider = wider, (size + 1) // 2, min(2 * wider, 4 * config.width)
        self.body = nn.Sequential(*layers, nn.GroupNorm(1, width), nn.ReLU())
        self.embed = nn.Linear(width * size**2, config.features)

    def features(self, x: Tensor) -> Tensor:
        """Return a vector (B, D) for each picture (B, C, H, W) in [-1, 1]."""
        c = self.config
        if x.ndim != 4 or x.shape[1:] != (c.channels, c.size, c.size):
            raise ValueError(f"expected pictures (B, {c.channels}, {c.size}, {c.size}), got {tuple(x.shape)}")
        h = self.body(x)  # (B, 4 width, 4, 4)
        return self.embed(h.flatten(1))  # (B, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


class Classifier(Encoder):
    """(B, C, H, W) in [-1, 1] -> logits (B, K); `features` gives the (B, D) before the last layer."""

    def __init__(self, config: ClassifierConfig):
        super().__init__(config)
        self.head = nn.Linear(config.features, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.features(x)))  # (B, K)
