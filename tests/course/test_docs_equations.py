"""Equation numbers: a docstring that cites (eq. n.m) finds it as \\tag{n.m} in chapter n."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = range(22)  # 00 to 21; a chapter that is not written yet has no file
SOURCES = {int(path.name[:2]): path for path in (ROOT / "notebooks/src").glob("[0-9][0-9]_*.py")}
CITING = sorted([*(ROOT / "minidiff").rglob("*.py"), *SOURCES.values()])
CITATION = re.compile(r"\beqs?\.\s*(\d+\.\d+(?:(?:,|-| and| to)\s*\d+\.\d+)*)")
TAG = re.compile(r"\\tag\{([^}]*)\}")

Number = tuple[int, int]


def number(text: str) -> Number:
    chapter, _, equation = text.partition(".")
    return int(chapter), int(equation)


def tags(path: Path) -> list[Number]:
    return [number(found) for found in TAG.findall(path.read_text(encoding="utf-8"))]


def citations(path: Path) -> set[Number]:
    """All numbers cited in a file: (eq. 2.4), eqs. 3.4, 3.5, eqs. 5.1-5.3 (the two ends)."""
    groups = CITATION.findall(path.read_text(encoding="utf-8"))
    return {number(found) for group in groups for found in re.findall(r"\d+\.\d+", group)}


@pytest.mark.parametrize("path", CITING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_cited_equations_exist(path):
    for chapter, equation in citations(path):
        assert chapter in CHAPTERS, f"eq. {chapter}.{equation}: there is no chapter {chapter}"
        if chapter in SOURCES:
            source = SOURCES[chapter]
            assert (chapter, equation) in tags(source), f"{source.name} has no eq. {chapter}.{equation}"


@pytest.mark.parametrize("chapter", sorted(SOURCES))
def test_tags_are_unique_and_in_order(chapter):
    numbers = tags(SOURCES[chapter])
    assert all(own == chapter for own, _ in numbers)
    assert all(first < second for first, second in pairwise(numbers))


def test_the_patterns_see_what_they_should():
    assert CITATION.findall("(eq. 2.4), eqs. 3.4, 3.5 and 4.10 hold") == ["2.4", "3.4, 3.5 and 4.10"]
    assert TAG.findall(r"x_t = \alpha x_0 \tag{2.4}") == ["2.4"]
