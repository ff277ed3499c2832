"""Muon, an optimiser that steps equally far along all directions of a weight matrix.

A gradient of a weight matrix is mostly a few strong directions; Muon (Jordan et al. 2024) steps equally far along
all of them. With the momentum M = U S V^T (a singular value decomposition) the step is U V^T:
    W <- W - lr * 0.2 sqrt(longer side) * U V^T,
and U V^T comes from five matrix polynomials instead of a decomposition. The factor makes a step as long as one of
AdamW, so that both share a learning rate (Liu et al. 2025, eq. 4). Weights are flattened from dimension 1: those of
Conv2d are (C_out, C_in k k), those of ConvTranspose2d (C_in, C_out k k).
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95


def orthogonalize(matrices: list[Tensor]) -> list[Tensor]:
    """Return U V^T for each matrix (rows, columns), roughly: singular values land in 0.7 to 1.2 (Newton-Schulz, 5
    steps; eq. 7.7)."""
    wide = [m.mT if m.shape[0] > m.shape[1] else m for m in matrices]
    wide = [m / (m.norm() + 1e-7) for m in wide]  # singular values at most 1
    alike = defaultdict(list)  # matrices with the same number of rows, whatever their columns, are one batch
    for i, m in enumerate(wide):
        alike[len(m)].append(i)
    result = list(matrices)
    for batch in alike.values():
        factors = newton_schulz(torch.stack([wide[i] @ wide[i].mT for i in batch]))
        for i, factor in zip(batch, factors, strict=True):
            x = factor @ wide[i]
            result[i] = x.mT if x.shape != matrices[i].shape else x
    return result


def newton_schulz(gram: Tensor) -> Tensor:
    """Return the matrices P (N, r, r) for which P X is roughly orthogonal, from X X^T (N, r, r).

    That is all the five steps need, since each multiplies X from the left.
    """
    one = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product = one
    for _ in range(5):
        step = 3.4445 * one - 4.7750 * gram + 2.0315 * gram @ gram
        product, gram = step @ product, step @ gram @ step
    return product


def hidden_weights(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights that Muon is for: linear and convolution kernels with at least 16 rows and 16 columns."""
    layers: Any = (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d))
    return [m.weight for m in layers if min(len(m.weight), m.weight[0].numel()) >= 16]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized, for weights (rows, ...): the optimiser of hidden layers; the rest goes to AdamW."""

    def __init__(self, params: list[nn.Parameter], lr: float, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]  # never given a closure
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            lr, gradients = group["lr"], [p.grad for p in weights]
            momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov: one step further
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            for p, step in zip(weights, orthogonalize([m.flatten(1) for m in ahead]), strict=True):
                p.sub_(step.reshape(p.shape), alpha=lr * 0.2 * max(step.shape) ** 0.5)
