"""Builds notebooks/NN_name.ipynb, executed, from notebooks/src/NN_name.py, and the student's copy beside it; and
notebooks/deeper/NN_name.ipynb from notebooks/src/deeper/NN_name.py.

python tools/build_notebooks.py                   writes what changed, executes the notebooks whose code changed
python tools/build_notebooks.py --all             executes every notebook (after a change in the package)
python tools/build_notebooks.py --only 03         executes chapter 03, its main line and what goes beyond it
python tools/build_notebooks.py --only deeper/03  executes one notebook of it
python tools/build_notebooks.py --time 03         executes it too, says how long it took and writes nothing
python tools/build_notebooks.py --check           says which notebooks do not match their source; runs nothing
"""

import argparse
import re
import sys
import time
from pathlib import Path

import nbformat
from course import METADATA, for_students, from_source
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from places import DEEPER, NOTEBOOKS, SOURCES, STUDENT, all_sources, built, sources, students_copy

LIMITS = {"s": 240, "GB": 1.5, "MB": 2}  # seconds with both cores free
WIDGET = "application/vnd.jupyter.widget-view+json"


def inputs(notebook):
    """All that a source decides: everything but outputs and execution counts."""
    return notebook.metadata, [(c.cell_type, c.id, c.source, c.metadata) for c in notebook.cells]


def name(source):
    """A source in what is printed: "03_name" or "deeper/03_name"."""
    return source.relative_to(SOURCES).with_suffix("").as_posix()


def number(source):
    """A source on the command line: "03" or "deeper/03"."""
    return name(source).partition("_")[0]


def wanted_of(source):
    """The notebooks that a source describes, without outputs: {path: notebook}."""
    copy = {students_copy(source): for_students(source)} if source.parent == SOURCES else {}
    return {built(source): from_source(source)} | copy


def stale(source):
    """Which of the notebooks of a source are missing, different or not executed."""
    wanted = wanted_of(source)
    found = {path: nbformat.read(path, as_version=4) for path in wanted if path.exists()}
    differ = [path for path in wanted if path not in found or inputs(found[path]) != inputs(wanted[path])]
    if built(source) not in differ and any(c.execution_count is None for c in code(found[built(source)])[0]):
        differ.append(built(source))
    return differ


def code(notebook):
    """The code cells and what decides their outputs; what a setup cell names is only where the course comes from."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return cells, ["setup" if "setup" in cell.metadata.get("tags", []) else cell.source for cell in cells]


def keep_outputs(notebook, path):
    """Gives a notebook the outputs of the one at a path if it was executed with the same code; says whether it was."""
    if not path.exists():
        return False
    (cells, ours), (executed, theirs) = code(notebook), code(nbformat.read(path, as_version=4))
    if ours != theirs or any(cell.execution_count is None for cell in executed):
        return False
    for cell, old in zip(cells, executed, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    return True


def peak_memory(pid):
    """The most memory a process has held so far, in GB; 0 where the system does not tell (not Linux)."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except FileNotFoundError:
        return 0.0
    return int(found[1]) / 1e6 if found else 0.0


def execute(notebook, folder):
    """Runs all cells in a folder and returns what it took: seconds, of them the longest cell, and the most memory."""
    began = cell_began = time.perf_counter()
    used = {"s": 0.0, "s longest cell": 0.0, "GB": 0.0}

    def begin(cell, cell_index):
        nonlocal cell_began
        cell_began = time.perf_counter()

    def measure(cell, cell_index, execute_reply):
        now = time.perf_counter()
        used["s"], used["s longest cell"] = now - began, max(used["s longest cell"], now - cell_began)
        used["GB"] = peak_memory(client.km.provisioner.pid)

    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        on_cell_execute=begin,
        on_cell_executed=measure,
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)  # without its kernel a widget is an error message
    return used


def write(notebook, path):
    nbformat.validate(notebook)
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)


def build(source, anew=False, keep=True):
    """Writes the notebooks of a source, executed if the code changed or `anew`; says whether all went well.

    Without `keep` it executes, says what that took and writes nothing.
    """
    path = built(source)
    notebook, *copy = wanted_of(source).values()
    if keep:
        for unsolved in copy:
            write(unsolved, students_copy(source))
        if not anew and keep_outputs(notebook, path):
            write(notebook, path)
            print(f"{name(source):32} same code, outputs kept", flush=True)
            return True
    path.parent.mkdir(exist_ok=True)
    try:
        used = execute(notebook, path.parent)
    except CellExecutionError as error:
        print(f"{name(source)} failed and was not written:\n{error}")
        return False
    if keep:
        write(notebook, path)
        used["MB"] = path.stat().st_size / 1e6
    over = [f"over {limit} {unit}" for unit, limit in LIMITS.items() if used.get(unit, 0) > limit]
    print(f"{name(source):32}", *(f"{value:6.2f} {unit}" for unit, value in used.items()), *over, flush=True)
    return not over


def check():
    """The names of the notebooks that are not what their sources say, or have none."""
    known = {*map(built, all_sources()), *map(students_copy, sources())}
    found = {path for folder in (NOTEBOOKS, DEEPER, STUDENT) for path in folder.glob("*.ipynb")}
    differ = [path for source in all_sources() for path in stale(source)] + sorted(found - known)
    return [path.relative_to(NOTEBOOKS).as_posix() for path in differ]


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", action="store_true")
    which.add_argument("--only", metavar="NN")
    which.add_argument("--time", metavar="NN")
    which.add_argument("--all", action="store_true")
    args = parser.parse_args()

    if args.check:
        differ = check()
        for name in differ:
            print(f"{name}: not what its source says; edit notebooks/src and run: make notebooks")
        return bool(differ)
    if one := args.only or args.time:
        chosen = [source for source in all_sources() if one in (number(source), source.name[:2])]
        if not chosen:
            print(f"expected the number of a chapter in notebooks/src, such as 03 or deeper/03, got {one!r}")
            return True
    else:
        chosen = [source for source in all_sources() if args.all or stale(source)]
    succeeded = [build(source, anew=bool(args.all or args.only), keep=not args.time) for source in chosen]
    return not all(succeeded)


if __name__ == "__main__":
    sys.exit(main())
