"""The committed notebooks: built from their sources, executed in order, safe to show, easy to read."""

import ast
import importlib.util
import re
import statistics
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("build_notebooks", ROOT / "tools/build_notebooks.py")
builder = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(builder)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path):
    return [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source]


def outputs(path: Path):
    return [(cell, output) for cell in code_cells(path) for output in cell.outputs]


def public_names() -> set[str]:
    """Every public function and class of the package."""
    names = set()
    for path in (ROOT / "minidiff").rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names |= {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"}
    return names


def without_magics(source: str) -> str:
    return re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)


def test_the_course_opens_where_make_lab_opens_it():
    assert ROOT / "notebooks/00_start_here.ipynb" in NOTEBOOKS


def test_every_notebook_has_a_source_and_every_source_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == [source.stem for source in builder.sources()]


@each_notebook
def test_matches_its_source(path):
    source = builder.from_source(ROOT / f"notebooks/src/{path.stem}.py")
    assert builder.inputs(read(path)) == builder.inputs(source)


@each_notebook
def test_is_valid_small_and_opens_anywhere(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size <= 2e6
    assert notebook.metadata == builder.METADATA  # the kernel is python3; no widget state, no author's Python


@each_notebook
def test_was_executed_once_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_shows_no_errors_but_those_it_means(path):
    failed = {cell.id for cell, output in outputs(path) if output.output_type == "error"}
    meant = {cell.id for cell in code_cells(path) if "raises-exception" in cell.metadata.get("tags", [])}
    assert failed <= meant


@each_notebook
def test_outputs_are_pictures_and_text(path):
    """HTML and scripts can attack the reader, and widgets without a kernel are error messages."""
    kinds = {kind for _, output in outputs(path) for kind in output.get("data", {})}
    assert kinds <= {"image/png", "text/plain", "text/latex", "text/markdown"}


@each_notebook
def test_names_no_place_on_the_authors_machine(path):
    for _, output in outputs(path):
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not re.search(r"(?<!\S)(/[\w.-]+){2}|[A-Z]:\\", text)


@each_notebook
def test_code_cells_are_short(path):
    lengths = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code_cells(path)]
    assert max(lengths) <= 15 and statistics.median(lengths) <= 4


@each_notebook
def test_redefines_no_name_of_the_package(path):
    trees = [ast.parse(without_magics(cell.source)) for cell in code_cells(path)]
    defined = {n.name for t in trees for n in t.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assert not defined & public_names()


def torn_formulas(text: str) -> list[str]:
    """Lines on which a formula begun with $ goes on with what Markdown takes for a list, a quotation or a heading."""
    torn, inside = [], False
    for line in text.splitlines():
        if inside and re.match(r"\s*([-+*>#]|\d+[.)])\s", line):
            torn.append(line)
        inside = bool(line.strip()) and inside ^ bool(line.replace("$$", "").count("$") % 2)
    return torn


@each_notebook
def test_no_formula_is_torn_into_a_list(path):
    assert torn_formulas("from $k$ to $k\n- 1$, and on") == ["- 1$, and on"] and not torn_formulas("$k$\n- 1$ one")
    assert not [
        line for cell in read(path).cells if cell.cell_type == "markdown" for line in torn_formulas(cell.source)
    ]
