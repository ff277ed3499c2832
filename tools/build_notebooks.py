"""Builds notebooks/NN_name.ipynb, executed, from notebooks/src/NN_name.py.

python tools/build_notebooks.py            executes the notebooks whose source changed
python tools/build_notebooks.py --all      executes every notebook (after a change in the package)
python tools/build_notebooks.py --only 03  executes chapter 03
python tools/build_notebooks.py --check    says which notebooks do not match their source; runs nothing
"""

import argparse
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
LIMITS = {"s": 240, "GB": 1.5, "MB": 2}  # seconds with both cores free
# Names that Colab, Binder and every Jupyter know; the local Python's version would change with each author.
METADATA = {
    "accelerator": "GPU",
    "colab": {"provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def sources():
    return sorted((NOTEBOOKS / "src").glob("[0-9][0-9]_*.py"))


def built(source):
    """The path of the notebook that belongs to a source."""
    return NOTEBOOKS / f"{source.stem}.ipynb"


def from_source(source):
    """The notebook a source describes, without outputs. Ids come from positions: a rebuild changes none."""
    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem}-{number:02d}".replace("_", "-")
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own note about blank lines
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def inputs(notebook):
    """All that a source decides: everything but outputs and execution counts."""
    return notebook.metadata, [(c.cell_type, c.id, c.source, c.metadata) for c in notebook.cells]


def stale(source):
    """Whether the notebook is missing, not what its source says, or not executed."""
    path = built(source)
    if not path.exists():
        return True
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    return inputs(notebook) != inputs(from_source(source)) or any(c.execution_count is None for c in code)


def peak_memory(pid):
    """The most memory a process has held so far, in GB; 0 where the system does not tell (not Linux)."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except FileNotFoundError:
        return 0.0
    return int(found[1]) / 1e6 if found else 0.0


def execute(notebook):
    """Runs all cells in notebooks/ and returns the kernel's peak memory in GB."""
    peak = 0.0

    def measure(cell, cell_index, execute_reply):
        nonlocal peak
        peak = peak_memory(client.km.provisioner.pid)

    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        on_cell_executed=measure,
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)  # without its kernel a widget is an error message
    return peak


def build(source):
    """Executes one notebook and writes it; returns whether it ran and stayed within the limits."""
    notebook, start = from_source(source), time.perf_counter()
    try:
        peak = execute(notebook)
    except CellExecutionError as error:
        print(f"{source.name} failed and was not written:\n{error}")
        return False
    seconds = time.perf_counter() - start
    nbformat.validate(notebook)
    nbformat.write(notebook, built(source))
    used = {"s": seconds, "GB": peak, "MB": built(source).stat().st_size / 1e6}
    over = [f"over {LIMITS[unit]} {unit}" for unit in used if used[unit] > LIMITS[unit]]
    print(f"{source.stem:32}", *(f"{used[unit]:6.2f} {unit}" for unit in used), *over, flush=True)
    return not over


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", action="store_true")
    which.add_argument("--only", metavar="NN")
    which.add_argument("--all", action="store_true")
    args = parser.parse_args()

    if args.check:
        known = {built(source) for source in sources()}
        differ = [source.name for source in sources() if stale(source)]
        differ += [f"{path.name} (no source)" for path in NOTEBOOKS.glob("*.ipynb") if path not in known]
        for name in differ:
            print(f"{name}: notebook and source differ; edit notebooks/src and run: make notebooks")
        return bool(differ)
    if args.only:
        chosen = [source for source in sources() if source.name.startswith(f"{args.only}_")]
        if not chosen:
            print(f"expected the number of a chapter in notebooks/src, got {args.only!r}")
            return True
    else:
        chosen = [source for source in sources() if args.all or stale(source)]
    succeeded = [build(source) for source in chosen]
    return not all(succeeded)


if __name__ == "__main__":
    sys.exit(main())
