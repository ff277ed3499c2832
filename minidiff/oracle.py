"""Exact denoisers of known distributions, against which everything else is tested.

For a mixture of Gaussians every quantity of the course has a closed form: noise turns component j,
N(m_j, c_j^2), into N(alpha m_j, alpha^2 c_j^2 + sigma^2) (eq. 3.6), so the density, the score, the posterior mean
and the true reverse kernel at any time are sums over components. All sums are taken in log space, so
they stay finite far from the data. Points are (B, D), times () or (B,).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.process import match_dims, transition
from minidiff.schedule import Schedule, validating


@dataclass(frozen=True)
class Mixture:
    """sum_k weights_k N(means_k, stds_k^2): weights (K,), means (K, D), stds (K,) or, per axis, (K, D)."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __post_init__(self):
        K = len(self.weights)
        if self.means.ndim != 2 or len(self.means) != K or self.stds.shape not in {(K,), self.means.shape}:
            raise ValueError(
                f"expected weights (K,), means (K, D), stds (K,) or (K, D), got {tuple(self.weights.shape)}, "
                f"{tuple(self.means.shape)}, {tuple(self.stds.shape)}"
            )
        if not ((self.weights >= 0).all() and torch.isclose(self.weights.sum(), self.weights.new_ones(()))):
            raise ValueError(f"expected weights >= 0 that sum to 1, got {self.weights.tolist()}")
        if not (self.stds > 0).all():
            raise ValueError(f"expected stds > 0, got {self.stds.tolist()}")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n points of the mixture, drawn on the CPU and moved: (n, D)."""
        k = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator).to(self.means.device)
        noise = torch.randn((n, self.means.shape[1]), generator=generator, dtype=self.means.dtype).to(self.means.device)
        return self.means[k] + self._axis_stds()[k] * noise  # (n, D)

    def log_prob(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """Return log p_t(x) in nats: (B,) (eq. 3.6). At t = 0 it is the density of the data."""
        return self._at(x, t, schedule)[0].logsumexp(1)

    def denoise(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """Return E[x0 | x_t = x], the best possible denoiser: (B, D) (eq. 3.7)."""
        log_joint, offset, variance = self._at(x, t, schedule)
        alpha = match_dims(schedule(t)[0], offset)
        x0 = self.means.to(x) + alpha * self._axis_stds().to(x) ** 2 * offset / variance  # (B, K, D)
        return (log_joint.softmax(1)[..., None] * x0).sum(1)  # (B, D)

    def score(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """Return grad_x log p_t(x): (B, D)."""
        log_joint, offset, variance = self._at(x, t, schedule)
        return -(log_joint.softmax(1)[..., None] * offset / variance).sum(1)  # (B, D)

    def reverse(self, x_t: Tensor, s: float, t: float, schedule: Schedule) -> "Mixture":
        """Return the true q(x_s | x_t) at one point x_t (D,): a mixture again, not a Gaussian (eq. 3.10)."""
        log_joint, _, _ = self._at(x_t[None], t, schedule)
        (alpha_s, sigma_s), (alpha_ts, sigma_ts) = schedule(s), transition(s, t, schedule)
        mean, variance = alpha_s * self.means, alpha_s**2 * self._axis_stds() ** 2 + sigma_s**2  # of x_s, by component
        gain = alpha_ts * variance / (alpha_ts**2 * variance + sigma_ts**2)
        stds = (variance * (1 - gain * alpha_ts)).sqrt().expand_as(mean)
        return Mixture(log_joint[0].softmax(0), mean + gain * (x_t - alpha_ts * mean), stds)

    def _axis_stds(self) -> Tensor:
        return self.stds if self.stds.ndim == 2 else self.stds[:, None]  # (K, D) or (K, 1)

    def _at(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor, Tensor]:
        """Return log(weight_k p_k(x)) (B, K), x - alpha m_k (B, K, D) and the variances, to broadcast, at t."""
        if x.ndim != 2 or x.shape[1] != self.means.shape[1]:
            raise ValueError(f"expected points (B, {self.means.shape[1]}), got {tuple(x.shape)}")
        points = x[:, None, :]  # (B, 1, D)
        alpha, sigma = (match_dims(c, points) for c in schedule(t))
        variance = alpha**2 * self._axis_stds().to(x) ** 2 + sigma**2
        offset = points - alpha * self.means.to(x)  # (B, K, D)
        log_density = -(offset**2 / variance + variance.log() + math.log(2 * math.pi)).sum(2) / 2
        return self.weights.to(x).log() + log_density, offset, variance


@dataclass(frozen=True)
class Empirical:
    """The exact denoiser of the empirical distribution of data (N, ...): what the training loss alone asks for."""

    data: Tensor

    def denoise(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """Return E[x0 | x_t = x]: the data, weighted by how likely each is to have become x (B, ...) (eq. 3.11).

        Needs t > 0. In float64, for the squared distances cancel; on the CPU where the device has none (Apple's).
        """
        if x.shape[1:] != self.data.shape[1:]:
            raise ValueError(
                f"expected data of shape (B, {', '.join(map(str, self.data.shape[1:]))}), got {tuple(x.shape)}"
            )
        device = torch.device("cpu") if x.device.type == "mps" else x.device
        bank, points = (batch.to(device).double().flatten(1) for batch in (self.data, x))  # (N, D), (B, D)
        alpha, sigma = (match_dims(c, points) for c in schedule(t))  # () or (B, 1)
        if validating(sigma) and (sigma == 0).any():
            raise ValueError("expected t > 0: at t = 0 the data have no density to weight them by")
        closeness = alpha * points @ bank.T - alpha**2 * bank.square().sum(1) / 2  # -|x - alpha d|^2 / 2 + c, (B, N)
        return ((closeness / sigma**2).softmax(1) @ bank).reshape(x.shape).to(x)
