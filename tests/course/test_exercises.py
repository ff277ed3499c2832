"""Exercises: the check says what is wrong; right answers pass, and the wrong ones of docs/answers are refused.

And claims about live trainings: `expect` warns, and raises nothing.
"""

import ast
import contextlib
import io
import re
from pathlib import Path

import course
import numpy as np
import places
import pytest
import torch
from slices import names_read, needed_for

from minidiff.course import check, expect

CHAPTERS = places.sources()[1:]


def solution(x):
    return 2 * x


def broken(x):
    raise KeyError("mean")


def not_started(x):
    raise NotImplementedError("your turn")


def in_place(x):
    return x.mul_(2)


INPUTS = [(torch.tensor([1.0, 2, 4]),), (torch.tensor([[3.0, 1], [2, 1]]),)]


@pytest.mark.parametrize(
    "answer, reply",
    [
        (lambda x: x + x, None),
        (lambda x: (2 * x).double(), None),
        (lambda x: (2 * x).requires_grad_(), None),
        (not_started, "nothing there so far."),
        (broken, "KeyError: 'mean'."),
        (lambda x: None, "it returns None; is a return missing?"),
        (lambda x: x.sum(), "shape (), wanted (3,)."),
        (lambda x: "two", "expected numbers, got str."),
        (lambda x: (2 * x, x), "2 values, wanted 1."),
        (lambda x: (x - 3.0).to(torch.complex64) ** 0.5, "complex numbers; is there a root of something negative?"),
        (in_place, "right, but it writes into its input."),
        (lambda x: x / 0, "some values are not finite."),
        (lambda x: -2 * x, "the sign is the other way round."),
        (lambda x: 4 * x**2, "this is the square of what is wanted."),
        (lambda x: (2 * x) ** 0.5, "this is the root of what is wanted."),
        (lambda x: 0.5 / x, "this is one over what is wanted."),
        (lambda x: 1 - 2 * x, "this is one minus what is wanted."),
        (lambda x: 2 * x.flip(0), "the order is reversed."),
        (lambda x: 3 * x, "every value is 1.5 times what is wanted."),
        (lambda x: 2 * x + 1, "every value is 1 too large."),
        (lambda x: 2 * x - 0.5, "every value is 0.5 too small."),
        (lambda x: 2 * x + x**2, "off by up to 16."),
        (lambda x: 2 * x if x.ndim == 1 else 2 * x.T + x, "off by up to 3."),
    ],
)
def test_check_says_what_is_wrong_and_never_raises(answer, reply, capsys):
    check(answer, solution, INPUTS, hint="twice")
    said = capsys.readouterr().out.strip()
    assert said == ("correct" if reply is None else f"not yet: {reply} Hint: twice")


def test_check_compares_several_values(capsys):
    check(lambda x: (x, 2 * x), lambda x: (x, 2 * x), INPUTS, hint="both")
    check(lambda x: (x, 3 * x), lambda x: (x, 2 * x), INPUTS, hint="both")
    check(lambda x: x.sum() + 1, lambda x: x.sum(), INPUTS, hint="both")
    wrong = ["not yet: every value is 1.5 times what is wanted. Hint: both", "not yet: got 8, wanted 7. Hint: both"]
    assert capsys.readouterr().out.split("\n")[:3] == ["correct", *wrong]


@pytest.mark.parametrize("claim", [True, torch.tensor(0.1) < 0.2, torch.tensor([True, True]), np.float64(1) > 0])
def test_expect_confirms_a_claim(claim, capsys):
    expect(claim, "the loss falls")
    assert capsys.readouterr().out == "✓ the loss falls\n"


@pytest.mark.parametrize("claim", [False, torch.tensor(0.3) < 0.2, torch.tensor([True, False]), torch.nan < 1])
def test_expect_warns_of_a_claim_that_does_not_hold_and_never_raises(claim, capsys):
    expect(claim, "the loss falls")
    said = capsys.readouterr().out
    assert said.startswith("⚠ not in this run: the loss falls. Compare its steps") and said.count("\n") == 1


@pytest.fixture(autouse=True)
def usual_precision():
    """Some chapters compute in float64, and say so to torch; the next one must not inherit it."""
    yield
    torch.set_default_dtype(torch.float32)


def exercises(path: Path) -> dict[str, tuple[str, str, str]]:
    """By function name: its source with the solution, without it, and the source of the cell that checks it."""
    solved = [cell for cell in course.from_source(path).cells if cell.cell_type == "code"]
    found = {}
    for cell, after in zip(solved, solved[1:], strict=False):
        if course.SOLUTION.search(cell.source):
            function = next(n for n in reversed(ast.parse(cell.source).body) if isinstance(n, ast.FunctionDef))
            found[function.name] = cell.source, course.unsolved(cell.source), after.source
    return found


def context(path: Path, check_cell: str) -> dict:
    """The names that a check cell needs, from the cells that make them, with every exercise solved."""
    cells = [cell.source for cell in course.from_source(path).cells if cell.cell_type == "code"]
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for k in needed_for(cells, cells.index(check_cell)):
            exec(cells[k], names)
    return names


def replies(path: Path, answers: dict[str, list[str]]) -> dict[str, list[str]]:
    """What the chapter's checks print for each answer, given by function name as source."""
    printed = {}
    for name, sources in answers.items():
        check_cell = exercises(path)[name][2]
        names = context(path, check_cell)
        printed[name] = []
        for source in sources:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(source, names)
                exec(check_cell, names)
            printed[name].append(out.getvalue().strip())
    return printed


def mistakes(path: Path) -> list[tuple[str, str, str]]:
    """(function, wrong source, the line it earns) of a file in docs/answers."""
    found = []
    for section in re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))[1:]:
        named = re.match(r"(?:Code|Your turn): `(\w+)`", section)
        blocks = re.findall(r"```python\n(.*?)```\n\n    (.*?)\n", section, re.DOTALL)
        assert bool(blocks) == bool(named)
        found += [(named[1], source, line) for source, line in blocks]
    return found


each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


@each_chapter
def test_a_chapter_has_a_pen_a_code_and_an_open_exercise(path):
    text = "\n".join(cell.source for cell in course.from_source(path).cells)
    section = text[text.index("## Exercises") :]
    numbered = re.findall(r"\*\*(\d)\. (Pen|Code|Open)\.\*\*", section)
    assert [number for number, _ in numbered] == ["1", "2", "3"]
    assert {kind for _, kind in numbered} == {"Pen", "Code", "Open"}


@each_chapter
def test_right_answers_are_correct_and_no_answer_is_not_yet(path):
    given = exercises(path)
    said = replies(path, {name: [solved, unsolved] for name, (solved, unsolved, _) in given.items()})
    assert given
    for right, empty in said.values():
        assert right == "correct"
        assert re.fullmatch(r"not yet: nothing there so far\. Hint: .{15,}", empty)


@each_chapter
def test_typical_mistakes_are_refused_with_the_line_that_the_answers_quote(path):
    wrong = mistakes(places.ROOT / f"docs/answers/{path.stem}.md")
    names = {name for name, _, _ in wrong}
    assert names == set(exercises(path)) and all(sum(n == name for n, _, _ in wrong) >= 2 for name in names)
    said = replies(path, {name: [source for n, source, _ in wrong if n == name] for name in names})
    for name in names:
        quoted = [line for n, _, line in wrong if n == name]
        assert said[name] == quoted
        assert all(line.startswith("not yet: ") for line in quoted)


@each_chapter
def test_the_check_is_the_last_to_use_an_answer(path):
    """So that an unsolved notebook runs to its end as a solved one does."""
    cells = [cell.source for cell in course.from_source(path).cells if cell.cell_type == "code"]
    for name, (source, _, check_cell) in exercises(path).items():
        users = [cell for cell in cells[cells.index(source) + 1 :] if name in names_read(cell)]
        assert users == [check_cell]
