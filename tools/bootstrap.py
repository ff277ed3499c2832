"""Makes .venv and installs minidiff with its notebooks and tests into it; the second time it does nothing.

Standard library only, and written so that an old Python still parses it and is told that it is too old.
"""

import os
import sys

if sys.version_info < (3, 10):
    sys.exit(
        "minidiff needs Python 3.10 or newer; {} is {}.{}. Name another: make lab PYTHON=python3.12".format(
            sys.executable, *sys.version_info[:2]
        )
    )

import hashlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))
STAMP = os.path.join(VENV, "minidiff-setup")
LOG = os.path.join(VENV, "setup.log")

# Installed size, with room for pip's downloads: on Linux, torch brings the CUDA libraries.
GIGABYTES = 8 if sys.platform == "linux" else 3
OFFLINE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError", "Max retries")
DISK_FULL = "The disk is full. minidiff needs about {} GB in {}; free some space and run this again.".format(
    GIGABYTES, ROOT
)


def fingerprint():
    """What decides whether .venv is up to date: the two lists, this Python and the place."""
    digest = hashlib.sha256("{} {}".format(sys.version_info[:2], ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def up_to_date():
    try:
        with open(STAMP) as file:
            return os.path.exists(PYTHON) and file.read() == fingerprint()
    except FileNotFoundError:
        return False


def made_by_this_python():
    """Whether .venv exists and has this Python's version, so that it can be added to."""
    try:
        with open(os.path.join(VENV, "pyvenv.cfg")) as file:
            return "version = {}.{}.".format(*sys.version_info[:2]) in file.read() and os.path.exists(PYTHON)
    except FileNotFoundError:
        return False


def make_venv():
    try:
        import ensurepip  # noqa: F401  (Debian ships venv without it)
        import venv
    except ImportError:
        sys.exit("This Python cannot make virtual environments. Debian, Ubuntu: apt install python3-venv")
    venv.create(VENV, clear=True, with_pip=True)


def install():
    """Runs pip, shows its current line where there is a terminal, and returns its exit code and its lines."""
    import subprocess

    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-e", ".[notebooks,test,book]", "-c", "constraints.txt"]
    lines = []
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipe) as pip:
        for line in pip.stdout:
            lines.append(line.strip())
            if sys.stdout.isatty():
                sys.stdout.write("\r\033[K" + lines[-1][:78])
                sys.stdout.flush()
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")
    return pip.returncode, lines


def explain(lines):
    """One line for a failed install: what happened, and what to do."""
    text = "\n".join(lines)
    if "No space left" in text:
        return DISK_FULL
    if any(word in text for word in OFFLINE):
        return "The packages could not be downloaded. Check the network or the proxy, and run this again."
    last = ([line for line in lines if line.startswith("ERROR:")] or lines or ["pip said nothing"])[-1]
    advice = "Check the network, and that PyTorch supports this Python and machine."
    return "Installing failed: {}. {} All of pip's lines: {}".format(last, advice, LOG)


def main():
    if up_to_date():
        return
    import shutil
    import subprocess

    fresh = not made_by_this_python()
    free = shutil.disk_usage(ROOT).free / 1e9
    if fresh and free < GIGABYTES:
        sys.exit("minidiff needs about {} GB of disk; {} has {:.1f} GB free.".format(GIGABYTES, ROOT, free))
    print("Setting up {} (once; a few minutes, mostly downloads) ...".format(VENV))
    sys.stdout.flush()
    try:
        if fresh:
            make_venv()
        code, lines = install()
        with open(LOG, "w") as file:
            file.write("\n".join(lines))
        if code:
            sys.exit(explain(lines))
        with open(STAMP, "w") as file:
            file.write(fingerprint())
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from here.")
    except subprocess.CalledProcessError:
        sys.exit("pip could not be put into {}. Try another Python: make lab PYTHON=python3.12".format(VENV))
    except OSError as error:
        sys.exit(DISK_FULL if error.errno == 28 else "Setting up failed: {}".format(error))
    print("Ready.")


if __name__ == "__main__":
    main()
