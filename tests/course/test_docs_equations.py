"""Equation numbers: a docstring that cites (eq. n.m) finds it as \\tag{n.m} in chapter n, or beyond its main line."""

import re
from itertools import pairwise
from pathlib import Path

import places
import pytest

CHAPTERS = range(23)  # 00 to 22; a chapter that is not written yet has no file
SOURCES = places.all_sources()
WRITTEN = sorted({int(path.name[:2]) for path in SOURCES})
CITING = sorted([*(places.ROOT / "minidiff").rglob("*.py"), *SOURCES])
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


def numbers_of(chapter: int) -> list[Number]:
    """The numbers that a chapter gives away, those of its main line first."""
    return [own for path in SOURCES if path.name.startswith(f"{chapter:02d}_") for own in tags(path)]


@pytest.mark.parametrize("path", CITING, ids=lambda path: path.relative_to(places.ROOT).as_posix())
def test_cited_equations_exist(path):
    for chapter, equation in citations(path):
        assert chapter in CHAPTERS, f"eq. {chapter}.{equation}: there is no chapter {chapter}"
        if chapter in WRITTEN:
            assert (chapter, equation) in numbers_of(chapter), f"chapter {chapter} has no eq. {chapter}.{equation}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(places.SOURCES).as_posix())
def test_tags_rise_and_are_those_of_the_chapter(path):
    numbers = tags(path)
    assert all(own == int(path.name[:2]) for own, _ in numbers)
    assert all(first < second for first, second in pairwise(numbers))


@pytest.mark.parametrize("chapter", WRITTEN)
def test_a_number_is_given_once(chapter):
    """In the main line or beyond it."""
    numbers = numbers_of(chapter)
    assert len(set(numbers)) == len(numbers)


def test_the_patterns_see_what_they_should():
    assert CITATION.findall("(eq. 2.4), eqs. 3.4, 3.5 and 4.10 hold") == ["2.4", "3.4, 3.5 and 4.10"]
    assert TAG.findall(r"x_t = \alpha x_0 \tag{2.4}") == ["2.4"]
