"""Does the course run with Colab's versions, and without a file of this repository beside it?

python tools/colab.py            every cell of every student's and deeper notebook (a quarter of an hour)
python tools/colab.py --quick    without the cells tagged "slow", and without what needs them (for make test)
python tools/colab.py --only 03  one chapter

build/colab gets the versions of tests/course/colab_versions.json. Only torch is borrowed from this environment: it is
larger than all else together. The notebooks run in a folder that holds nothing else, with a stand-in for google.colab.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import DEEPER, ROOT, STUDENT
from slices import without

PLACE = ROOT / "build/colab"
PYTHON = PLACE / "bin/python"
STAMP = PLACE / "made-of"
PINS = json.loads((ROOT / "tests/course/colab_versions.json").read_text(encoding="utf-8"))["packages"]
BORROWED = ("torch", "torchvision")
RUNNER = ("nbval", "coverage", "pytest-xdist", "execnet")  # what runs the notebooks; Colab does not have these
POSSIBLE = os.name == "posix" and (3, 11) <= sys.version_info[:2] <= (3, 13)  # where Colab's versions have wheels
ON_COLAB = {"PYTHONPATH": str(ROOT / "tests/course/colab")}


def lines() -> list[str]:
    """What is installed into build/colab."""
    colabs = [f"{name}=={version}" for name, version in PINS.items() if name not in BORROWED]
    return colabs + [f"{name}=={distribution(name).version}" for name in RUNNER]


def borrowed() -> set[str]:
    """torch, torchvision, and what they need that is not in Colab's list (compilers, CUDA)."""
    found, listed = {}, {canonicalize_name(name) for name in PINS}
    queue = [Requirement(name) for name in BORROWED]
    while queue:
        wanted = queue.pop()
        name, extras = canonicalize_name(wanted.name), {"", *wanted.extras}
        if extras <= found.get(name, set()):
            continue
        try:
            asked = map(Requirement, distribution(name).requires or [])
        except PackageNotFoundError:
            continue  # needed on other machines only
        found[name] = found.get(name, set()) | extras
        needed = (r for r in asked if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in found[name]))
        queue += [r for r in needed if canonicalize_name(r.name) not in listed]
    return set(found)


def make_environment() -> None:
    """build/colab, without minidiff; kept while what it is made of stays the same."""
    made_of = "\n".join([sys.version, *lines(), *(f"{name} {distribution(name).version}" for name in BORROWED)])
    if STAMP.exists() and STAMP.read_text() == made_of:
        return
    venv.create(PLACE, clear=True)
    # Colab's list is all there is: what its packages ask for beyond that, Colab does without
    install("--no-deps", "--no-compile", *lines())
    site = next(PLACE.glob("lib/python3*/site-packages"))
    for package in map(distribution, borrowed()):
        for top in {file.parts[0] for file in package.files} - {".."}:
            if not (site / top).exists():
                (site / top).symlink_to(package.locate_file(top))
    STAMP.write_text(made_of)


def install(*arguments: str) -> None:
    """pip install into build/colab."""
    command = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "-qq"]
    subprocess.run([*command, "--disable-pip-version-check", *arguments], check=True)


def shortened(notebook: nbformat.NotebookNode) -> None:
    """Takes the slow cells out of a notebook, and what needs them."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    slow = [k for k, cell in enumerate(code) if "slow" in cell.metadata.get("tags", [])]
    for cell, source in zip(code, without([cell.source for cell in code], slow), strict=True):
        cell.source = source
    notebook.cells = [cell for cell in code if cell.source]


def run(folder: Path, names: Sequence[str]) -> int:
    """Runs notebooks in build/colab, from their own folder; pytest's exit code."""
    command = [str(PYTHON), "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    command += ["-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile", *names]
    quiet = {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # the debugger would warn of itself
    return subprocess.run(command, cwd=folder, env=os.environ | ON_COLAB | quiet).returncode


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", metavar="NN", default="")
    args = parser.parse_args()
    if not POSSIBLE:
        print("Colab's versions cannot be installed here: they need Python 3.11 to 3.13 on Linux or macOS.")
        return 0
    make_environment()
    install("--no-deps", "--force-reinstall", str(ROOT))  # by way of a wheel, as anybody would get it
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for path in sorted([*STUDENT.glob(f"{args.only}*.ipynb"), *DEEPER.glob(f"{args.only}*.ipynb")]):
            notebook = nbformat.read(path, as_version=4)
            if args.quick:
                shortened(notebook)
            names.append(f"{path.parent.name}-{path.name}")
            nbformat.write(notebook, Path(folder) / names[-1])
        return run(Path(folder), names)


if __name__ == "__main__":
    sys.exit(main())
