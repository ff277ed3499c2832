"""docs/checks.md: what its tool says today; and no equation of a chapter with folded checks is without one."""

import re

import list_checks
import places
import pytest
from list_checks import Equation, first_line, titles

EQUATIONS = list_checks.in_notebooks()
PACKAGE = list_checks.in_package()
FOLDED = {source.name for equation in EQUATIONS.values() for _, source in equation.below + equation.named}


def test_the_page_is_up_to_date():
    """If not: make notebooks, or tools/list_checks.py alone."""
    assert list_checks.PAGE.read_text(encoding="utf-8") == list_checks.page()


def test_every_equation_has_an_entry():
    text = list_checks.PAGE.read_text(encoding="utf-8")
    numbers = [
        number for source in places.all_sources() for number in list_checks.TAG.findall(source.read_text("utf-8"))
    ]
    assert sorted(re.findall(r"(?m)^- \[\((\d+\.\d+)\)\]", text)) == sorted(numbers)


@pytest.mark.parametrize("number", [n for n, equation in EQUATIONS.items() if equation.source.name in FOLDED])
def test_an_equation_is_checked(number):
    """By a check that names it or stands below it, or by tests of what cites it."""
    assert titles(EQUATIONS[number]) or any(map(list_checks.tests, PACKAGE[number]))


def test_what_belongs_to_an_equation(monkeypatch, tmp_path):
    """A check that names it, wherever it is; else the next one below; the gap above which it stands last."""
    main, deeper = tmp_path / "03_name.py", tmp_path / "deeper/03_name.py"
    deeper.parent.mkdir()
    main.write_text(
        "# %% [markdown]\n# # 03\n#\n# $$ a \\tag{3.1} $$\n#\n# $$ b \\tag{3.2} $$\n\n"
        "# %%\ndef half(x):\n    ### BEGIN SOLUTION\n    return x / 2\n    ### END SOLUTION\n\n"
        '# %% tags=["check"]\n# @title ✓ The next\nassert half(2) == 1\n\n'
        '# %% tags=["check"]\n# @title ✓ By (3.1), not by (3.9)\nassert True\n'
    )
    deeper.write_text('# %% tags=["check"]\n# @title ✓ Once more\nassert True  # (3.1)\n')
    monkeypatch.setattr(list_checks, "all_sources", lambda: [main, deeper])
    monkeypatch.setattr(list_checks, "SOURCES", tmp_path)
    first, second = list_checks.in_notebooks().values()
    assert titles(first) == ["By (3.1), not by (3.9)", "Once more (deeper)"]
    assert titles(second) == ["your turn: `half`", "The next"]
    assert first.code == second.code == ["`half`"]


def test_a_check_of_another_chapter_says_so(tmp_path):
    there = places.SOURCES / "02_name.py"
    assert titles(Equation(places.SOURCES / "03_name.py", "", named=[("It", there)])) == ["It (chapter 02)"]


@pytest.mark.parametrize(
    "formula, line",
    [
        (r" x = y, \tag{2.1} ", "x = y"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned} \tag{2.1}", "a = b"),
        (r"\left( a \\ b \right) \tag{2.1}", r"\left( a \quad b \right)"),
        ("x\n> = y .", "x = y"),
    ],
)
def test_a_formula_becomes_one_line(formula, line):
    assert first_line(formula) == line


def test_the_code_of_an_equation_is_what_cites_it_in_the_package():
    assert "process.posterior" in PACKAGE["3.4"] and "process" not in PACKAGE["3.4"]
    assert "`tests/test_process.py`" in list_checks.tests("process.posterior")
    assert list_checks.tests("process.no_such_function") == []
