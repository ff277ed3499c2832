"""minidiff: diffusion models, derived step by step and small enough to read.

The names of the core are here; the rest is imported where it is used: minidiff.data, minidiff.nets, minidiff.train,
minidiff.checkpoint, minidiff.metrics, minidiff.plot, minidiff.widgets.
"""

__version__ = "0.1.0"

from minidiff.denoiser import Denoiser
from minidiff.guidance import cfg, classifier_guidance, drop_labels
from minidiff.losses import bits_per_dim, denoising_loss, sample_times, vlb, vlb_terms, weight
from minidiff.oracle import Empirical, Mixture
from minidiff.process import Gaussian, add_noise, expand, posterior, row, solve, target, transition
from minidiff.samplers import State, ddim, ddpm, dpmpp_2m, euler, final, heun, langevin, times
from minidiff.schedule import (
    Cosine,
    Flow,
    FromBetas,
    LinearBeta,
    Schedule,
    VarianceExploding,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
)

__all__ = [
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
    "expand",
    "final",
    "heun",
    "langevin",
    "linear_betas",
    "posterior",
    "row",
    "sample_times",
    "scaled_linear_betas",
    "sigmoid_betas",
    "solve",
    "target",
    "times",
    "transition",
    "vlb",
    "vlb_terms",
    "weight",
]
