"""The training loop.

    repeat: images x0; for each a time t and noise eps; x_t = alpha x0 + sigma eps; a step down |x0_hat - x0|^2 w(t)
(Ho et al. 2020, Alg. 1; eq. 7.1), or down another objective: an autoencoder learns by the same loop. `train` is a
generator: what is printed, drawn or saved is up to the loop that runs it. Step k draws the same images, times and
noise whenever it runs, for all its random numbers come from (seed, k): a run that stopped and went on equals one
that never stopped.
"""

import itertools
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic

import torch
from torch import Tensor

from minidiff.latent import LatentDataset
from minidiff.losses import WEIGHTINGS
from minidiff.training import moments
from minidiff.training.device import PRECISIONS, autocast_dtype
from minidiff.training.ema import Ema, M
from minidiff.training.muon import Muon, hidden_weights
from minidiff.training.objectives import denoising
from minidiff.training.progress import Progress
from minidiff.training.signals import SignalGuard

INITIAL_TIME_SHIFT = 60.0  # at the beginning of a shift warm-up: half of the times are above 0.98

INT_RANGES = {
    "batch_size": (1, 2**20),
    "warmup_steps": (0, 10**9),
    "seed": (-(2**40), 2**40),
}  # torch reads 32 bits of it
FLOAT_RANGES = {
    "lr": (1e-12, 10),
    "cooldown": (0, 1),
    "shift_warmup": (0, 1),
    "max_grad_norm": (1e-12, math.inf),
    "ema_gamma": (0, 1e6),
    "label_dropout": (0, 1),
}


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of training, kept in the checkpoint. With cooldown = shift_warmup = 0 none depends on the budget,
    so that any run can be extended."""

    batch_size: int = 64
    lr: float = 3e-3
    warmup_steps: int = 100  # until the learning rate is reached
    cooldown: float = 0.0  # last share of the budget, over which the learning rate falls to zero
    shift_warmup: float = 0.0  # first share of the budget, over which times are shifted to noise, ever less
    max_grad_norm: float = 1.0  # longer gradients are shortened to it
    ema_gamma: float = 6.94  # the average of the weights reaches back over about a tenth of the run so far
    label_dropout: float = 0.1  # share of conditions replaced by the null condition, for guidance
    weighting: str = "v"
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self):
        for kinds, what, limits in ((int,), "a whole number", INT_RANGES), ((int, float), "a number", FLOAT_RANGES):
            for name, (low, high) in limits.items():
                value = getattr(self, name)
                if type(value) not in kinds or not low <= value <= high:
                    raise ValueError(f"expected {name} as {what} from {low} to {high}, got {value!r:.40}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"expected a precision among {', '.join(PRECISIONS)}, got {self.precision!r:.40}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"expected a weighting among {', '.join(WEIGHTINGS)}, got {self.weighting!r:.40}")


class TrainState(Generic[M]):
    """What a run must remember to go on: the weights, their average, the optimisers, the step, the seconds spent.

    It takes the model over: sets it to train mode and to channels-last memory, and changes its weights in place.
    ValueError if none of them requires a gradient, as in a denoiser loaded for sampling.
    """

    def __init__(
        self,
        model: M,
        config: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
        objective: Callable = denoising,
    ):
        self.config, self.objective = config, objective
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "expected weights that require gradients, got none: loaded models are frozen, `model.requires_grad_()` "
                "makes them trainable"
            )
        model.train()
        self.model: M = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(model, config.ema_gamma)
        hidden = hidden_weights(model)
        rest = [p for p in model.parameters() if not any(p is weight for weight in hidden)]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, config.lr, (0.9, 0.99), fused=True)]
        self.optimizers += [Muon(hidden, config.lr)] if hidden else []  # a very narrow network has none
        self.autocast_dtype = autocast_dtype(self.device, config.precision)
        self.step, self.seconds = 0, 0.0
        self.whole = True  # False while the weights are between two steps

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors of the run under flat names, for a checkpoint."""
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        average = {f"ema.{name}": tensor for name, tensor in self.ema.module.state_dict().items()}
        return weights | average | moments.tensors(self.optimizers)

    def load_state_dict(self, tensors: dict[str, Tensor], step: int, seconds: float) -> None:
        """Go back to the state that `state_dict` gave after that step. ValueError for tensors of another run."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        for prefix, module in ("model.", self.model), ("ema.", self.ema.module):
            shapes = {name: tuple(t.shape) for name, t in module.state_dict().items()}
            found = {name: tuple(t.shape) for name, t in part(prefix).items()}
            if found != shapes:
                odd = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))[0]
                raise ValueError(f"expected {prefix}{odd} of shape {shapes.get(odd)}, got {found.get(odd)}")
            module.load_state_dict(part(prefix))
        moments.load(self.optimizers, part("optimizer."), begun=step > 0)
        self.step, self.seconds, self.whole = step, seconds, True


def train(
    training: TrainState, data, steps: int | None = None, seconds: float | None = None
) -> Generator[Progress, None, None]:
    """Train until `steps` steps or `seconds` seconds in all (earlier ones of the run count), whichever comes first.

    data[index] with index (B,) int64 gives (x0,) or (x0, cond), as a TensorDataset does. Time spent by the caller
    between steps is not counted. ValueError on data outside [-1, 1] (images) and on a loss or a gradient that is not
    finite: then the weights are those of the last step.
    """
    if steps is None and seconds is None:
        raise ValueError("expected a budget, steps or seconds (or both), got neither")
    if any(budget is not None and not budget > 0 for budget in (steps, seconds)):
        raise ValueError(f"expected a budget above 0, got {steps} steps and {seconds} seconds")
    check_data(data)

    def fraction() -> float:
        return max(training.step / steps if steps else 0.0, training.seconds / seconds if seconds else 0.0)

    with SignalGuard() as guard, closing(batches(data, training.config, training.step)) as drawn:
        while fraction() < 1 and not guard.stopped:
            with guard.deferred():  # a step is taken whole or not at all
                began = time.perf_counter()
                loss, lr = train_step(training, next(drawn), fraction())
                took = time.perf_counter() - began
                training.step, training.seconds, training.whole = training.step + 1, training.seconds + took, True
            images_per_second = training.config.batch_size / took
            yield Progress(training.step, loss, lr, training.seconds, images_per_second, min(1.0, fraction()))


def train_step(training: TrainState, batch: tuple[Tensor, ...], fraction: float = 0.0) -> tuple[float, float]:
    """Take one step down the objective (eq. 7.1), a fraction of the budget being spent: (loss, learning rate)."""
    config, model = training.config, training.model
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + training.step)
    shift = INITIAL_TIME_SHIFT ** max(0.0, 1 - fraction / config.shift_warmup) if config.shift_warmup else 1.0
    lr = config.lr * min(1.0, (training.step + 1) / max(config.warmup_steps, 1))
    lr *= min(1.0, (1 - fraction) / config.cooldown) if config.cooldown else 1.0

    with torch.autocast(training.device.type, training.autocast_dtype, enabled=training.autocast_dtype is not None):
        loss = training.objective(model, batch, config, generator, shift)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    if not torch.isfinite(loss + norm):
        model.zero_grad()
        raise ValueError(
            f"the loss is {loss.item():.4g} and the norm of its gradient {norm.item():.4g} at step {training.step + 1} "
            f"(learning rate {lr:.3g}), expected finite numbers: try a smaller learning rate, --precision fp32, "
            f"and look for nan in the data; the weights are those of step {training.step}"
        )
    training.whole = False  # until the step is counted
    for optimizer in training.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
    training.ema.update(model, training.step + 1)
    return loss.item(), lr


def batches(data, config: TrainConfig, step: int) -> Generator[tuple[Tensor, ...], None, None]:
    """Yield the batches of step, step + 1, ... A data set that reads ahead does so by its own `batches(indices)`."""
    indices = (batch_indices(k, len(data), config.batch_size, config.seed) for k in itertools.count(step))
    drawn = data.batches(indices) if hasattr(data, "batches") else (data[index] for index in indices)
    with closing(drawn):
        for batch in drawn:
            if not isinstance(data, LatentDataset):
                check_range(batch[0])
            yield batch


def batch_indices(step: int, n: int, batch_size: int, seed: int) -> Tensor:
    """Return which images step 0, 1, ... draws: (batch_size,) int64. Each epoch is a new permutation of all n."""
    first, last = step * batch_size, (step + 1) * batch_size
    epochs = range(first // n, (last - 1) // n + 1)
    images = torch.cat([permutation(epoch, n, seed) for epoch in epochs])
    return images[first - epochs[0] * n : last - epochs[0] * n]


@lru_cache(maxsize=4)
def permutation(epoch: int, n: int, seed: int) -> Tensor:
    """Return the order in which an epoch shows n images: (n,) int64; kept, since many steps ask for it."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def check_data(data) -> None:
    """Raise a ValueError for an empty data set, and for images in [0, 1], a mistake that trains without a complaint."""
    if not len(data):
        raise ValueError("expected at least one picture to train on, got an empty data set")
    if not isinstance(data, LatentDataset):
        x0 = data[torch.arange(min(256, len(data)))][0]
        check_range(x0)
        # the package's own data sets convert their bytes themselves: theirs may be light
        if x0.ndim == 4 and not hasattr(data, "fingerprint") and x0.min() >= 0 and x0.max() > x0.min():
            raise ValueError(
                f"expected images in [-1, 1], got values from {x0.min():.4g} to {x0.max():.4g}: if they are in [0, 1], "
                "make them 2 x - 1"
            )


def check_range(x0: Tensor) -> None:
    """Raise a ValueError for data that are not floating-point numbers, or images (B, C, H, W) that leave [-1, 1]."""
    if not x0.is_floating_point():
        raise ValueError(f"expected floating-point data, got {x0.dtype}: make bytes x / 127.5 - 1")
    if x0.ndim != 4:
        return  # points may lie anywhere
    low, high = x0.aminmax()
    if not max(-low, high) <= 1 + 1e-3:  # written so that nan fails too
        raise ValueError(
            f"expected images in [-1, 1], got values from {low:.4g} to {high:.4g}; "
            "codes of an autoencoder go into a LatentDataset"
        )
