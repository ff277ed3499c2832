"""The committed notebooks: built from their sources, executed in order, safe to show, easy to read."""

import ast
import re
from pathlib import Path

import build_notebooks as builder
import course
import links
import nbformat
import places
import pytest
from slices import names_read, names_written

ROOT = places.ROOT
MAIN = sorted(places.NOTEBOOKS.glob("*.ipynb"))
DEEPER = sorted(places.DEEPER.glob("*.ipynb"))
STUDENT = sorted(places.STUDENT.glob("*.ipynb"))


def in_folder(path: Path) -> str:
    """A notebook's name in the names of tests: 03_name, deeper/03_name."""
    return path.relative_to(places.NOTEBOOKS).with_suffix("").as_posix()


each_notebook = pytest.mark.parametrize("path", MAIN + DEEPER, ids=in_folder)
each_main_line = pytest.mark.parametrize("path", MAIN, ids=in_folder)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path):
    return [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source]


def outputs(path: Path):
    return [(cell, output) for cell in code_cells(path) for output in cell.outputs]


def public_names() -> set[str]:
    """Every public function and class of the package, but for the tools of single chapters."""
    names = set()
    for path in set((ROOT / "minidiff").rglob("*.py")) - set((ROOT / "minidiff/course").glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names |= {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"}
    return names


def without_magics(source: str) -> str:
    return re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)


def test_the_course_opens_where_make_lab_opens_it():
    assert places.NOTEBOOKS / "00_start_here.ipynb" in MAIN


def test_every_notebook_has_a_source_and_every_source_a_notebook():
    assert MAIN + DEEPER == [places.built(source) for source in places.all_sources()]
    assert STUDENT == [places.students_copy(source) for source in places.sources()]


@pytest.mark.parametrize("source", places.all_sources(), ids=builder.name)
def test_it_and_its_students_copy_match_their_source(source):
    assert not builder.stale(source)


def test_a_notebook_beyond_a_main_line_belongs_to_one():
    assert {path.name for path in DEEPER} <= {path.name for path in MAIN}


@pytest.mark.parametrize("path", MAIN + DEEPER + STUDENT, ids=in_folder)
def test_what_is_tagged_so_is_folded_and_nothing_else_is(path):
    """In Colab to a form with its title, in JupyterLab to a bar."""
    for cell in code_cells(path):
        tags = cell.metadata.get("tags", [])
        folded = {key: value for key, value in cell.metadata.items() if key in course.FOLDED}
        if "setup" not in tags:
            assert folded == (course.FOLDED if {"check", "folded"} & set(tags) else {})
            assert cell.source.startswith("# @title ✓ ") == ("check" in tags)
            assert cell.source.startswith("# @title ") == bool(folded)


@pytest.mark.parametrize("path", MAIN + DEEPER + STUDENT, ids=in_folder)
def test_every_numbered_equation_can_be_linked_to(path):
    text = without_outputs(path)
    anchors = [links.ANCHOR.format(links.anchor(number)) for number in links.TAG.findall(text)]
    assert links.ANCHORS.findall(text) == anchors


@each_notebook
def test_ids_of_cells_are_its_own(path):
    """No id of a main line is one of the notebook that goes beyond it: a link to a cell is a link to one cell."""
    ids = [cell.id for cell in read(path).cells]
    others = {cell.id for other in MAIN + DEEPER if other != path for cell in read(other).cells}
    assert len(set(ids)) == len(ids) and not set(ids) & others


@each_notebook
def test_is_valid_small_and_opens_anywhere(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size <= 2e6
    assert notebook.metadata == course.METADATA  # the kernel is python3; no widget state, no author's Python


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
    """At most 15 lines; where chapters are rebuilt, test_main_lines.py asks for less."""
    assert max(len([line for line in cell.source.splitlines() if line.strip()]) for cell in code_cells(path)) <= 15


@each_notebook
def test_redefines_no_name_of_the_package(path):
    trees = [ast.parse(without_magics(cell.source)) for cell in code_cells(path)]
    defined = {n.name for t in trees for n in t.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assert not defined & public_names()


def without_outputs(path: Path) -> str:
    """All that a notebook says, outputs left out."""
    return "\n\n".join(cell.source for cell in read(path).cells)


@pytest.mark.parametrize("path", MAIN + DEEPER + STUDENT, ids=in_folder)
def test_opens_with_a_badge_that_leads_to_itself_then_the_title_then_the_setup(path):
    badge, title, setup, *_ = read(path).cells
    owner, branch = places.setting()["repository"], places.setting()["branch"]
    link = f"https://colab.research.google.com/github/{owner}/blob/{branch}/"
    assert link in badge.source and (ROOT / badge.source.split(link)[1].removesuffix(")")) == path
    assert title.source.startswith("# ")
    assert setup.metadata == {"cellView": "form", "tags": ["setup", "nbval-ignore-output"]}
    assert f"git+https://github.com/{owner}@{branch}" in setup.source


@each_notebook
def test_pip_installs_the_course_and_nothing_else(path):
    installs = re.findall(r"pip install (.*)", "\n".join(cell.source for cell in code_cells(path)))
    assert len(installs) == 1 and installs[0].startswith('-q "minidiff @ ')


@pytest.mark.parametrize("path", STUDENT, ids=lambda path: path.stem)
def test_a_students_copy_gives_no_answer_away(path):
    solved, copy = without_outputs(places.NOTEBOOKS / path.name), without_outputs(path)
    taken = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", solved, re.DOTALL)
    returned = [line for text in taken for line in text.splitlines() if line.strip().startswith("return")]
    assert len(returned) >= len(taken) and not any(line in copy for line in returned)
    assert copy.count('raise NotImplementedError("your turn")') == len(taken)
    assert "<details>" not in copy.partition("## Exercises")[2]
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(path))
    assert path.stat().st_size < 2e5


def missing_names(path: Path) -> set[str]:
    """Names that code cells read and that no cell before them binds, the built-in ones among them."""
    missing, bound = set(), set()
    for cell in code_cells(path):
        missing |= names_read(cell.source) - bound
        bound |= names_written(cell.source)
    return missing


@each_main_line
def test_nothing_that_was_left_out_for_students_is_needed_later(path):
    assert missing_names(places.STUDENT / path.name) <= missing_names(path) | {"NotImplementedError"}


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
