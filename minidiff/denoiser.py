"""How does a network become a denoiser?

A denoiser is a function (x_t, t) -> E[x0 | x_t]: all that samplers, guidance and likelihoods know.
A network gives some target y = a x0 + b eps; one 2x2 solve turns it into x0 (eq. 5.10).
"""

import torch
from torch import Tensor, nn

from minidiff.process import row, solve
from minidiff.schedule import Schedule


class Denoiser(nn.Module):
    """A network net(x_t, t, cond) in diffusion's units: (x_t (B, ...), t () or (B,), cond) -> x0 (B, ...)."""

    def __init__(self, net: nn.Module, schedule: Schedule, prediction: str = "v"):
        super().__init__()
        row(prediction, 0.5, schedule)  # refuses an unknown prediction before any training
        self.net, self.schedule, self.prediction = net, schedule, prediction

    def forward(self, x_t: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Tensor:
        """E[x0 | x_t] as the network sees it, of the shape and dtype of x_t (eq. 5.10)."""
        times = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))  # (B,)
        y = self.net(x_t, times, cond).to(x_t.dtype)  # autocast may have left bfloat16
        return solve(self.prediction, y, x_t, t, self.schedule)[0]
