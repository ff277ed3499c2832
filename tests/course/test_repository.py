"""One setting moves all addresses: a fork's badges, setup cells and documents lead to the fork."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import course
import pytest
from set_repository import moved

ROOT = Path(__file__).parents[2]
OLD = {"repository": "OWNER/REPO", "branch": "main"}
NEW = {"repository": "school/diffusion", "branch": "v2"}


@pytest.mark.parametrize(
    "before, after",
    [
        ("git clone https://github.com/OWNER/REPO minidiff", "git clone https://github.com/school/diffusion minidiff"),
        ("git+https://github.com/OWNER/REPO@main", "git+https://github.com/school/diffusion@v2"),
        ("https://github.com/OWNER/REPO/blob/main/README.md", "https://github.com/school/diffusion/blob/v2/README.md"),
        ("https://mybinder.org/v2/gh/OWNER/REPO/main?x=1", "https://mybinder.org/v2/gh/school/diffusion/v2?x=1"),
        ("the main thing", "the main thing"),
    ],
)
def test_addresses_move_with_their_branch(before, after):
    assert moved(before, OLD, NEW) == after
    assert moved(after, NEW, OLD) == before


def test_a_fork_is_one_command(tmp_path):
    """In a copy with one chapter: every address there follows, no output is lost, and nothing is stale."""
    (tmp_path / "notebooks/src").mkdir(parents=True)
    chapter = "02_forward_diffusion"
    for name in ("tools", "docs/answers"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("README.md", "pyproject.toml", f"notebooks/{chapter}.ipynb", f"notebooks/src/{chapter}.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    before = json.loads((tmp_path / f"notebooks/{chapter}.ipynb").read_text(encoding="utf-8"))

    def run(*command):
        return subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)

    moved = run("tools/set_repository.py", "school/diffusion", "--branch", "v2")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert run("tools/build_notebooks.py", "--check").returncode == 0
    student = (tmp_path / f"notebooks/student/{chapter}.ipynb").read_text(encoding="utf-8")
    after = json.loads((tmp_path / f"notebooks/{chapter}.ipynb").read_text(encoding="utf-8"))
    assert "school/diffusion/blob/v2/notebooks/student/" in student and "school/diffusion@v2" in student
    assert [c.get("outputs") for c in after["cells"]] == [c.get("outputs") for c in before["cells"]]
    here = course.setting()["repository"]
    for path in (tmp_path / "README.md", tmp_path / "pyproject.toml"):
        assert here not in path.read_text(encoding="utf-8") and "school/diffusion" in path.read_text(encoding="utf-8")
    assert run("tools/set_repository.py", "only-a-name").returncode == 2
