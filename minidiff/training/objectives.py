"""What one step of training minimises.

An objective is (model, batch, config, generator, shift) -> loss (): `denoising` for a denoiser (eq. 7.1), whose times
are shifted towards noise, `reconstruction` for an autoencoder (eq. 10.2), which has no time. All random numbers come
from the generator. A batch is (x0,) or (x0, cond), on the CPU.
"""

import torch
from torch import Generator, Tensor

from minidiff.denoiser import Denoiser
from minidiff.guidance import check_labels, drop_labels
from minidiff.losses import denoising_loss, sample_times, weight
from minidiff.nets.autoencoder import Autoencoder, autoencoder_loss
from minidiff.process import noise_like


def denoising(denoiser: Denoiser, batch, config, generator: Generator, shift: float = 1.0) -> Tensor:
    """Return the mean weighted error on x0 (B, ...), with or without a condition (B, ...): () (eq. 7.1).

    A share `config.label_dropout` of the conditions becomes the denoiser's null condition, if it has one.
    """
    x0, *cond = batch
    device = next(denoiser.parameters()).device
    t = sample_times(len(x0), generator, shift=shift).to(device)  # (B,)
    eps = noise_like(x0, generator).to(device)  # (B, ...)
    if cond and denoiser.null is not None:
        check_labels(cond[0], denoiser.null)
        cond = [drop_labels(cond[0], denoiser.null, config.label_dropout, generator)]
    cond = [move(c, device) for c in cond]
    losses = denoising_loss(denoiser, x0.to(device), eps, t, denoiser.schedule, *cond)  # (B,)
    return (weight(config.weighting, t, denoiser.schedule) * losses).mean()


def reconstruction(autoencoder: Autoencoder, batch, config, generator: Generator, shift: float = 1.0) -> Tensor:
    """Return the mean error and cost on images (B, C, H, W), whatever their condition: () (eq. 10.2)."""
    x, c = batch[0], autoencoder.config
    device = next(autoencoder.parameters()).device
    size = (c.latent_channels, x.shape[2] // c.factor, x.shape[3] // c.factor)
    # a code that costs nothing is read at its mean, without noise
    eps = torch.randn((len(x), *size), generator=generator).to(device) if c.cost_weight else None
    return autoencoder_loss(autoencoder, x.to(device), eps).mean()


def move(cond: Tensor | dict[str, Tensor], device: torch.device) -> Tensor | dict[str, Tensor]:
    """Return a condition, a tensor or a dict of tensors, on a device."""
    return {k: v.to(device) for k, v in cond.items()} if isinstance(cond, dict) else cond.to(device)
