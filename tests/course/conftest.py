"""The web book and the slides, built once for all tests."""

import subprocess
import sys

import pytest
from filelock import FileLock
from places import ROOT


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
