"""An exponential moving average of a network's weights, over a fixed share of the steps so far.

    ema <- beta ema + (1 - beta) weights,   beta = (1 - 1 / step)^(gamma + 1)    (Karras et al. 2024, eq. 127; eq. 7.3)

At step 1 it is the weights themselves; gamma = 6.94 averages over about the last tenth of the steps so far.
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """A frozen copy of a module, in eval mode, that follows its weights."""

    def __init__(self, module: M, gamma: float):
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.gamma = gamma

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the average after optimiser step `step`, counted from 1; buffers are copied (eq. 7.3)."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - beta)
        for average, current in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(current)
