"""How does a source become a notebook, and a notebook the copy that a student gets?

Every notebook opens with a badge and a setup cell, which no source holds: they follow from the file's path and from
`[tool.minidiff]` in pyproject.toml. Outputs are none of this module's business.
"""

import copy
import re
import sys
from pathlib import Path

import jupytext
import nbformat

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
STUDENT = NOTEBOOKS / "student"

# Names that Colab, Binder and every Jupyter know; the local Python's version would change with each author.
METADATA = {
    "colab": {"provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
COLAB = "https://colab.research.google.com"
BADGE = "[![Open In Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{repository}/blob/{branch}/{path})"
SETUP = """\
# @title Setup: run me first {{ display-mode: "form" }}
try:
    import minidiff
except ModuleNotFoundError:  # Colab, Kaggle, a bare kernel
    %pip install -q "minidiff @ git+https://github.com/{repository}@{branch}"

from minidiff.course.hosts import hello

hello()"""
SOLUTION = re.compile(r"(?ms)^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION")
FOLD = re.compile(r"(?s)<details>.*?</details>")


def setting():
    """Where the course lives: {"repository": "OWNER/REPO", "branch": ...}."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["minidiff"]


def sources():
    return sorted((NOTEBOOKS / "src").glob("[0-9][0-9]_*.py"))


def built(source, folder=NOTEBOOKS):
    """The path of the notebook that belongs to a source."""
    return folder / f"{source.stem}.ipynb"


def opening(path):
    """The badge and the setup cell of the notebook at a path."""
    name = path.stem.replace("_", "-")
    where = setting()
    badge = BADGE.format(colab=COLAB, path=path.relative_to(ROOT).as_posix(), **where)
    setup = nbformat.v4.new_code_cell(SETUP.format(**where), id=f"{name}-setup")
    setup.metadata = nbformat.from_dict({"cellView": "form", "tags": ["setup", "nbval-ignore-output"]})
    return nbformat.v4.new_markdown_cell(badge, id=f"{name}-badge"), setup


def from_source(source):
    """The notebook a source describes, without outputs. Ids come from positions: a rebuild changes none."""
    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem}-{number:02d}".replace("_", "-")
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own note about blank lines
    badge, setup = opening(built(source))
    title, *rest = notebook.cells
    notebook.cells = [badge, title, setup, *rest]
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def unsolved(code):
    """A code cell as students get it: what stands between the marks gives way to an error that `check` knows."""
    return SOLUTION.sub(r'\1raise NotImplementedError("your turn")', code)


def for_students(source):
    """The notebook a source describes, without solutions, the answers folded into its exercises, and the cells tagged
    "answer", which show that such an answer is right."""
    notebook = copy.deepcopy(from_source(source))
    notebook.cells[0], notebook.cells[2] = opening(built(source, STUDENT))
    notebook.cells = [cell for cell in notebook.cells if "answer" not in cell.metadata.get("tags", [])]
    in_exercises = False
    for cell in notebook.cells:
        in_exercises |= "## Exercises" in cell.source
        if cell.cell_type == "code":
            cell.source = unsolved(cell.source)
        elif in_exercises:
            cell.source = FOLD.sub("*Your answer:*", cell.source)
    return notebook
