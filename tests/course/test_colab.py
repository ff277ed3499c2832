"""Colab: its first cell adds minidiff and changes nothing else, and `make test` runs most of the cells there.

The cells themselves run by tools/colab.py.
"""

import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import colab
import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from places import DEEPER, ROOT, STUDENT, setting

from minidiff.data import checksums

HOSTS = {"Colab": colab.ON_COLAB, "Kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, "a bare kernel": {}}
PLACES = """
import sys, minidiff
from minidiff.data import checksums, shipped
print(minidiff.__file__, *map(shipped, checksums()), *sys.path, sep="\\n")
"""
GIT_AUTHOR = ["-c", "user.name=minidiff", "-c", "user.email=minidiff@localhost"]


class OnColab(KernelSpecManager):
    """Knows one kernel: Colab's environment."""

    def get_kernel_spec(self, kernel_name):
        return KernelSpec(argv=[str(colab.PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"])


def git(*arguments, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def pip(*arguments: str) -> str:
    command = [str(colab.PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def versions() -> dict[str, str]:
    """All that is installed in Colab's environment."""
    return {package["name"]: package["version"] for package in json.loads(pip("list", "--format=json"))}


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """A git repository of this working tree, and the settings that let git take it for the one on GitHub."""
    colab.make_environment()
    folder, where = tmp_path_factory.mktemp("github"), setting()
    repository = folder / where["repository"]
    for name in git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0"):
        if (ROOT / name).is_file() and not name.startswith("notebooks/"):
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repository / name)
    git("init", "-q", "-b", where["branch"], cwd=repository)
    git("add", "--all", cwd=repository)
    git(*GIT_AUTHOR, "commit", "-q", "-m", "as it is", cwd=repository)
    here = {"COUNT": "1", "KEY_0": f"url.{folder.as_uri()}/.insteadOf", "VALUE_0": "https://github.com/"}
    return {f"GIT_CONFIG_{name}": value for name, value in here.items()}


def run(code: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """What cells print in a kernel with Colab's versions."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    kernel = KernelManager(kernel_spec_manager=OnColab())
    client = NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | environment)
    return ["".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells]


@pytest.mark.skipif(not colab.POSSIBLE, reason="Colab's versions have no wheels for this Python or system")
@pytest.mark.parametrize("host", HOSTS)
def test_the_setup_cell_adds_minidiff_and_changes_nothing_else(host, github, tmp_path):
    made_of = colab.STAMP.read_text()
    colab.STAMP.unlink()  # an environment that this test finds spoiled is not used again
    pip("uninstall", "--yes", "minidiff")
    before = versions()
    first = nbformat.read(min(STUDENT.glob("*.ipynb")), as_version=4)
    (setup,) = [cell.source for cell in first.cells if "setup" in cell.metadata.get("tags", [])]
    said, places = run([setup, PLACES], tmp_path, github | HOSTS[host])
    assert versions() == before | {"minidiff": version("minidiff")}
    colab.STAMP.write_text(made_of)
    assert f"minidiff {version('minidiff')}, " in said and f"{len(checksums())} data files" in said
    assert ("Runtime, Change runtime type" in said) == (host == "Colab")
    assert ("Settings, Accelerator" in said) == (host == "Kaggle")
    # nothing comes from this repository: what lies in its folder is Colab's environment, or the stand-in
    inside = {Path(place) for place in places.splitlines() if Path(place).is_relative_to(ROOT)}
    assert len(inside) > len(checksums())
    assert all(place.is_relative_to(colab.PLACE) or place == ROOT / "tests/course/colab" for place in inside)


@pytest.mark.parametrize(
    "path",
    sorted([*STUDENT.glob("*.ipynb"), *DEEPER.glob("*.ipynb")]),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_most_cells_run_in_make_test(path):
    """Chapters 00 to 05 whole; of the others all but what trains or draws for long, and what needs that."""
    notebook = nbformat.read(path, as_version=4)
    whole = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    colab.shortened(notebook)
    share = len({cell.source for cell in notebook.cells} & set(whole)) / len(set(whole))
    assert share == 1 if path.stem < "06" else share > 0.5
