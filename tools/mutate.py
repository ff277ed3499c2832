"""Would the tests notice? Plants typical errors, one at a time, and runs the tests that must notice each.

    python tools/mutate.py [--jobs 2] [--only SUBSTRING]

The errors stand in planted_errors.py. Each goes into its own copy of the package in a temporary folder; the working
tree is never touched. At the end the tests that noticed run once more without any error, and must pass. Exit code 1 if
an error survives, if a verdict fails, or if an entry of the table no longer fits the code.
"""

import argparse
import importlib.util
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from planted_errors import ERRORS

ROOT = Path(__file__).resolve().parents[1]
COPIED = "minidiff", "tests"  # all else is the same in every copy, and linked
TIMEOUT = 600  # seconds for one error
# Seconds each, and noticed by others too: left out where an entry does not choose its tests by -k.
SLOW = "not (compiles or exporters or stay_out_of_a_graph or langevin or least_possible or diffusers)"
IMPORTS = ["numpy", "PIL.Image", "pytest", "torch", "torchvision", "matplotlib.figure", "safetensors.torch"]


class Planted(NamedTuple):
    """An error: its module below minidiff/, what is wrong, the texts, and what pytest is told."""

    module: str
    name: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        return f"{self.module}: {self.name}"

    def arguments(self) -> list[str]:
        """Return pytest's arguments."""
        words = shlex.split(self.tests)
        files = [f"tests/{word}" if word.endswith(".py") else word for word in words]
        return files if "-k" in words else [*files, "-k", SLOW]


TABLE = [Planted(module, *entry) for module, entries in ERRORS.items() for entry in entries]


def misfits(table: list[Planted]) -> list[str]:
    """Return the entries whose text does not stand exactly once in its module."""
    sources = {p.module: (ROOT / "minidiff" / p.module).read_text(encoding="utf-8") for p in table}
    return [f"{p} ({found} times)" for p in table if (found := sources[p.module].count(p.old)) != 1]


def copy_tree(folder: Path) -> None:
    """Make a copy of the repository whose package and tests may be changed."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)


def pytest_in(folder: Path, arguments: list[str], output: Path) -> None:
    """Run pytest in this process, in a copy, and exit with its code; all that is printed goes into a file."""
    for number in signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)  # not nohup's
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in 1, 2:
        os.dup2(file, stream)
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}  # for the processes that tests start
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    found = importlib.util.find_spec("minidiff")
    if found is None or not Path(str(found.origin)).is_relative_to(folder):
        sys.exit(f"expected the copy of the package, got {found and found.origin}")
    import pytest
    import torch

    torch.manual_seed(0)  # a verdict must not hang on the luck of a test that draws without a generator
    code = pytest.main(["-xq", "--no-header", "-p", "no:cacheprovider", *arguments])
    sys.stdout.flush()
    os._exit(int(code))  # whatever threads a test has left behind


def run_tests(context, folder: Path, arguments: list[str]) -> tuple[str, str]:
    """Return ("passed", ""), ("failed", the first test) or ("no verdict", why) for the copy in folder."""
    output = folder.with_suffix(".txt")
    process = context.Process(target=pytest_in, args=(folder, arguments, output))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        return "no verdict", f"{TIMEOUT} seconds were not enough"
    said = output.read_text(encoding="utf-8", errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - |$)", said, re.MULTILINE)
    if process.exitcode == 1 and failed:
        return "failed", failed[1]
    return ("no verdict", " ".join(said[-300:].split())) if process.exitcode else ("passed", "")


def judge(context, folder: Path, planted: Planted) -> tuple[str, str]:
    """Return the tests' verdict on a copy with the error in it."""
    copy_tree(folder)
    path = folder / "minidiff" / planted.module
    path.write_text(path.read_text(encoding="utf-8").replace(planted.old, planted.new), encoding="utf-8")
    verdict = run_tests(context, folder, planted.arguments())
    shutil.rmtree(folder)
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="of module and name, as in 'loop.py: EMA'")
    options = parser.parse_args()
    chosen = [planted for planted in TABLE if options.only in str(planted)]
    if wrong := misfits(chosen):
        print("expected each old text exactly once in its module, not so for:", *wrong, sep="\n  ")
        return 1
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(IMPORTS)  # once, not for every error
    began, missed, noticed = time.perf_counter(), 0, set()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        parent = Path(temporary).resolve()
        jobs = {pool.submit(judge, context, parent / str(i), planted): planted for i, planted in enumerate(chosen)}
        for count, job in enumerate(as_completed(jobs), 1):
            verdict, detail = job.result()
            missed += verdict != "failed"
            noticed |= {detail.partition("[")[0]} if verdict == "failed" else set()
            shown = {"failed": "caught", "passed": "SURVIVED"}.get(verdict, "NO VERDICT")
            print(f"{count:3d}/{len(jobs)}  {shown:10s}  {jobs[job]!s:60s}  {detail}", flush=True)
        copy_tree(parent / "clean")
        verdict, detail = run_tests(context, parent / "clean", [f"tests/{test}" for test in sorted(noticed)])
    if noticed:
        print(f"without any error the {len(noticed)} tests that noticed: {verdict} {detail}".rstrip())
    print(f"{len(chosen)} planted, {len(chosen) - missed} caught, in {time.perf_counter() - began:.0f} s")
    return 1 if missed or not chosen or verdict != "passed" else 0


if __name__ == "__main__":
    sys.exit(main())
