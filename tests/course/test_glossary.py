"""docs/glossary.md: one letter, one meaning; a plain sentence for each word; links from chapters find their word."""

import re

import places
import pytest

TEXT = (places.ROOT / "docs/glossary.md").read_text(encoding="utf-8")
LETTERS, CODEBASES, WORDS = re.split(r"(?m)^## .*$", TEXT)[1:]
ENTRIES = re.findall(r"(?ms)^### (.+?)\n\n(.+?)\n(?=\n###|\Z)", WORDS)
LINK = re.compile(r"\]\(\.\./docs/glossary\.md#([^)]*)\)")


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its heading and its rule."""
    lines = re.findall(r"(?m)^\|(.*)\|$", text)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines[2:]]


def slug(heading: str) -> str:
    """The anchor of a heading on GitHub, in the book and in JupyterLab, which agree where all is in small letters."""
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def test_a_letter_has_one_meaning():
    letters = [letter for cell, *_ in rows(LETTERS) for letter in re.findall(r"\$(.+?)\$", cell)]
    assert len(letters) > 20 and len(set(letters)) == len(letters)


def test_every_letter_says_where_it_comes_from():
    chapters = {source.name[:2] for source in places.sources()}
    assert all(set(chapter.split(", ")) <= chapters for *_, chapter in rows(LETTERS))


def test_eight_codebases_have_a_name_for_everything():
    _, *names = re.search(r"(?m)^\| ours \|(.*)\|$", CODEBASES)[0].strip("| ").split("|")
    assert len(names) == 8
    assert len(rows(CODEBASES)) > 10 and all(len(row) == 9 and all(row) for row in rows(CODEBASES))


def test_words_are_in_order_and_each_has_one_sentence_and_a_chapter():
    headings = [heading for heading, _ in ENTRIES]
    assert len(headings) == len(re.findall("(?m)^### ", WORDS)) >= 60
    assert headings == sorted(set(headings)) and all(heading == heading.lower() for heading in headings)
    for heading, meaning in ENTRIES:
        assert re.search(r"[.] \((\d\d)(?:(?:, | to )\d\d)*\)$", meaning), heading
        assert len(meaning.split()) < 45 and "\n\n" not in meaning, heading


@pytest.mark.parametrize("source", places.all_sources(), ids=lambda path: path.relative_to(places.SOURCES).as_posix())
def test_links_from_chapters_find_their_word(source):
    wanted = set(LINK.findall(source.read_text(encoding="utf-8")))
    assert wanted <= {slug(heading) for heading, _ in ENTRIES} | {"letters", "the-same-things-in-eight-codebases"}
