"""The first line of every notebook: where it runs, and what one needs to know there.

Colab and Kaggle bring their own torch and switch GPUs on in a menu; everywhere else the machine is the reader's.
"""

import importlib.util
import os
import platform
import sys

import torch

import minidiff
from minidiff.data import checksums
from minidiff.training import best_device

GPU_MENU = {
    "Colab": "Runtime, Change runtime type, T4 GPU",
    "Kaggle": "Settings, Accelerator, GPU T4",
}


def host() -> str | None:
    """Return the service that runs this notebook, "Colab" or "Kaggle"; None on a machine of one's own."""
    if "google.colab" in sys.modules:
        return "Colab"
    return "Kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else None


def hello() -> None:
    """Print the versions, the device and the data in one line, and another one where something could be better."""
    device = best_device()
    versions = f"minidiff {minidiff.__version__}, Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{versions}, {device}, {len(checksums())} data files")
    if device.type == "cpu" and (service := host()):
        print(f"No GPU: no chapter needs one. For `python -m minidiff train`: {GPU_MENU[service]}.")
    if importlib.util.find_spec("ipywidgets") is None:
        print("Without ipywidgets live figures fail. Run: %pip install ipywidgets")
