"""Four tiny generative models of points in the plane, equally large: GAN, VAE, flow, diffusion (chapter 01).

Each has `sample(z, rng)`, which turns noise (N, 2) into points, and `learn(x, rng)`, which takes one step on a batch
(B, 2) and returns its loss; random numbers come from `rng`. `train_together` runs several side by side; `coverage`
counts what a cloud misses of the eight clusters of `toy.mixture`; `walk_out` undoes diffusion's sampling and so knows
its likelihood; `three_ways` walks one noisy point in and out, with fresh noise and without; `ring` has no
clusters.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.data import toy
from minidiff.denoiser import Denoiser
from minidiff.oracle import Mixture
from minidiff.process import Gaussian, add_noise, target, transition
from minidiff.samplers import ddim, ddpm, final, times
from minidiff.schedule import Cosine, Schedule


def mlp(inputs: int, width: int, outputs: int, hidden: int = 3) -> nn.Sequential:
    """Return a network of `hidden` layers with a smooth bend (SiLU) after each."""
    layers: list[nn.Module] = [nn.Linear(inputs, width), nn.SiLU()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(width, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def adam(part: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Optimizer:
    """Return the optimizer of all four."""
    return torch.optim.Adam(part.parameters(), lr=rate, betas=betas, fused=True)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """Take one step against the slope of the loss and return its value."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def standard(z: Tensor) -> Gaussian:
    """Return N(0, I) for points of the shape of z."""
    return Gaussian(torch.zeros_like(z), torch.ones_like(z))


class Model(nn.Module):
    """A generative model with its own optimizers, whose rates `train_together` lets fall."""

    optimizers: list[torch.optim.Optimizer]

    def sample(self, z: Tensor, rng: Generator | None = None) -> Tensor:
        raise NotImplementedError

    def learn(self, x: Tensor, rng: Generator | None = None) -> float:
        raise NotImplementedError


class GAN(Model):
    """Two networks that play (eq. 1.1), with the generator's loss that does not saturate (Goodfellow et al. 2014)."""

    def __init__(self, width: int = 90):
        super().__init__()
        self.generator, self.discriminator = mlp(2, width, 2), mlp(2, width, 1)
        parts = self.discriminator, self.generator
        self.optimizers = [adam(part, 1e-3, betas=(0.0, 0.9)) for part in parts]

    def sample(self, z: Tensor, rng: Generator | None = None) -> Tensor:
        return self.generator(z)

    def learn(self, x: Tensor, rng: Generator | None = None) -> float:
        fakes = self.generator(torch.randn(x.shape, generator=rng))
        real, fake = self.discriminator(x), self.discriminator(fakes.detach())  # logits
        loss = descend(self.optimizers[0], -(F.logsigmoid(real) + F.logsigmoid(-fake)).mean())
        descend(self.optimizers[1], -F.logsigmoid(self.discriminator(fakes)).mean())
        return loss


class VAE(Model):
    """An encoder and a decoder, each a Gaussian around a network's output (eq. 1.3, Kingma & Welling 2014)."""

    def __init__(self, width: int = 90, latent: int = 2):
        super().__init__()
        self.encoder, self.decoder = mlp(2, width, 2 * latent), mlp(latent, width, 2)
        self.log_std = nn.Parameter(torch.tensor(-1.0))  # of the decoder's noise
        self.optimizers = [adam(self, 4e-3)]

    def encode(self, x: Tensor) -> Gaussian:
        mean, log_std = self.encoder(x).chunk(2, 1)
        return Gaussian(mean, log_std.exp())

    def decode(self, z: Tensor) -> Gaussian:
        return Gaussian(self.decoder(z), self.log_std.exp())

    def elbo(self, x: Tensor, rng: Generator | None = None) -> Tensor:
        code = self.encode(x)
        z = code.sample(rng)
        return self.decode(z).log_prob(x) - code.kl(standard(z))  # (B,)

    def sample(self, z: Tensor, rng: Generator | None = None) -> Tensor:
        return self.decode(z).sample(rng)

    def learn(self, x: Tensor, rng: Generator | None = None) -> float:
        return descend(self.optimizers[0], -self.elbo(x, rng).mean())


class Coupling(nn.Module):
    """(a, b) -> (b exp(r(a)) + m(a), a): invertible, whatever the network is (Dinh et al. 2017)."""

    def __init__(self, width: int):
        super().__init__()
        self.net = mlp(1, width, 2, hidden=2)

    def coefficients(self, a: Tensor) -> tuple[Tensor, Tensor]:
        r, m = self.net(a).chunk(2, 1)
        return 2 * torch.tanh(r / 2), m  # a stretch by e^2 at most

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r, m = self.coefficients(a)
        return b * r.exp() + m, a, r[:, 0]  # swapped; the log-determinant

    def inverse(self, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        r, m = self.coefficients(a)
        return a, (b - m) / r.exp()


class RealNVP(Model):
    """A flow of coupling layers with its exact density (eq. 1.4, Dinh et al. 2017)."""

    def __init__(self, width: int = 62, layers: int = 8):
        super().__init__()
        self.steps = [Coupling(width) for _ in range(layers)]
        self.layers = nn.ModuleList(self.steps)  # so that their weights are found
        self.optimizers = [adam(self, 4e-3)]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (a, b), log_det = x.chunk(2, 1), torch.zeros(len(x))
        for step in self.steps:
            a, b, more = step(a, b)
            log_det = log_det + more
        return torch.cat([a, b], 1), log_det  # (B, 2), (B,)

    def log_prob(self, x: Tensor) -> Tensor:
        z, log_det = self.encode(x)
        return standard(z).log_prob(z) + log_det

    def sample(self, z: Tensor, rng: Generator | None = None) -> Tensor:
        a, b = z.chunk(2, 1)
        for step in reversed(self.steps):
            a, b = step.inverse(a, b)
        return torch.cat([a, b], 1)

    def learn(self, x: Tensor, rng: Generator | None = None) -> float:
        return descend(self.optimizers[0], -self.log_prob(x).mean())


class Diffusion(Model):
    """One network that guesses v at every time (eq. 1.5, Salimans & Ho 2022), sampled by `ddim`."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.net = mlp(4, width, 2)
        self.optimizers = [adam(self, 8e-3)]

    def forward(self, x: Tensor, t: Tensor, cond: None = None) -> Tensor:
        alpha, sigma = (c.to(x.dtype)[:, None] for c in Cosine()(t))
        return self.net(torch.cat([x, alpha, sigma], 1))

    def denoiser(self) -> Denoiser:
        return Denoiser(self, Cosine(), "v")

    def sample(self, z: Tensor, rng: Generator | None = None, n: int = 50) -> Tensor:
        return final(ddim(self.denoiser(), z, times(n), Cosine()))

    def learn(self, x: Tensor, rng: Generator | None = None) -> float:
        eps, t = torch.randn(x.shape, generator=rng), torch.rand(len(x), generator=rng)
        x_t, v = add_noise(x, eps, t, Cosine()), target("v", x, eps, t, Cosine())
        return descend(self.optimizers[0], (self(x_t, t) - v).square().mean())


def four(seed: int) -> dict[str, Model]:
    """Return the four models, with fresh weights and nearly equally many."""
    torch.manual_seed(seed)
    return {"GAN": GAN(), "VAE": VAE(), "flow": RealNVP(), "diffusion": Diffusion()}


def train_together(models: Mapping[str, Model], n: int, seed: int, make=toy.mixture) -> Iterator[list[float]]:
    """Train models on the same n batches of 256 points of `make`; yield the losses of each batch.

    Learning rates fall to zero along a cosine.
    """
    optimizers = [optimizer for model in models.values() for optimizer in model.optimizers]
    coolers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n) for optimizer in optimizers]
    batches, randomness = (torch.Generator().manual_seed(seed + k) for k in (0, 1))
    for _ in range(n):
        x = make(256, batches)
        yield [model.learn(x, randomness) for model in models.values()]
        for cooler in coolers:
            cooler.step()


@torch.no_grad()
def walk_out(guess: Callable[[Tensor, Tensor], Tensor], x: Tensor, n: int = 50) -> tuple[Tensor, Tensor]:
    """Carry data (N, 2) out to noise by n steps of the cosine schedule, and return log-determinants (N,) as well.

    No new noise comes in: `guess(x, t)` is v, and a step is a turn by an angle. This is sampling by `ddim` undone, up
    to the error of the steps, so that (1.4) gives the likelihood of a diffusion model (Song et al. 2021).
    """
    turn, log_det = torch.tensor(torch.pi / 2 / n), torch.zeros(len(x))
    for k in range(n):
        t = torch.tensor([k / n])

        def step(point: Tensor, t: Tensor = t) -> tuple[Tensor, Tensor]:
            ahead = turn.cos() * point + turn.sin() * guess(point[None], t)[0]
            return ahead, ahead  # one to differentiate, one to keep

        jacobian, x = torch.func.vmap(torch.func.jacrev(step, has_aux=True))(x)
        log_det = log_det + torch.linalg.slogdet(jacobian).logabsdet
    return x, log_det


def path_back(denoise: Callable, x: Tensor, ts: Tensor, schedule: Schedule) -> Tensor:
    """Return the path (S, N, 2) of data (N, 2) out to noise by `ddim`'s steps taken upwards, without new noise."""
    path = [x]
    for s, t in pairwise(ts):
        x0 = denoise(path[-1], s) if s > 0 else path[-1]
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
        eps = (path[-1] - alpha_s * x0) / sigma_s if s > 0 else torch.zeros_like(x)
        path.append((alpha_t * x0 + sigma_t * eps).to(x.dtype))
    return torch.stack(path)


def path_of_noise(x: Tensor, ts: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
    """Return the path (S, N, 2) of data (N, 2) out to noise, with fresh noise in each step."""
    path = [x]
    for s, t in pairwise(ts):
        alpha_ts, sigma_ts = (c.to(x.dtype) for c in transition(s, t, schedule))
        path.append(Gaussian(alpha_ts * path[-1], sigma_ts).sample(generator))
    return torch.stack(path)


def three_ways(
    start: Tensor, denoise: Callable, schedule: Schedule, begin: float = 0.8, many: int = 4000
) -> dict[str, Tensor]:
    """Return paths (S, N, 2) of one noisy point (2,) at time `begin`: in by `ddim`, in by `ddpm`, and out again.

    `ddim` carries it once; `ddpm` carries it `many` times, and as many walks with fresh noise begin where `ddim` ends.
    """
    crowd, ts = start.repeat(many, 1), times(100, start=begin)
    smooth = [state.x for state in ddim(denoise, start[None], times(200, start=begin), schedule)]
    by_ddim = torch.stack([start[None], *smooth])
    noisy = ddpm(denoise, crowd, ts, schedule, torch.Generator().manual_seed(5))
    out = by_ddim[-1].repeat(many, 1)
    return {
        "ddim": by_ddim,
        "ddpm": torch.stack([crowd, *(state.x for state in noisy)]),
        "fresh noise": path_of_noise(out, ts.flip(0), schedule, torch.Generator().manual_seed(7)),
    }


@torch.no_grad()
def draw(model: Model, z: Tensor) -> Tensor:
    """Return what a model makes of the noise z; a decoder's noise is the same each time."""
    return model.sample(z, torch.Generator().manual_seed(4))


def near(x: Tensor, within: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return whether each point (N, 2) is near a cluster of `toy.mixture`, within so many deviations, and which."""
    truth = Mixture(*toy.mixture_parameters())
    distance, cluster = (torch.cdist(x.to(truth.means), truth.means) / truth.stds).min(1)
    return distance < within, cluster


def coverage(x: Tensor, within: float = 2.0) -> tuple[float, float]:
    """Return the share of strays, beyond so many deviations, and what the poorest cluster gets of its due.

    The truth has strays as well, exp(-within^2 / 2) of its points. A due is what the truth has within so many
    deviations: 1 is fair, 0 is a lost cluster.
    """
    close, cluster = near(x, within)
    share = torch.bincount(cluster[close], minlength=8) / len(x)
    due = toy.mixture_parameters()[0] * (1 - math.exp(-(within**2) / 2))
    return 1 - close.float().mean().item(), (share / due).min().item()


def ring(n: int, generator: Generator | None = None) -> Tensor:
    """Draw points (n, 2) evenly from the circle through the centres of `toy.mixture`: no clusters at all."""
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    return toy.mixture_parameters()[1].norm(dim=1).mean() * torch.stack([angle.cos(), angle.sin()], 1)
