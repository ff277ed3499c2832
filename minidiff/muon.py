"""How can each step of training count for more?

A gradient of a weight matrix is mostly a few strong directions; Muon (Jordan et al. 2024) steps equally far along
all of them. With the momentum M = U S V^T (a singular value decomposition) the step is U V^T:
    W <- W - lr * 0.2 sqrt(longer side) * U V^T,
and U V^T comes from five matrix polynomials instead of a decomposition. The factor makes a step as long as one of
AdamW, so that both share a learning rate (Liu et al. 2025, eq. 4). A convolution is a matrix (C_out, C_in k k).
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

MOMENTUM = 0.95


def orthogonalize(matrices: Tensor) -> Tensor:
    """U V^T for each of (N, rows, columns), roughly: singular values land in 0.7 to 1.2 (Newton-Schulz, 5 steps)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)  # singular values at most 1
    gram = x @ x.mT  # (N, rows, rows); each step multiplies x from the left, so the steps need only this small matrix
    one = torch.eye(gram.shape[1], dtype=x.dtype, device=x.device)
    product = one
    for _ in range(5):
        step = 3.4445 * one - 4.7750 * gram + 2.0315 * gram @ gram
        product, gram = step @ product, step @ gram @ step
    x = product @ x
    return x.mT if tall else x


def hidden_weights(module: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: linear and convolution kernels with at least 16 rows and 16 columns."""
    layers = (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d))
    return [m.weight for m in layers if min(len(m.weight), m.weight[0].numel()) >= 16]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized, for weights (rows, ...): the optimiser of hidden layers; the rest goes to AdamW."""

    def __init__(self, params: list[nn.Parameter], lr: float, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            alike = defaultdict(list)  # weights of one shape are orthogonalized in one batch
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for weights in alike.values():
                steps = orthogonalize(torch.stack([self._direction(p).flatten(1) for p in weights]))
                size = group["lr"] * 0.2 * max(steps.shape[1:]) ** 0.5
                for p, step in zip(weights, steps, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step.view(p.shape), alpha=size)

    def _direction(self, p: nn.Parameter) -> Tensor:
        """Nesterov's momentum: the average of gradients, looked at one step ahead."""
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
        return p.grad.lerp(state["momentum"], MOMENTUM)
