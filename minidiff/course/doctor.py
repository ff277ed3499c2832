"""The pre-flight: is this machine ready for the course?

One line per check: what was looked at and what was found, or what is wrong and what to do about it. `ok` passes, `warn`
is good to know, `FAIL` has to be mended first.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import torch

from minidiff.course.environment import (
    binaries,
    copies,
    environment,
    in_kernel,
    jupyter,
    kernel,
    notebooks_folder,
    packages,
    python,
    shadows,
    unset,
)
from minidiff.training import TrainConfig, autocast_dtype, best_device

GB = 1e9
NEEDED = 1.5  # GB of memory, by the largest chapter
CONTAINER = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # new and old Linux


def examine() -> int:
    """Print one line per check; return 0 if none fails, else 1."""
    failures = 0
    for check in CHECKS:
        try:
            print(f"ok    {check()}", flush=True)
        except Warning as warning:
            print(f"warn  {name(check)}: {one_line(warning)}", flush=True)
        except Exception as error:  # whatever is broken, the other checks still run
            failures += 1
            print(f"FAIL  {name(check)}: {one_line(error)}", flush=True)
    return 1 if failures else 0


def name(check: Callable) -> str:
    """Return what a check looks at, in words."""
    return check.__name__.replace("_", " ")


def one_line(error: Exception) -> str:
    """Return the text of an error without its line breaks, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def cores() -> str:
    """Check that there is more than one CPU thread to compute with."""
    threads, count = torch.get_num_threads(), os.cpu_count() or 1
    if threads == 1:
        variable = next((v for v in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if os.environ.get(v) == "1"), None)
        advice = unset(variable) if variable and count > 1 else "close other programs and allow twice the stated times"
        raise UserWarning(f"one thread on {count} CPUs; {advice}")
    return f"{threads} CPU threads"


def memory() -> str:
    """Check that the largest notebook fits into memory, as far as psutil and a container's limit tell."""
    limits = []
    try:
        import psutil  # comes with ipykernel

        limits.append(psutil.virtual_memory().available)
    except ImportError:
        pass
    texts = [Path(file).read_text().strip() for file in CONTAINER if os.path.exists(file)]
    limits += [int(text) for text in texts if text.isdigit()]
    if not limits:
        return "memory: this system does not tell"
    free = min(limits) / GB
    if free < NEEDED:
        kind = MemoryError if free < NEEDED / 2 else UserWarning
        raise kind(f"{free:.1f} GB are free, a notebook needs up to {NEEDED} GB; close programs and other notebooks")
    return f"{free:.1f} GB of memory free"


def device() -> str:
    """Check that the device on which training will run can compute; say in which precision."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = best_device()
    try:
        precision = "bf16" if autocast_dtype(found, "auto") else "fp32"
        torch.ones(64, 64, device=found).mm(torch.ones(64, 64, device=found)).sum().item()
    except Exception as error:
        switch = "set CUDA_VISIBLE_DEVICES=-1" if os.name == "nt" else "export CUDA_VISIBLE_DEVICES=-1"
        raise RuntimeError(
            f"{found} is there but cannot compute ({error}); update its driver, or go on with the CPU: {switch}"
        ) from error
    if found.type == "cpu" and said:
        raise UserWarning(f"no GPU is used ({said[0].message}); update its driver, or go on: the CPU is enough")
    return f"device {found}, {precision}"


def disk() -> str:
    """Check that a run fits on the disk."""
    free = shutil.disk_usage(".").free / GB
    if free < 0.5:
        raise RuntimeError(f"only {free:.1f} GB free here; a run needs 0.1 GB, leave at least 0.5 GB")
    return f"{free:.0f} GB free on this disk"


def writing() -> str:
    """Check that notebooks can be saved here, and downloads in their folder."""
    from minidiff.data.vision import cache_dir

    try:
        TemporaryFile(dir=".").close()
    except OSError as error:
        raise RuntimeError(
            f"cannot write into {Path.cwd()} ({error}); copy the notebooks to a folder of yours"
        ) from error
    folder = next(path for path in (cache_dir(), *cache_dir().parents) if path.exists())
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserWarning(
            f"cannot write into {folder} ({error}), so data sets cannot be downloaded; the course needs none. "
            "For others, set MINIDIFF_DATA to a folder of yours"
        ) from error
    return "can write here and where downloads go"


def notebooks() -> str:
    """Check that the chapters are here, and none is damaged."""
    folder = notebooks_folder()
    if folder is None:
        if in_kernel():
            return "notebooks: this one"
        raise UserWarning(f"none in {Path.cwd()}; change to the folder of the course: cd")
    name = "[0-9][0-9]_*.ipynb"
    files = sorted([*folder.glob(name), *folder.glob(f"deeper/{name}")])
    for file in files:
        try:
            json.loads(file.read_text(encoding="utf-8"))["cells"]
        except (ValueError, KeyError) as error:
            raise RuntimeError(f"{file} is damaged ({error}); copy it again, or run: git checkout -- {file}") from error
    return f"{len(files)} notebooks whole"


def data() -> str:
    """Check all shipped files, byte for byte."""
    from minidiff.data import checksums, shipped

    for filename in checksums():
        shipped(filename)
    return f"{len(checksums())} data files whole"


def training() -> str:
    """Train for five seconds: the loss must fall."""
    from minidiff.app.runs import Run
    from minidiff.data import load

    with TemporaryDirectory() as folder:
        images = load("fashion")
        run = Run.start(Path(folder), images, TrainConfig(warmup_steps=5), best_device())
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


CHECKS = (
    *(python, environment, copies, packages, binaries, shadows, jupyter, kernel),
    *(cores, memory, device, disk, writing, notebooks, data, training),
)
