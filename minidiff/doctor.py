"""Is this machine ready for the course?

One line per check: what was looked at and what was found, or what is wrong and what to do about it.
"""

import importlib.util
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

import minidiff
from minidiff.generate import best_device


def examine() -> int:
    """Prints one line per check; 0 if all pass, else 1."""
    failures = 0
    for check in (python, packages, notebook_packages, device, disk, data, training):
        try:
            print(f"ok    {check()}")
        except Exception as error:  # whatever is broken, the other checks still run
            failures += 1
            print(f"FAIL  {name(check)}: {' '.join(str(error).split())}")
    return 1 if failures else 0


def name(check: Callable) -> str:
    """What a check looks at, in words."""
    return check.__name__.replace("_", " ")


def python() -> str:
    """Python 3.10 or newer."""
    if sys.version_info < (3, 10):  # noqa: UP036 (a copied package folder runs where pip would have refused)
        raise RuntimeError(f"expected Python 3.10 or newer, got {platform.python_version()}; install a newer one")
    system = f"{platform.system()} {platform.machine()}"
    return f"minidiff {minidiff.__version__}, Python {platform.python_version()}, {system}"


def packages() -> str:
    """The core dependencies, and a torchvision that fits torch."""
    found = [f"{p} {version(p)}" for p in ("torch", "torchvision", "numpy", "matplotlib", "safetensors", "tqdm")]
    import torchvision  # noqa: F401  (fails where it does not match torch)

    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) < (2, 8):
        raise RuntimeError(
            f"expected torch 2.8 or newer, got {torch.__version__}; run: pip install --upgrade torch torchvision"
        )
    return ", ".join(found)


def notebook_packages() -> str:
    """What the notebooks need beyond the core."""
    missing = [p for p in ("ipykernel", "ipywidgets", "IPython") if importlib.util.find_spec(p) is None]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} not found; run: pip install 'minidiff[notebooks]'")
    return f"notebooks: ipykernel {version('ipykernel')}, ipywidgets {version('ipywidgets')}"


def device() -> str:
    """Where training will run, and in which precision."""
    from minidiff.train import autocast_dtype

    found = best_device()
    precision = "bf16" if autocast_dtype(found, "auto") else "fp32"
    return f"device {found}, {precision}, {torch.get_num_threads()} CPU threads"


def disk() -> str:
    """Room for a run."""
    free = shutil.disk_usage(".").free / 1e9
    if free < 0.5:
        raise RuntimeError(f"only {free:.1f} GB free here; a run needs 0.1 GB, leave at least 0.5 GB")
    return f"{free:.0f} GB free on this disk"


def data() -> str:
    """All shipped files, byte for byte."""
    from minidiff.data import registry, shipped

    for filename in registry():
        shipped(filename)
    return f"{len(registry())} data files whole"


def training() -> str:
    """Five seconds of the real thing: the loss must fall."""
    from minidiff.data import load
    from minidiff.runs import Run
    from minidiff.train import TrainConfig

    with tempfile.TemporaryDirectory() as folder:
        images = load("fashion")
        run = Run.start(Path(folder), images, TrainConfig(warmup=5), best_device())
        losses = [p.loss for p in run.train(images, seconds=5)]
    if len(losses) < 5:
        raise RuntimeError(f"only {len(losses)} steps in 5 seconds, expected about 25: close what else is running")
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    if not last < first:
        raise RuntimeError(
            f"the loss went from {first:.3f} to {last:.3f} in {len(losses)} steps; "
            "expected it to fall: run on a quieter machine, or report this"
        )
    speed = len(losses) * run.training.config.batch_size / run.training.seconds
    return f"5 seconds of training: loss {first:.2f} to {last:.2f}, {speed:.0f} images/s"
