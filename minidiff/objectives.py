"""What does one step of training minimise?

An objective is (model, batch, config, generator, shift) -> loss (): `denoising` for a denoiser (eq. 7.1), with times
that lean to noise by the shift, `reconstruction` for an autoencoder (eq. 10.2), which knows no time. All random numbers
come from the generator.
"""

import torch
from torch import Generator, Tensor

from minidiff.denoiser import Denoiser
from minidiff.guidance import drop_labels
from minidiff.losses import denoising_loss, sample_times, weight
from minidiff.nets.autoencoder import Autoencoder, autoencoder_loss
from minidiff.process import noise_like


def denoising(denoiser: Denoiser, batch, config, generator: Generator, shift: float = 1.0) -> Tensor:
    """The mean weighted error on images (B, ...), with or without a condition (B, ...): () (eq. 7.1)."""
    x0, *cond = batch
    device = next(denoiser.parameters()).device
    t = sample_times(len(x0), generator, shift=shift).to(device)  # (B,)
    eps = noise_like(x0, generator).to(device)  # (B, ...)
    if cond:
        cond = [drop_labels(cond[0], denoiser.net.config.null, config.label_dropout, generator).to(device)]
    losses = denoising_loss(denoiser, x0.to(device), eps, t, denoiser.schedule, *cond)  # (B,)
    return (weight(config.weighting, t, denoiser.schedule) * losses).mean()


def reconstruction(autoencoder: Autoencoder, batch, config, generator: Generator, shift: float = 1.0) -> Tensor:
    """The mean error and cost on images (B, C, H, W), whatever their condition: () (eq. 10.2)."""
    x, about = batch[0], autoencoder.config
    small = (len(x), about.latent, x.shape[2] // about.factor, x.shape[3] // about.factor)
    eps = torch.randn(small, generator=generator) if about.weight else None  # a code that costs nothing has no noise
    device = next(autoencoder.parameters()).device
    return autoencoder_loss(autoencoder, x.to(device), eps if eps is None else eps.to(device)).mean()
