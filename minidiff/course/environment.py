"""The checks of the pre-flight that ask whether Python finds the right things.

Which interpreter runs, where its packages come from, whether they fit together, and whether a notebook's kernel is the
same Python. A check returns what it found in one line, without a path, as notebooks keep it. It raises a Warning for
what the course can live with and any other exception for what it cannot; the text says what to type.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from ast import literal_eval
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch

import minidiff

PYTHON = f'"{sys.executable}" -m'
OURS = Path(minidiff.__file__).resolve().parent
INSTALL = f"run in {OURS.parent}: {PYTHON} pip install -e ."
WIDGETS = {"7": "1", "8": "3"}  # major versions of ipywidgets and of what JupyterLab needs to show them


def in_kernel() -> bool:
    """Say whether this process is a notebook's kernel: then the page that shows it, Colab's or another, is there."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def notebooks_folder() -> Path | None:
    """Return where the chapters are: the working folder, its notebooks/, or the checkout that minidiff comes from."""
    candidates = Path.cwd(), Path.cwd() / "notebooks", OURS.parent / "notebooks"
    return next((folder for folder in candidates if any(folder.glob("[0-9][0-9]_*.ipynb"))), None)


def unset(variable: str) -> str:
    """Return what to type to get rid of an environment variable."""
    return f"run: set {variable}=" if os.name == "nt" else f"run: unset {variable}"


def python() -> str:
    """Check that Python is 3.10 or newer."""
    if sys.version_info < (3, 10):  # noqa: UP036 (a copied package folder runs where pip would have refused)
        raise RuntimeError(f"expected Python 3.10 or newer, got {platform.python_version()}; install a newer one")
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def environment() -> str:
    """Check that there is one environment, not two on top of each other."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and os.path.isdir(path)]
    if paths:
        raise UserWarning(f"PYTHONPATH puts {', '.join(paths)} before this Python's packages; {unset('PYTHONPATH')}")
    for variable, leave in ("CONDA_PREFIX", "conda deactivate"), ("VIRTUAL_ENV", "deactivate"):
        active = os.environ.get(variable)
        if active and Path(active).resolve() != Path(sys.prefix).resolve():
            raise UserWarning(f"{active} is active, but this Python belongs to {sys.prefix}; run: {leave}")
    return f"environment {Path(sys.prefix).name}"


def copies() -> str:
    """Check that no second minidiff is in the working folder or elsewhere on the path."""
    folders = Path.cwd(), Path.cwd().parent, *map(Path, sys.path)
    others = {(folder / "minidiff").resolve() for folder in folders if (folder / "minidiff/__init__.py").is_file()}
    if others := others - {OURS}:
        raise UserWarning(
            f"minidiff comes from {OURS}; another copy, {', '.join(map(str, others))}, has no effect here. "
            f"To use that one, run in the folder that holds it: {PYTHON} pip install -e ."
        )
    return f"minidiff {minidiff.__version__}, one copy of it"


def shadows() -> str:
    """Check that no file beside the notebooks has the name of a module that they import."""
    folders = sorted({Path.cwd(), notebooks_folder() or Path.cwd()})
    files = [file for folder in folders for file in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))]
    elsewhere = [path for path in sys.path if Path(path).resolve() not in folders]
    for file in files:
        module = file.parent.name if file.name == "__init__.py" else file.stem
        if module in sys.modules.keys() - {"minidiff"} and PathFinder.find_spec(module, elsewhere):
            raise RuntimeError(f"{file} hides the module {module}; rename it")
    return "no file beside the notebooks hides a module"


def numbers(text: str) -> tuple[int, ...]:
    """Return a version as numbers that can be compared: "2.14.1+cu130" is (2, 14, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def installed(extra: str = "") -> str:
    """Return what minidiff, or one of its extras, asks for, with versions; RuntimeError if a package is lacking."""
    try:
        lines = requires("minidiff") or []
    except PackageNotFoundError as error:
        raise RuntimeError(f"minidiff lies in {OURS} but is not installed; {INSTALL}") from error
    asked = re.findall(r"(?m)^([\w.-]+)>=([\d.]+)(?:.*extra == .(\w+))?", "\n".join(lines))
    found, lacking = [], {}
    for name, lowest, group in asked:
        if group != extra:
            continue
        try:
            found.append(f"{name} {version(name)}")
            if numbers(version(name)) < numbers(lowest):
                lacking[f'"{name}>={lowest}"'] = f"{name} {version(name)} is older than {lowest}"
        except PackageNotFoundError:
            lacking[f'"{name}>={lowest}"'] = f"{name} is missing"
    if lacking:
        reasons = ", ".join(lacking.values())
        raise RuntimeError(f"{reasons}; run: {PYTHON} pip install --upgrade {' '.join(lacking)}")
    return ", ".join(found)


def packages() -> str:
    """Check the packages that every chapter needs."""
    return installed()


def binaries() -> str:
    """Check that torch, torchvision and numpy were built for each other."""
    try:
        import torchvision  # noqa: F401  (fails where it does not fit torch)
    except Exception as error:
        raise RuntimeError(
            f"torchvision does not fit torch {torch.__version__} ({error}); "
            f"run: {PYTHON} pip install --upgrade torch torchvision"
        ) from error
    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:
        raise RuntimeError(
            f"numpy {version('numpy')} does not fit torch {torch.__version__} ({error}); "
            f"run: {PYTHON} pip install --upgrade torch numpy"
        ) from error
    return "torch, torchvision and numpy fit together"


def jupyter() -> str:
    """Check that JupyterLab is this Python's, and that it can show live figures."""
    if in_kernel():
        return f"ipykernel {version('ipykernel')}, ipywidgets {version('ipywidgets')}"
    found = installed("notebooks")
    try:
        front = version("jupyterlab_widgets")
    except PackageNotFoundError:
        front = "none"
    wanted = WIDGETS.get(version("ipywidgets").partition(".")[0])
    if wanted and front.partition(".")[0] != wanted:
        raise UserWarning(
            f"live figures will not move: ipywidgets {version('ipywidgets')} needs jupyterlab_widgets {wanted}, found "
            f"{front}; run: {PYTHON} pip install --upgrade ipywidgets jupyterlab_widgets"
        )
    command = shutil.which("jupyter-lab")
    scripts = sysconfig.get_path("scripts"), sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    if command and Path(command).parent.resolve() not in [Path(folder).resolve() for folder in scripts]:
        raise UserWarning(f"jupyter-lab is {command}, of another Python; start the course by: {PYTHON} jupyterlab")
    return found


def kernel() -> str:
    """Check that a kernel starts beside the notebooks, is this Python, and imports this minidiff."""
    if in_kernel():
        return "kernel: this one"
    from jupyter_client.manager import start_new_kernel

    folder, cure = notebooks_folder() or Path.cwd(), f"run: {PYTHON} ipykernel install --sys-prefix"
    try:
        manager, client = start_new_kernel(startup_timeout=30, cwd=str(folder), stderr=subprocess.DEVNULL)
    except Exception as error:
        raise RuntimeError(f"none starts ({error}); {cure}") from error
    questions = {"prefix": "__import__('sys').prefix", "file": "__import__('minidiff').__file__"}
    try:
        reply = client.execute("", user_expressions=questions, reply=True, timeout=60)["content"]["user_expressions"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    prefix = literal_eval(reply["prefix"]["data"]["text/plain"])
    if Path(prefix).resolve() != Path(sys.prefix).resolve():
        raise RuntimeError(f"it runs the Python of {prefix}, not of {sys.prefix}; {cure}")
    if reply["file"]["status"] != "ok":
        why = f"{reply['file']['ename']}: {reply['file']['evalue']}"
        raise RuntimeError(f"import minidiff fails in {folder} ({why}); {INSTALL}")
    file = Path(literal_eval(reply["file"]["data"]["text/plain"])).resolve()
    if file.parent != OURS:
        raise RuntimeError(f"it imports {file.parent}, this command {OURS}; to use this one, {INSTALL}")
    return "a kernel starts and imports this minidiff"
