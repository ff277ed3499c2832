"""The offline kit: made once, installed into a fresh environment with no index and no network, and used from there."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import kit_install
import make_kit
import pytest

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"  # a proxy that does not answer
DISK = 12e9  # 3 GB of wheels, 6 GB installed, for two minutes
BEGINNING = """
import json, sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
code = [cell for cell in notebook.cells if cell.cell_type == "code" and "examine" not in cell.source]
where = "import minidiff, matplotlib, torch; print(minidiff.__file__, matplotlib.__file__, torch.__file__)"
notebook.cells = [*code[:5], nbformat.v4.new_code_cell(where)]
NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
kinds = [kind for cell in notebook.cells for output in cell.outputs for kind in output.get("data", {})]
print(json.dumps([kinds, notebook.cells[-1].outputs[0].text.split()]))
"""
WHERE = """
import json, sys, minidiff, torch
from minidiff.data import shipped
print(json.dumps([sys.path, minidiff.__file__, str(shipped("fashion.safetensors"))]))
"""


def offline(home):
    """An environment in which any attempt to reach a network fails, and nobody's settings apply."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "JUPYTER_"))}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    return kept | proxies | {"HOME": str(home), "USERPROFILE": str(home)}


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    if shutil.disk_usage(folder).free < DISK:
        pytest.skip(f"{DISK / 1e9:.0f} GB of disk are needed for a while")
    probe = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), "tqdm"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("pip reaches no index, so there is nothing to make a kit from")
    make_kit.make(folder / "minidiff-kit")
    yield folder / "minidiff-kit"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def installed(kit, tmp_path_factory):
    """The participant's folder, its Python, and what the installer printed."""
    home = tmp_path_factory.mktemp("home")
    (home / "minidiff/notebooks").mkdir(parents=True)
    (home / "minidiff/notebooks/my.ipynb").write_text("mine")
    (home / "minidiff/notebooks/00_start_here.ipynb").write_text('{"cells": []}')
    run = subprocess.run(
        [sys.executable, str(kit / "install.py")], cwd=home, env=offline(home), capture_output=True, text=True
    )
    yield home, run
    shutil.rmtree(home)


def run_in(home, *arguments):
    """The new environment's Python, from the participant's folder; returns what it prints."""
    folder = home / "minidiff"
    python = folder / (".venv/Scripts/python.exe" if os.name == "nt" else ".venv/bin/python")
    run = subprocess.run([str(python), *arguments], cwd=folder, env=offline(home), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_kit_is_complete_and_made_once(kit, monkeypatch, capsys):
    assert {path.name for path in kit.iterdir()} >= {"wheels", "repo", "install.py", "README.txt", "SHA256SUMS"}
    (wheel,) = kit.glob("wheels/minidiff-*.whl")
    assert "minidiff/py.typed" in ZipFile(wheel).namelist()
    assert (kit / "repo/notebooks/00_start_here.ipynb").is_file()
    assert str(ROOT) not in (kit / "README.txt").read_text() + (kit / "kit.json").read_text()
    monkeypatch.setattr(make_kit, "pip", lambda *arguments: pytest.fail("pip ran again"))
    make_kit.make(kit)
    assert "is ready" in capsys.readouterr().out


def test_it_installs_without_a_network(installed):
    home, run = installed
    lines = run.stdout.splitlines()
    checks = [line for line in lines if line.startswith(("ok  ", "warn", "FAIL"))]
    assert len(checks) == 16, run.stdout + run.stderr
    # a machine busy with other work may be too slow for the last check
    assert not [line for line in checks if line.startswith("FAIL") and "steps in 5 seconds" not in line]
    assert f"cd {home / 'minidiff'}" in lines
    notebook = home / "minidiff" / lines[-1].split(" -m jupyterlab ")[1]
    assert json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def test_it_keeps_what_was_there(installed):
    folder = installed[0] / "minidiff/notebooks"
    assert (folder / "my.ipynb").read_text() == "mine"
    assert (folder / "00_start_here.ipynb").read_text() == '{"cells": []}'


def test_everything_comes_from_the_new_environment(installed):
    home, _ = installed
    paths, package, weights = json.loads(run_in(home, "-c", WHERE))
    inside = str(home / "minidiff/.venv")
    assert package.startswith(inside) and weights.startswith(inside)
    assert not [path for path in paths if path.startswith((str(ROOT), sys.prefix))]


def test_it_draws(installed):
    home, _ = installed
    weights = json.loads(run_in(home, "-c", WHERE))[2]
    run_in(home, "-m", "minidiff", "sample", weights, "--n", "4", "--steps", "2", "--out", "four.png")
    assert (home / "minidiff/four.png").stat().st_size > 1000


def test_a_notebook_runs_in_it(installed, kit):
    home, _ = installed
    kinds, places = json.loads(run_in(home, "-c", BEGINNING, str(kit / "repo/notebooks/00_start_here.ipynb")))
    assert "image/png" in kinds
    assert len(places) == 3 and all(place.startswith(str(home / "minidiff/.venv")) for place in places)


@pytest.fixture
def small(tmp_path):
    """A kit of three files, which no installation gets past."""
    folder = tmp_path / "small"
    folder.mkdir()
    shutil.copy(ROOT / "tools/kit_install.py", folder / "install.py")
    (folder / "book.txt").write_text("whole")
    (folder / "SHA256SUMS").write_text(f"{kit_install.sha256(folder / 'book.txt')}  book.txt\n")
    (folder / "kit.json").write_text(json.dumps({"wheels": make_kit.this_machine(), "command": "py", "gigabytes": 1}))
    return folder


def refusal(kit):
    """What the installer says when it gives up, in one line."""
    command = [sys.executable, str(kit / "install.py"), str(kit / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and not (kit / "out/.venv").exists()
    return run.stderr.strip()


@pytest.mark.parametrize(
    "about, advice", [({"python": "3.99"}, "Run: py install.py"), ({"machine": "vax"}, "Ask for the kit")]
)
def test_another_machine_is_told(small, about, advice):
    kit = json.loads((small / "kit.json").read_text())
    (small / "kit.json").write_text(json.dumps(kit | {"wheels": kit["wheels"] | about}))
    said = refusal(small)
    assert said.startswith("These wheels are for Python ") and advice in said and platform.machine() in said


@pytest.mark.parametrize("damage", [lambda file: file.write_text("whale"), Path.unlink])
def test_a_damaged_kit_is_told(small, damage):
    damage(small / "book.txt")
    assert "book.txt is damaged or missing. Copy the kit again." in refusal(small)


def test_a_full_disk_is_told(small):
    kit = json.loads((small / "kit.json").read_text())
    (small / "kit.json").write_text(json.dumps(kit | {"gigabytes": 10**6}))
    assert "1000000 GB of disk are needed" in refusal(small)


def test_a_missing_wheel_is_told(small):
    (small / "wheels").mkdir()
    command = [sys.executable, str(small / "install.py"), str(small / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and "No matching distribution" in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("Installing failed.")


def test_nothing_built_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_kit, "ROOT", tmp_path)
    (tmp_path / "build/book").mkdir(parents=True)
    make_kit.copy_built(tmp_path / "kit")
    assert capsys.readouterr().out == "The kit has no slides; to have them in it: make slides\n"
    assert (tmp_path / "kit/book").is_dir()


def test_the_lowest_glibc():
    names = (
        "a-1-cp311-manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        "b-1-manylinux_2_24_x86_64.whl",
        "c-none-any.whl",
    )
    assert " 2.24 " in make_kit.glibc([Path(name) for name in names]) and make_kit.glibc([Path("c-none-any.whl")]) == ""
