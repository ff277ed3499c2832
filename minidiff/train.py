"""How does a network learn to denoise?

    repeat: images x0; for each a time t and noise eps; x_t = alpha x0 + sigma eps; a step down |x0_hat - x0|^2 w(t)
(Ho et al. 2020, Alg. 1; eq. 7.1), or down another objective: an autoencoder learns by the same loop. `train` is a
generator: what is printed, drawn or saved is up to the loop that runs it. Step k draws the same images, times and
noise whenever it runs, for all its random numbers come from (seed, k): a run that stopped and went on equals one
that never stopped.
"""

import contextlib
import copy
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minidiff.latent import Codes
from minidiff.muon import Muon, hidden_weights
from minidiff.objectives import denoising

FOG = 60.0  # shift of the times at the beginning of a head start: half of them are above 0.98


@dataclass(frozen=True)
class TrainConfig:
    """The recipe. Without cooldown and head start nothing in it depends on the length of a run: any can go on."""

    batch_size: int = 64
    lr: float = 3e-3
    warmup: int = 100  # steps until the learning rate is reached
    cooldown: float = 0.0  # last share of the budget, over which the learning rate falls to zero
    head_start: float = 0.0  # first share of the budget, in which times lean to noise: the layout is learned first
    clip: float = 1.0  # largest norm of the gradient
    ema_gamma: float = 6.94  # the average of the weights reaches back over about a tenth of the run so far
    label_dropout: float = 0.1  # share of labels replaced by the null label, for guidance
    weighting: str = "v"
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """One finished step: number, mean weighted loss of the batch, training seconds so far, share of the budget used."""

    step: int
    loss: float
    lr: float
    seconds: float
    images_per_second: float
    fraction: float


class Ema:
    """An average of a module's weights whose memory grows with the run (Karras et al. 2024, eq. 127; eq. 7.3).

    ema <- beta ema + (1 - beta) weights with beta = (1 - 1 / step)^(gamma + 1): at step 1 it is the weights themselves.
    """

    def __init__(self, module: nn.Module, gamma: float):
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.gamma = gamma

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Takes in the weights after step 1, 2, ...; buffers are copied."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - beta)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)


class Training:
    """What a run must remember to go on: the weights, their average, the optimisers, the step, the seconds spent."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
        objective: Callable = denoising,
    ):
        self.config, self.objective = config, objective
        self.model = model.to(memory_format=torch.channels_last)
        self.ema = Ema(model, config.ema_gamma)
        hidden = hidden_weights(model)
        rest = [p for p in model.parameters() if not any(p is weight for weight in hidden)]
        self.optimizers = [torch.optim.AdamW(rest, config.lr, (0.9, 0.99), fused=True)]
        self.optimizers += [Muon(hidden, config.lr)] if hidden else []  # a very narrow network has none
        self.autocast_dtype = autocast_dtype(self.device, config.precision)
        self.step, self.seconds = 0, 0.0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the run under flat names, for a checkpoint."""
        moments = {
            f"optimizer.{type(optimizer).__name__}.{i}.{name}": tensor
            for optimizer in self.optimizers
            for i, state in optimizer.state_dict()["state"].items()
            for name, tensor in state.items()
        }
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        average = {f"ema.{name}": tensor for name, tensor in self.ema.module.state_dict().items()}
        return weights | average | moments

    def restore(self, tensors: dict[str, Tensor], step: int, seconds: float) -> None:
        """Goes back to the state that `tensors` gave after that step."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.ema.module.load_state_dict(part("ema."))
        for optimizer in self.optimizers:
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in part(f"optimizer.{type(optimizer).__name__}.").items():
                i, key = name.split(".")
                if key != "step":  # in the weight's memory layout: fused optimisers walk both element by element
                    tensor = torch.empty_like(weights[int(i)]).copy_(tensor)
                moments.setdefault(int(i), {})[key] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self.step, self.seconds = step, seconds


def train(training: Training, data, steps: int | None = None, seconds: float | None = None) -> Iterator[Progress]:
    """Trains until `steps` steps or `seconds` seconds in all (earlier ones of the run count), whichever comes first.

    data[index] with index (B,) int64 gives (x0,) or (x0, cond), as a TensorDataset does. Time spent by the caller
    between steps is not counted. ValueError on data outside [-1, 1] (images) and on a non-finite loss.
    """
    if steps is None and seconds is None:
        raise ValueError("expected a budget, steps or seconds (or both), got neither")

    def fraction() -> float:
        return max(training.step / steps if steps else 0.0, training.seconds / seconds if seconds else 0.0)

    if not isinstance(data, Codes):
        check_range(data[torch.arange(min(64, len(data)))][0])
    while fraction() < 1:
        with uninterrupted():
            began = time.perf_counter()
            loss, lr = train_step(training, data, fraction())
            took = time.perf_counter() - began
            training.step, training.seconds = training.step + 1, training.seconds + took
        yield Progress(
            training.step, loss, lr, training.seconds, training.config.batch_size / took, min(1.0, fraction())
        )


def train_step(training: Training, data, fraction: float = 0.0) -> tuple[float, float]:
    """One step down the objective (eq. 7.1), a fraction of the budget being spent: (loss, learning rate). The weights
    stay if the loss is not finite."""
    config, model = training.config, training.model
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + training.step)
    batch = data[batch_index(training.step, len(data), config.batch_size, config.seed)]
    with torch.autocast(training.device.type, training.autocast_dtype, enabled=training.autocast_dtype is not None):
        shift = FOG ** max(0.0, 1 - fraction / config.head_start) if config.head_start else 1.0
        loss = training.objective(model, batch, config, generator, shift)
    lr = config.lr * min(1.0, (training.step + 1) / config.warmup)
    if config.cooldown:
        lr *= min(1.0, (1 - fraction) / config.cooldown)
    if not torch.isfinite(loss):
        raise ValueError(
            f"the loss is {loss.item()} at step {training.step + 1} (learning rate {lr:.3g}), expected a finite "
            "number: try a smaller learning rate, --precision fp32, and look for nan in the data; "
            f"the weights are those of step {training.step}"
        )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    for optimizer in training.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
    training.ema.update(model, training.step + 1)
    return loss.item(), lr


def batch_index(step: int, n: int, batch_size: int, seed: int) -> Tensor:
    """The images of step 0, 1, ...: (batch_size,) int64. Each epoch is a new permutation of all n, cut into batches."""

    def permutation(epoch: int) -> Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))

    first, last = step * batch_size, (step + 1) * batch_size
    epochs = range(first // n, (last - 1) // n + 1)
    images = torch.cat([permutation(epoch) for epoch in epochs])
    return images[first - epochs[0] * n : last - epochs[0] * n]


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """bfloat16 or None for float32. "auto" takes bfloat16 where hardware multiplies it: CPUs with AMX or AVX-512
    BF16, GPUs since Ampere."""
    fast = {
        "cpu": lambda: torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported(),
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
    }
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"expected a precision among auto, fp32, bf16, got {precision!r}")
    if precision == "auto":
        return torch.bfloat16 if fast.get(device.type, lambda: False)() else None
    return torch.bfloat16 if precision == "bf16" else None


def check_range(x0: Tensor) -> None:
    """ValueError for images (B, C, H, W) that are not float in [-1, 1], the mistake that trains without a complaint."""
    if not x0.is_floating_point():
        raise ValueError(f"expected floating-point data, got {x0.dtype}")
    if x0.ndim == 4 and x0.abs().max() > 1 + 1e-3:
        raise ValueError(f"expected images in [-1, 1], got values from {x0.min():.4g} to {x0.max():.4g}")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block has ended, so that a step is taken whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def bar(progress: Iterable[Progress]) -> Iterator[Progress]:
    """Passes training progress on and shows it: a bar in the terminal or the notebook, with loss and images/s."""
    from tqdm.auto import tqdm  # importing the package stays as quick as importing torch

    with tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as shown:
        smooth = None
        for p in progress:
            smooth = p.loss if smooth is None else 0.98 * smooth + 0.02 * p.loss
            shown.set_postfix_str(
                f"step {p.step}, loss {smooth:.3f}, {p.images_per_second:.0f} images/s", refresh=False
            )
            shown.update(100 * p.fraction - shown.n)
            yield p
