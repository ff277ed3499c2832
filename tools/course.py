"""How does a source become a notebook, and a notebook the copy that a student gets?

Every notebook opens with a badge and a setup cell, which no source holds: they follow from the file's path and from
`[tool.minidiff]` in pyproject.toml. Outputs are none of this module's business.
"""

import re

import jupytext
import nbformat
from links import CITATION, LIST, cell_id, linked, listed, start_of_ids
from places import ROOT, built, setting, students_copy

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
# A folded cell shows a title in the place of its code. "form" is what Colab saves after View, Show/hide code ("Hiding
# code" in colab.research.google.com/notebooks/forms.ipynb); JupyterLab draws a bar that opens it.
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
SOLUTION = re.compile(r"(?ms)^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION")
FOLD = re.compile(r"(?s)<details>.*?</details>")


def opening(path):
    """The badge and the setup cell of the notebook at a path."""
    start, where = start_of_ids(path), setting()
    badge = BADGE.format(colab=COLAB, path=path.relative_to(ROOT).as_posix(), **where)
    setup = nbformat.v4.new_code_cell(SETUP.format(**where), id=f"{start}-setup")
    setup.metadata = nbformat.from_dict({"cellView": "form", "tags": ["setup", "nbval-ignore-output"]})
    return nbformat.v4.new_markdown_cell(badge, id=f"{start}-badge"), setup


def described(source, path):
    """The notebook that a source describes, without outputs, as it stands at a path."""
    notebook = jupytext.read(source, fmt="py:percent")
    keys = CITATION.findall("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = cell_id(cell.source if cell.cell_type == "markdown" else "", number, path)
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own note about blank lines
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, source, path).replace(LIST, listed(keys))
        elif {"check", "folded"} & set(cell.metadata.get("tags", [])):
            cell.metadata.update(FOLDED)
    badge, setup = opening(path)
    title, *rest = notebook.cells
    notebook.cells = [badge, title, setup, *rest]
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def from_source(source):
    """The notebook that a source describes, without outputs."""
    return described(source, built(source))


def unsolved(code):
    """A code cell as students get it: what stands between the marks gives way to an error that `check` knows."""
    return SOLUTION.sub(r'\1raise NotImplementedError("your turn")', code)


def for_students(source):
    """The notebook that a main line describes, without solutions, without the answers folded into its exercises, and
    without the cells tagged "answer", which show that such an answer is right."""
    notebook = described(source, students_copy(source))
    notebook.cells = [cell for cell in notebook.cells if "answer" not in cell.metadata.get("tags", [])]
    in_exercises = False
    for cell in notebook.cells:
        in_exercises |= "## Exercises" in cell.source
        if cell.cell_type == "code":
            cell.source = unsolved(cell.source)
        elif in_exercises:
            cell.source = FOLD.sub("*Your answer:*", cell.source)
    return notebook
