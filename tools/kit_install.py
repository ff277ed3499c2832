"""Installs the course from this folder, without a network: python3 install.py [FOLDER]

FOLDER, or else minidiff in your home folder, gets the notebooks and an environment of its own, .venv. What is there
already is kept. Standard library only, and written so that an old Python still parses it and is told which one to take.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys

KIT = os.path.dirname(os.path.abspath(__file__))
COURSE = ("notebooks", "book", "slides")
ADVICE = {
    "No space left": "The disk is full.",
    "not a supported wheel": "This system is older than the wheels: README.txt says what they need.",
    "No matching distribution": "This system is older than the wheels: README.txt says what they need.",
}


def refuse_another_machine(wheels, command):
    """Ends unless this is the system, the processor and the Python that the wheels are for."""
    here = {"system": platform.system(), "machine": platform.machine(), "python": "{}.{}".format(*sys.version_info[:2])}
    if here != wheels:
        sentence = "These wheels are for Python {python} on {system} {machine}".format(**wheels)
        this = "this is Python {python} on {system} {machine}".format(**here)
        same = here["system"] == wheels["system"] and here["machine"] == wheels["machine"]
        advice = "Run: {} install.py".format(command) if same else "Ask for the kit of your system, or use the network."
        sys.exit("{}; {}. {}".format(sentence, this, advice))


def sha256(path):
    """The sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def refuse_damage():
    """Ends unless every file of the kit is as it was made."""
    with open(os.path.join(KIT, "SHA256SUMS"), encoding="utf-8") as file:
        sums = [line.rstrip("\n").split("  ", 1) for line in file]
    for expected, name in sums:
        path = os.path.join(KIT, *name.split("/"))
        if not os.path.exists(path) or sha256(path) != expected:
            sys.exit("{} is damaged or missing. Copy the kit again.".format(path))


def copy_course(folder):
    """Copies notebooks, book and slides; a file that is there already may hold somebody's work and stays."""
    for part in COURSE:
        top = os.path.join(KIT, "repo", part) if part == "notebooks" else os.path.join(KIT, part)
        for source, _, files in os.walk(top):
            target = os.path.join(folder, part, os.path.relpath(source, top))
            if not os.path.isdir(target):
                os.makedirs(target)
            for name in files:
                if not os.path.exists(os.path.join(target, name)):
                    shutil.copyfile(os.path.join(source, name), os.path.join(target, name))


def install(folder):
    """Makes .venv, installs into it from the wheels alone, and returns its Python."""
    try:
        import ensurepip  # noqa: F401  (Debian ships venv without it)
        import venv
    except ImportError:
        sys.exit("This Python cannot make virtual environments. Debian, Ubuntu: apt install python3-venv")
    environment = os.path.join(folder, ".venv")
    python = os.path.join(environment, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))
    if not os.path.exists(python):
        venv.create(environment, clear=True, with_pip=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-index", "--find-links", os.path.join(KIT, "wheels"), "minidiff[notebooks]"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    settings["PIP_CONFIG_FILE"] = os.devnull  # somebody's settings may name an index or forbid this
    pip = subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    said = pip.communicate()[0].strip()
    if pip.returncode:
        reasons = [advice for sign, advice in ADVICE.items() if sign in said]
        sys.exit("{}\nInstalling failed. {}".format(said, reasons[0] if reasons else "Show pip's lines to your host."))
    return python


def main():
    if len(sys.argv) > 2 or "-h" in sys.argv or "--help" in sys.argv:
        sys.exit(__doc__)
    folder = os.path.abspath(sys.argv[1] if sys.argv[1:] else os.path.join(os.path.expanduser("~"), "minidiff"))
    with open(os.path.join(KIT, "kit.json")) as file:
        kit = json.load(file)
    refuse_another_machine(kit["wheels"], kit["command"])
    if not os.path.isdir(folder):
        os.makedirs(folder)
    free = shutil.disk_usage(folder).free / 1e9
    if free < kit["gigabytes"] and not os.path.exists(os.path.join(folder, ".venv")):
        sys.exit("{} GB of disk are needed; {} has {:.1f} GB free.".format(kit["gigabytes"], folder, free))
    print("Checking the kit ...")
    sys.stdout.flush()
    refuse_damage()
    print("Installing into {} (a few minutes) ...".format(folder))
    sys.stdout.flush()
    copy_course(folder)
    python = install(folder)
    code = subprocess.call([python, "-m", "minidiff", "doctor"], cwd=folder)
    first = os.path.join("notebooks", "student", "00_start_here.ipynb")
    print("\nTo open the course:\ncd {}\n{} -m jupyterlab {}".format(folder, os.path.relpath(python, folder), first))
    return code


if __name__ == "__main__":
    sys.exit(main())
