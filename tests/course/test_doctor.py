"""The pre-flight: whatever can be wrong on a laptop is provoked here, and its advice is read."""

import json
import shutil
import sys
import types
import venv
import warnings
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psutil
import pytest
import torch

from minidiff.course import doctor, environment
from minidiff.training import Progress

MODULES = Path(torch.__file__).parents[1]


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A working folder with one chapter, and no activated environment."""
    (tmp_path / "00_start.ipynb").write_text('{"cells": []}')
    monkeypatch.chdir(tmp_path)
    for variable in ("PYTHONPATH", "CONDA_PREFIX", "VIRTUAL_ENV"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def versions(monkeypatch, **found):
    """Lets some packages have other versions; None: not installed."""
    real = environment.version

    def version(name):
        if found.get(name, "") is None:
            raise PackageNotFoundError(name)
        return found.get(name) or real(name)

    monkeypatch.setattr(environment, "version", version)


def test_ok_warn_and_fail(monkeypatch, capsys):
    def good():
        return "all is well"

    def so_so():
        raise UserWarning("two\nlines; run: this")

    def broken_thing():
        raise KeyError

    monkeypatch.setattr(doctor, "CHECKS", (good, so_so))
    assert doctor.examine() == 0
    assert capsys.readouterr().out.splitlines() == ["ok    all is well", "warn  so so: two lines; run: this"]
    monkeypatch.setattr(doctor, "CHECKS", (broken_thing, good))
    assert doctor.examine() == 1
    assert capsys.readouterr().out.splitlines() == ["FAIL  broken thing: KeyError", "ok    all is well"]


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(RuntimeError, match="expected Python 3.10 or newer"):
        doctor.python()


@pytest.mark.parametrize(
    "variable, advice",
    [("PYTHONPATH", "unset PYTHONPATH"), ("CONDA_PREFIX", "run: conda deactivate"), ("VIRTUAL_ENV", "run: deactivate")],
)
def test_two_environments_on_top_of_each_other(room, monkeypatch, variable, advice):
    assert doctor.environment() == f"environment {Path(sys.prefix).name}"
    monkeypatch.setenv(variable, str(room))
    with pytest.raises(UserWarning, match=advice):
        doctor.environment()


def test_a_second_minidiff(room):
    assert "one copy" in doctor.copies()
    (room / "minidiff").mkdir()
    (room / "minidiff/__init__.py").touch()
    with pytest.raises(UserWarning, match=f"another copy, {room / 'minidiff'}.* -m pip install -e ."):
        doctor.copies()


@pytest.mark.parametrize("file, module", [("random.py", "random"), ("torch.py", "torch"), ("tqdm/__init__.py", "tqdm")])
def test_a_file_that_hides_a_module(room, monkeypatch, file, module):
    (room / "my_helpers.py").touch()
    monkeypatch.setitem(sys.modules, "my_helpers", types.ModuleType("my_helpers"))
    assert "no file beside" in doctor.shadows()  # a module of one's own hides nothing
    (room / file).parent.mkdir(exist_ok=True)
    (room / file).touch()
    with pytest.raises(RuntimeError, match=f"hides the module {module}; rename it"):
        doctor.shadows()


def test_packages_that_are_missing_or_old(monkeypatch):
    versions(monkeypatch, torch="2.7.1+cpu", tqdm=None)
    with pytest.raises(
        RuntimeError, match="torch 2.7.1.cpu is older than 2.8, tqdm is missing; run: .* pip install"
    ) as e:
        doctor.packages()
    assert '"torch>=2.8"' in str(e.value) and "jupyterlab" not in str(e.value)


def test_packages_of_version_10_are_newer_than_of_version_9(monkeypatch):
    versions(monkeypatch, torch="2.10.0")
    assert "torch 2.10.0" in doctor.packages()


def test_a_folder_that_was_never_installed(monkeypatch):
    def requires(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(environment, "requires", requires)
    with pytest.raises(RuntimeError, match=f"run in {environment.OURS.parent}: .* -m pip install -e ."):
        doctor.packages()


def test_a_torchvision_for_another_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(RuntimeError, match="pip install --upgrade torch torchvision"):
        doctor.binaries()


def test_a_torch_built_for_an_older_numpy(monkeypatch):
    def numpy(self):
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    with pytest.raises(RuntimeError, match="Numpy is not available.*pip install --upgrade torch numpy"):
        doctor.binaries()


def test_no_jupyterlab(monkeypatch):
    versions(monkeypatch, jupyterlab=None)
    with pytest.raises(RuntimeError, match='jupyterlab is missing; run: .* pip install --upgrade "jupyterlab>='):
        doctor.jupyter()


@pytest.mark.parametrize("front", ["1.1.11", None])
def test_live_figures_without_their_front_end(monkeypatch, front):
    versions(monkeypatch, ipywidgets="8.1.5", jupyterlab_widgets=front)
    with pytest.raises(UserWarning, match="needs jupyterlab_widgets 3, found .* run: .* pip install --upgrade"):
        doctor.jupyter()


def test_the_jupyter_of_another_python(monkeypatch, room):
    monkeypatch.setattr(shutil, "which", lambda name: str(room / "bin" / name))
    with pytest.raises(UserWarning, match="of another Python; start the course by: .* -m jupyterlab"):
        doctor.jupyter()


def kernelspec(room, monkeypatch, python):
    """Lets the kernel "python3" be that Python."""
    folder = room / "share/kernels/python3"
    folder.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "P", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(room / "share"))


def test_a_kernel_whose_python_is_gone(room, monkeypatch):
    kernelspec(room, monkeypatch, room / "gone/python")
    with pytest.raises(RuntimeError, match="none starts .* run: .* -m ipykernel install --sys-prefix"):
        doctor.kernel()


def test_a_kernel_of_another_python(room, monkeypatch):
    venv.create(room / "other", symlinks=True)
    for modules in (room / "other").rglob("site-packages"):
        (modules / "all.pth").write_text(str(MODULES))
    kernelspec(room, monkeypatch, room / "other/bin/python")
    with pytest.raises(RuntimeError, match=f"the Python of {room / 'other'}, not of .* ipykernel install --sys-prefix"):
        doctor.kernel()


def test_a_kernel_that_cannot_import_minidiff(room):
    (room / "torch.py").touch()
    with pytest.raises(RuntimeError, match="import minidiff fails in .*cannot import name 'Tensor'.* pip install -e ."):
        doctor.kernel()


def test_a_kernel_that_imports_another_minidiff(room):
    (room / "minidiff").mkdir()
    (room / "minidiff/__init__.py").touch()
    with pytest.raises(RuntimeError, match=f"it imports {room / 'minidiff'}, this command .* pip install -e ."):
        doctor.kernel()


def test_inside_a_kernel_without_jupyterlab(room, monkeypatch):
    """Colab and Kaggle: the page is theirs, and the kernel is the one that asks."""
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "jupyter_client.manager", None)  # starting a kernel would fail
    monkeypatch.setattr(environment, "OURS", room / "gone/minidiff")
    versions(monkeypatch, jupyterlab=None, jupyterlab_widgets=None, ipywidgets="7.7.1")
    (room / "00_start.ipynb").unlink()
    assert "ipywidgets 7.7.1" in doctor.jupyter() and "this one" in doctor.kernel() and "this one" in doctor.notebooks()


@pytest.mark.parametrize("variable, advice", [("1", "unset OMP_NUM_THREADS"), ("", "close other programs")])
def test_one_thread(monkeypatch, variable, advice):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with pytest.raises(UserWarning, match=f"one thread on 8 CPUs; .*{advice}"):
        doctor.cores()


@pytest.mark.parametrize("free, limit, kind", [(1.2e9, "max", UserWarning), (8e9, "500000000", MemoryError)])
def test_little_memory(room, monkeypatch, free, limit, kind):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=free))
    monkeypatch.setattr(doctor, "CONTAINER", (str(room / "limit"), str(room / "none")))
    (room / "limit").write_text(f"{limit}\n")
    with pytest.raises(kind, match="GB are free, a notebook needs up to 1.5 GB; close programs"):
        doctor.memory()


def test_memory_that_nothing_tells(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(doctor, "CONTAINER", ())
    assert "does not tell" in doctor.memory()


def test_a_driver_too_old_for_this_torch(monkeypatch):
    def no_gpu():
        warnings.warn("The NVIDIA driver on your system is too old", UserWarning, stacklevel=1)
        return torch.device("cpu")

    monkeypatch.setattr(doctor, "best_device", no_gpu)
    with pytest.raises(UserWarning, match="is too old.; update its driver, or go on: the CPU is enough"):
        doctor.device()


def test_a_gpu_that_cannot_compute(monkeypatch):
    monkeypatch.setattr(doctor, "best_device", lambda: torch.device("cuda", 99))
    with pytest.raises(RuntimeError, match="cuda:99 is there but cannot compute .* CUDA_VISIBLE_DEVICES=-1"):
        doctor.device()


def test_a_full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1e8))
    with pytest.raises(RuntimeError, match="only 0.1 GB free here"):
        doctor.disk()


@pytest.mark.parametrize(
    "locked, kind, advice",
    [("here", RuntimeError, "copy the notebooks to a folder of yours"), ("data", UserWarning, "set MINIDIFF_DATA")],
)
def test_folders_that_cannot_be_written(room, monkeypatch, locked, kind, advice):
    (room / "data").mkdir()
    monkeypatch.setenv("MINIDIFF_DATA", str(room / "data/new/folder"))
    assert "can write" in doctor.writing() and not (room / "data/new").exists()
    real = doctor.TemporaryFile

    def temporary(dir):
        if (Path(dir).name == "data") == (locked == "data"):
            raise PermissionError(13, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr(doctor, "TemporaryFile", temporary)
    with pytest.raises(kind, match=f"cannot write into .*{advice}"):
        doctor.writing()


def test_notebooks_that_are_damaged_or_elsewhere(room, monkeypatch):
    assert "1 notebooks whole" in doctor.notebooks()
    (room / "deeper").mkdir()
    for name in ("deeper/01_cut.ipynb", "01_cut.ipynb"):
        (room / name).write_text('{"cells": [')
        with pytest.raises(RuntimeError, match=f"{name} is damaged .* git checkout -- "):
            doctor.notebooks()
    for notebook in room.rglob("*.ipynb"):
        notebook.unlink()
    monkeypatch.setattr(environment, "OURS", room / "gone/minidiff")
    with pytest.raises(UserWarning, match="none in .*; change to the folder of the course"):
        doctor.notebooks()


@pytest.mark.parametrize(
    "losses, advice",
    [([1.0, 0.9], "only 2 steps in 5 seconds.* close what else is running"), (range(1, 9), "run on a quieter machine")],
)
def test_a_training_that_crawls_or_learns_nothing(monkeypatch, losses, advice):
    steps = [Progress(k, float(loss), 0.0, 0.0, 0.0, 0.0) for k, loss in enumerate(losses)]
    monkeypatch.setattr("minidiff.app.runs.Run.train", lambda self, images, seconds: iter(steps))
    with pytest.raises(RuntimeError, match=advice):
        doctor.training()


def test_versions_are_compared_as_numbers():
    from minidiff.course.environment import numbers

    assert numbers("2.14.1+cu130") == (2, 14, 1)
    assert numbers("0.9") < numbers("0.10.1") < numbers("2.8.0") < numbers("2.14")
