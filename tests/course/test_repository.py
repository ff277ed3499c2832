"""One setting moves all addresses: a fork's badges, setup cells and documents lead to the fork."""

import json
import shutil
import subprocess
import sys

import places
import pytest
from places import ROOT
from set_repository import moved

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
    source = places.sources()[2]
    deeper = [other for other in places.deeper_sources() if other.name == source.name]
    files = [ROOT / name for name in ("README.md", "pyproject.toml", "docs/references.json")]
    for path in [*files, source, *deeper, *map(places.built, [source, *deeper])]:
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    for name in ("tools", "docs/answers"):
        shutil.copytree(ROOT / name, tmp_path / name)
    notebook = tmp_path / places.built(source).relative_to(ROOT)
    before = json.loads(notebook.read_text(encoding="utf-8"))

    def run(*command):
        return subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)

    moved = run("tools/set_repository.py", "school/diffusion", "--branch", "v2")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert run("tools/build_notebooks.py", "--check").returncode == 0
    student = (tmp_path / f"notebooks/student/{source.stem}.ipynb").read_text(encoding="utf-8")
    after = json.loads(notebook.read_text(encoding="utf-8"))
    assert "school/diffusion/blob/v2/notebooks/student/" in student and "school/diffusion@v2" in student
    assert [c.get("outputs") for c in after["cells"]] == [c.get("outputs") for c in before["cells"]]
    here = places.setting()["repository"]
    for path in (tmp_path / "README.md", tmp_path / "pyproject.toml"):
        assert here not in path.read_text(encoding="utf-8") and "school/diffusion" in path.read_text(encoding="utf-8")
    assert run("tools/set_repository.py", "only-a-name").returncode == 2
