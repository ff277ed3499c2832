"""Exercises: the check says what is wrong; right answers pass, and the wrong ones of docs/answers are refused.

And claims about live trainings: `expect` warns, and raises nothing.
"""

import ast
import contextlib
import io
import re
import textwrap
from pathlib import Path

import course
import numpy as np
import places
import pytest
import torch
from slices import names_read, names_written, needed_for

from minidiff import Cosine, FromBetas, linear_betas
from minidiff.course import check, expect, yours

CHAPTERS = places.sources()[1:]


def solution(x):
    return 2 * x


def broken(x):
    raise KeyError("mean")


def not_started(x):
    raise NotImplementedError("your turn")


def in_place(x):
    return x.mul_(2)


INPUTS = [(torch.tensor([[3.0, 1], [2, 1]]),), (torch.tensor([1.0, 2, 4]),)]


def said(capsys, *arguments, **keywords) -> list[str]:
    """The lines that a check prints."""
    check(*arguments, **keywords)
    return capsys.readouterr().out.splitlines()


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
        (lambda x: (2 * x, x), "2 results, wanted 1."),
        (lambda x: (x - 3.0).to(torch.complex64) ** 0.5, "complex numbers; is there a root of something negative?"),
        (in_place, "right, but it writes into its input."),
        (lambda x: x / 0, "some values are not finite."),
        (lambda x: -2 * x, "the sign is the other way round."),
        (lambda x: 4 * x**2, "this is the square of what is wanted."),
        (lambda x: (2 * x) ** 0.5, "this is the root of what is wanted."),
        (lambda x: 0.5 / x, "this is one over what is wanted."),
        (lambda x: 1 - 2 * x, "this is one minus what is wanted."),
        (lambda x: 2 * x.flip(tuple(range(x.ndim))), "the order is reversed."),
        (lambda x: 3 * x, "every value is 1.5 times what is wanted."),
        (lambda x: 2 * x + 1, "every value is 1 too large."),
        (lambda x: 2 * x - 0.5, "every value is 0.5 too small."),
        (lambda x: 2 * x + x**2, "off by up to 16."),
        (lambda x: 2 * x if x.ndim == 1 else 2 * x.T + x, "off by up to 3."),
    ],
)
def test_check_says_what_is_wrong_and_never_raises(answer, reply, capsys):
    first, *_ = said(capsys, answer, solution, INPUTS, hint="twice")
    assert first == ("correct" if reply is None else f"not yet: {reply} Hint: twice")


@pytest.mark.parametrize("power", [lambda x: x ^ 2, lambda x: x.double() ^ 0.5, lambda x: 0.5**2 * x + (0.5 ^ 2)])
def test_a_hat_is_not_taken_for_an_answer_that_is_missing(power, capsys):
    """torch raises NotImplementedError for x^2, as the place of an answer does."""
    assert said(capsys, power, solution, INPUTS, hint="twice") == [
        "not yet: in Python ^ is no power; that is **. Hint: twice",
        "  given   x = [1, 2, 4]",
    ]


def test_only_our_own_error_means_that_nothing_is_there(capsys):
    def unsupported(x):
        raise NotImplementedError("no such kernel.\nA long story follows.")

    first, *_ = said(capsys, unsupported, solution, INPUTS, hint="twice")
    assert first == "not yet: NotImplementedError: no such kernel. Hint: twice"
    assert said(capsys, not_started, solution, INPUTS, hint="twice") == ["not yet: nothing there so far. Hint: twice"]


def test_the_result_that_is_wrong_is_named(capsys):
    def both(x):
        return x, 2 * x

    assert said(capsys, both, both, INPUTS, hint="both") == ["correct"]
    assert said(capsys, lambda x: (x, 3 * x), both, INPUTS, hint="both") == [
        "not yet: in result 2 of 2, every value is 1.5 times what is wanted. Hint: both",
        "  given   x = [1, 2, 4]",
        "  yours   [3, 6, 12]",
        "  wanted  [2, 4, 8]",
    ]
    first, *_ = said(capsys, lambda x: x, both, INPUTS, hint="both")
    assert first == "not yet: 1 result, wanted 2. Hint: both"


def test_the_smallest_input_that_fails_is_shown(capsys):
    inputs = [(torch.ones(2, 5), 7), (torch.tensor([1.0, -2.0]), 3), (torch.tensor([1 / 3, 2.0]), 1)]
    assert said(capsys, lambda x, k: x * k if k < 2 else x, lambda x, k: x * k, inputs, hint="k") == [
        "not yet: every value is 0.333 times what is wanted. Hint: k",
        "  given   x = [1, -2], k = 3",
        "  yours   [1, -2]",
        "  wanted  [3, -6]",
    ]


def test_a_slip_in_one_number_is_named_if_it_explains_every_input(capsys):
    numbers = [(torch.tensor(0.5), 0), (torch.tensor(3.0), 0)]
    first, *_ = said(capsys, lambda x, k: x**2, lambda x, k: x, numbers, hint="x")
    assert first == "not yet: this is the square of what is wanted. Hint: x"
    first, *_ = said(capsys, lambda x, k: 0 * x + 2, lambda x, k: x, numbers, hint="x")
    assert first == "not yet: got 2, wanted 0.5. Hint: x"  # by chance one over it


def test_of_a_large_result_the_first_wrong_place_is_shown(capsys):
    def careless(x):
        return torch.where(torch.arange(8) == 5, 0, 2 * x)

    assert said(capsys, careless, solution, [(torch.ones(2, 8),)], hint="twice") == [
        "not yet: off by up to 2. Hint: twice",
        "  given   x = a tensor (2, 8)",
        "  yours   0 at [0, 5]",
        "  wanted  2 at [0, 5]",
    ]


def test_as_many_digits_are_shown_as_tell_the_two_apart(capsys):
    assert said(capsys, lambda x: x + 1e-4, lambda x: x, [(3.14159,)], hint="none") == [
        "not yet: got 3.1417, wanted 3.1416. Hint: none",
        "  given   x = 3.142",
    ]


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: [2.0, 4.0, 8.0],
        lambda x: (2, 4, 8),
        lambda x: [2 * value for value in x],
        lambda x: np.array([2, 4, 8]),
    ],
)
def test_lists_tuples_and_arrays_with_the_right_values_are_right(answer, capsys):
    assert said(capsys, answer, solution, INPUTS[1:], hint="twice") == ["correct"]


def test_numbers_and_rows_of_a_tensor_with_the_right_values_are_right(capsys):
    def mean_and_std(x):
        return x.mean(), x.std()

    for answer in (lambda x: [float(x.mean()), float(x.std())], lambda x: torch.stack([x.mean(), x.std()])):
        assert said(capsys, answer, mean_and_std, INPUTS, hint="two") == ["correct"]
    first, *_ = said(capsys, lambda x: [1.0, 2.0], solution, INPUTS[1:], hint="twice")
    assert first == "not yet: shape (2,), wanted (3,). Hint: twice"


class Thing:
    """Its text names a place in memory."""


@pytest.mark.parametrize(
    "value, text",
    [
        (0.123456, "0.1235"),
        (torch.tensor([[1.0, 0.5], [0.25, -3.0]]), "[[1, 0.5], [0.25, -3]]"),
        (torch.zeros(3, 4), "a tensor (3, 4)"),
        ((torch.tensor(2), [1.5, True]), "[2, [1.5, True]]"),
        ([0.0] * 99, "list"),
        (Cosine(), "Cosine()"),
        (FromBetas(linear_betas(1000)), "FromBetas"),
        (solution, "solution"),
        (lambda x: x, "function"),
        (Thing(), "Thing"),
        (torch.Generator(), "Generator"),
    ],
)
def test_inputs_are_shown_in_few_words(value, text, capsys):
    *_, given, _, _ = said(capsys, lambda value, x: -x, lambda value, x: x, [(value, INPUTS[1][0])], hint="x")
    assert given == f"  given   value = {text}, x = [1, 2, 4]"


def test_an_answer_without_a_signature_is_checked_too(capsys):
    assert said(capsys, torch.neg, solution, INPUTS, hint="twice")[1] == "  given   [1, 2, 4]"


@pytest.mark.parametrize("answer", [not_started, broken, in_place, lambda x: 3 * x])
def test_a_notebook_goes_on_with_the_solution_where_the_answer_is_not_right(answer, capsys):
    assert yours(answer, solution, INPUTS, hint="twice") is solution
    assert capsys.readouterr().out.splitlines() == said(capsys, answer, solution, INPUTS, hint="twice")


def test_a_notebook_goes_on_with_an_answer_that_is_right(capsys):
    def answer(x):
        return x + x

    assert yours(answer, solution, INPUTS, hint="twice") is answer
    assert capsys.readouterr().out == "correct\n"
    assert yours(lambda x: x + 1e-3, lambda x: x, [(1.0,)], "none", tolerance=1e-2)(1.0) == 1.001


@pytest.mark.parametrize("claim", [True, torch.tensor(0.1) < 0.2, torch.tensor([True, True]), np.float64(1) > 0])
def test_expect_confirms_a_claim(claim, capsys):
    expect(claim, "the loss falls")
    assert capsys.readouterr().out == "✓ the loss falls\n"


@pytest.mark.parametrize("claim", [False, torch.tensor(0.3) < 0.2, torch.tensor([True, False]), torch.nan < 1])
def test_expect_warns_of_a_claim_that_does_not_hold_and_never_raises(claim, capsys):
    expect(claim, "the loss falls")
    warning = capsys.readouterr().out
    assert warning.startswith("⚠ not in this run: the loss falls. Compare its steps") and warning.count("\n") == 1


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
    """(function, wrong source, what the check prints) of a file in docs/answers."""
    found = []
    for section in re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))[1:]:
        named = re.match(r"Code: `(\w+)`", section)
        blocks = re.findall(r"(?s)```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", section)
        assert bool(blocks) == bool(named)
        found += [(named[1], source, textwrap.dedent(reply).strip()) for source, reply in blocks]
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
    printed = replies(path, {name: [solved, unsolved] for name, (solved, unsolved, _) in given.items()})
    assert given
    for right, empty in printed.values():
        assert right == "correct"
        assert re.fullmatch(r"not yet: nothing there so far\. Hint: .{15,}", empty)


@each_chapter
def test_typical_mistakes_are_refused_with_the_lines_that_the_answers_quote(path):
    wrong = mistakes(places.ROOT / f"docs/answers/{path.stem}.md")
    names = {name for name, _, _ in wrong}
    assert names == set(exercises(path)) and all(sum(n == name for n, _, _ in wrong) >= 2 for name in names)
    printed = replies(path, {name: [source for n, source, _ in wrong if n == name] for name in names})
    for name in names:
        quoted = [reply for n, _, reply in wrong if n == name]
        assert printed[name] == quoted
        assert all(reply.startswith("not yet: ") for reply in quoted)


@each_chapter
def test_the_check_is_the_last_to_use_an_answer(path):
    """So that an unsolved notebook runs to its end as a solved one does."""
    cells = [cell.source for cell in course.from_source(path).cells if cell.cell_type == "code"]
    for name, (source, _, check_cell) in exercises(path).items():
        users = [cell for cell in cells[cells.index(source) + 1 :] if name in names_read(cell)]
        # `name = yours(name, ...)` goes on with an answer that is known to be right
        assert users[0] == check_cell and (users == [check_cell] or name in names_written(check_cell))
