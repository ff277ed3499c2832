"""Makes build/kit/minidiff-kit: all that a room without a network needs, for this system and this Python.

    wheels/            minidiff with its data and weights, and all that the notebooks need
    repo/              the course as git tracks it
    book/, slides/     where they are built
    install.py         makes an environment from the wheels and copies the notebooks beside it
    README.txt, kit.json, SHA256SUMS

Wheels are fetched again when pyproject.toml or constraints.txt change; minidiff's own is built again when its files do.
"""

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kit_install import sha256

ROOT = Path(__file__).resolve().parents[1]
KIT = ROOT / "build/kit/minidiff-kit"
EXTRAS = {"book": "make book", "slides": "make slides"}
WINDOWS = platform.system() == "Windows"
README = """\
minidiff {version}: the course in a folder, for rooms without a network.

For Python {python} on {system} {machine}{glibc}. {size:.1f} GB here, {gigabytes} GB of disk to install.

Install, a few minutes:

    {command} install.py

This makes the folder minidiff in your home folder, with the notebooks and an environment of its own, checks the
machine, and says how to open the course. To have it elsewhere, name a folder: {command} install.py FOLDER

By hand:

    {command} -m venv .venv
    {python_of_venv} -m pip install --no-index --find-links wheels "minidiff[notebooks]"
    {python_of_venv} -m jupyterlab repo/notebooks

To read without installing anything, open book/index.html in a browser. SHA256SUMS has the sums of all files.
"""


def tracked(*folders):
    """The files that git tracks, as paths below the root."""
    command = ["git", "ls-files", "-z", "--", *folders]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def fingerprint(names):
    """What the wheels depend on: some files, the system and the Python."""
    digest = hashlib.sha256(json.dumps(this_machine()).encode())
    for name in names:
        digest.update(f"{name} {sha256(ROOT / name)}".encode())
    return digest.hexdigest()


def this_machine():
    python = ".".join(platform.python_version_tuple()[:2])
    return {"system": platform.system(), "machine": platform.machine(), "python": python}


def pip(*arguments):
    """Runs pip in the root; a failure ends with its first error, in one line."""
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR:")]
        sys.exit(f"pip {arguments[0]} failed: {(errors or ['it gave no reason'])[0]}")


def fetch_wheels(kit):
    """Fills wheels/; only what has changed."""
    wheels, stamps = kit / "wheels", kit.parent / "stamps.json"
    done = json.loads(stamps.read_text()) if stamps.exists() and wheels.exists() else {}
    wanted = {
        "foreign": fingerprint(["pyproject.toml", "constraints.txt"]),
        "own": fingerprint(["pyproject.toml", *tracked("minidiff", "data")]),
    }
    if done.get("foreign") != wanted["foreign"]:
        print("Fetching wheels (once; 3 GB on Linux) ...", flush=True)
        shutil.rmtree(wheels, ignore_errors=True)
        stamps.unlink(missing_ok=True)
        pip("download", "--dest", str(wheels), "--only-binary", ":all:", ".[notebooks]", "-c", "constraints.txt")
        done = {}
    if done.get("own") != wanted["own"]:
        pip("wheel", "--no-deps", "--wheel-dir", str(wheels), ".")
    stamps.write_text(json.dumps(wanted))


def copy_repo(kit):
    """Copies what git tracks, as it is now, into repo/."""
    shutil.rmtree(kit / "repo", ignore_errors=True)
    for name in tracked():
        (kit / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, kit / "repo" / name)


def copy_built(kit):
    """Copies what is built of book and slides, and says what is not."""
    for part, command in EXTRAS.items():
        shutil.rmtree(kit / part, ignore_errors=True)
        if (ROOT / "build" / part).is_dir():
            shutil.copytree(ROOT / "build" / part, kit / part)
        else:
            print(f"The kit has no {part}; to have them in it: {command}")


def glibc(wheels):
    """The lowest glibc that all wheels run with, as words for the README; nothing where none asks."""
    asked = [re.findall(r"manylinux_2_(\d+)_", wheel.name) for wheel in wheels]
    lowest = max((min(map(int, minor)) for minor in asked if minor), default=None)
    return f" with glibc 2.{lowest} or newer (ldd --version tells)" if lowest else ""


def write_texts(kit):
    """Writes install.py, kit.json, README.txt and the sums of everything."""
    wheels = sorted((kit / "wheels").iterdir())
    size = sum(path.stat().st_size for path in kit.rglob("*") if path.is_file()) / 1e9
    machine = this_machine()
    about = {
        "command": f"py -{machine['python']}" if WINDOWS else f"python{machine['python']}",
        "version": next(wheel.name.split("-")[1] for wheel in wheels if wheel.name.startswith("minidiff-")),
        "wheels": machine,
        "gigabytes": round(1 + 2 * sum(wheel.stat().st_size for wheel in wheels) / 1e9),  # unpacked they are twice that
    }
    (kit / "kit.json").write_text(json.dumps(about, indent=1))
    shutil.copy(ROOT / "tools/kit_install.py", kit / "install.py")
    words = {
        "python_of_venv": r".venv\Scripts\python" if WINDOWS else ".venv/bin/python",
        "glibc": glibc(wheels),
        "size": size,
    }
    (kit / "README.txt").write_text(README.format(**about, **machine, **words), encoding="utf-8")
    names = sorted(path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file())
    sums = [f"{sha256(kit / name)}  {name}\n" for name in names if name != "SHA256SUMS"]
    (kit / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return size


def make(kit):
    """Makes the kit, or what has changed of it."""
    kit.mkdir(parents=True, exist_ok=True)
    fetch_wheels(kit)
    copy_repo(kit)
    copy_built(kit)
    size = write_texts(kit)
    print(f"{kit} is ready: {size:.1f} GB. Its README.txt says how to install from it.")


if __name__ == "__main__":
    make(KIT)
