"""The device to compute on, and the precision that its hardware multiplies fastest."""

import torch


def best_device() -> torch.device:
    """Return a GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str) -> torch.device:
    """Return the device called `name` ("cpu", "cuda", "cuda:1", "mps"). ValueError if there is none such here."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # a build without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"expected a device of this machine, as {best_device()}, got {name!r} ({reason})") from None
    if device.type == "meta":
        raise ValueError(f"expected a device of this machine, as {best_device()}, got {name!r}")
    return device


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """Return bfloat16, or None for float32. "auto" is bfloat16 where hardware multiplies it: CPUs with AMX or AVX-512
    BF16, GPUs since Ampere. ValueError for an unknown precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"expected a precision among {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        return torch.bfloat16 if _multiplies_bf16(device) else None
    return torch.bfloat16 if precision == "bf16" else None


PRECISIONS = "auto", "fp32", "bf16"


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # private names, so asked for with a default: on a torch without them the CPU computes in float32
    asks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(ask() for ask in asks if ask is not None)
