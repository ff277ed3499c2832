"""Networks: tensors in, tensors out, and no word about diffusion."""

from . import mlp, unet  # each registers itself
from .registry import NETS, DataSpec, config_for, register_net

__all__ = ["NETS", "DataSpec", "config_for", "register_net", "mlp", "unet"]
