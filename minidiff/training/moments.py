"""What optimisers remember of earlier gradients, as tensors with flat names for a checkpoint.

The moment `exp_avg` of the third weight of an AdamW is `optimizer.AdamW.2.exp_avg`.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

REMEMBERED = {"AdamW": ("step", "exp_avg", "exp_avg_sq"), "Muon": ("momentum",)}  # of each weight


def tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Return the moments of all optimisers by name."""
    return {
        f"optimizer.{type(optimizer).__name__}.{i}.{name}": tensor
        for optimizer in optimizers
        for i, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load(optimizers: Sequence[Optimizer], found: dict[str, Tensor], begun: bool) -> None:
    """Give optimisers the moments that `tensors` gave, their names without "optimizer.".

    ValueError if they are those of other optimisers or weights, or none although the run has begun.
    """
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in found.items():
            owner, _, rest = name.partition(".")
            number, _, key = rest.partition(".")
            if owner != kind:
                continue
            i = int(number) if number.isdigit() else len(weights)
            if i >= len(weights) or (tensor.ndim and tensor.shape != weights[i].shape):
                raise ValueError(f"expected moments of {len(weights)} weights, got {name} {tuple(tensor.shape)}")
            if tensor.ndim:  # in the weight's memory layout: fused optimisers walk both element by element
                tensor = torch.empty_like(weights[i]).copy_(tensor)
            moments[i][key] = tensor
        if {frozenset(state) for state in moments.values()} != ({frozenset(REMEMBERED[kind])} if begun else set()):
            raise ValueError(f"expected the moments {', '.join(REMEMBERED[kind])} of {kind}, got others")
        optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(moments)})
