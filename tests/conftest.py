"""Settings that must be in place before anything imports matplotlib or torch; the book, built once for all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("MPLBACKEND", "Agg")  # draws without a screen
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def book_log(tmp_path_factory, worker_id):
    """Builds the web book and the slides, once for all workers; what was printed, if anything went wrong."""

    def build():
        made = subprocess.run([sys.executable, ROOT / "tools/make_slides.py"], capture_output=True, text=True)
        return made.stderr + (made.stdout if made.returncode else "")

    if worker_id == "master":
        return build()
    log = tmp_path_factory.getbasetemp().parent / "book.log"  # the folder that the workers of one run share
    with FileLock(log.with_suffix(".lock")):
        if not log.exists():
            log.write_text(build())
    return log.read_text()
