"""minidiff: diffusion models, derived step by step and small enough to read.

The mathematics is here. The rest is imported where it is used: networks from minidiff.nets, data sets from
minidiff.data, the training loop from minidiff.training, checkpoints, sampling and metrics from minidiff.app, and what
only the notebooks need from minidiff.course.
"""

__version__ = "0.2.0"

from minidiff.denoiser import Denoiser
from minidiff.guidance import cfg, classifier_guidance, drop_labels
from minidiff.losses import bits_per_dim, denoising_loss, sample_times, vlb, vlb_terms, weight
from minidiff.oracle import Empirical, Mixture
from minidiff.process import (
    PREDICTIONS,
    Gaussian,
    add_noise,
    match_dims,
    posterior,
    posterior_std,
    target,
    target_coefficients,
    to_x0_eps,
    transition,
)
from minidiff.samplers import State, ddim, ddpm, dpmpp_2m, euler, final, heun, langevin, times
from minidiff.schedule import (
    SCHEDULES,
    Cosine,
    Flow,
    FromBetas,
    LinearBeta,
    Schedule,
    VarianceExploding,
    cosine_betas,
    linear_betas,
    register_schedule,
    scaled_linear_betas,
    shift_times,
    sigmoid_betas,
)

__all__ = [
    "PREDICTIONS",
    "SCHEDULES",
    "Cosine",
    "Denoiser",
    "Empirical",
    "Flow",
    "FromBetas",
    "Gaussian",
    "LinearBeta",
    "Mixture",
    "Schedule",
    "State",
    "VarianceExploding",
    "add_noise",
    "bits_per_dim",
    "cfg",
    "classifier_guidance",
    "cosine_betas",
    "ddim",
    "ddpm",
    "denoising_loss",
    "dpmpp_2m",
    "drop_labels",
    "euler",
    "final",
    "heun",
    "langevin",
    "linear_betas",
    "match_dims",
    "posterior",
    "posterior_std",
    "register_schedule",
    "sample_times",
    "scaled_linear_betas",
    "shift_times",
    "sigmoid_betas",
    "target",
    "target_coefficients",
    "times",
    "to_x0_eps",
    "transition",
    "vlb",
    "vlb_terms",
    "weight",
]
