"""Links in notebooks: equations, papers and pages of docs/ are found from each folder, and nothing else is touched."""

import re

import links
import places
import pytest
from links import linked, unlinked

CHAPTER = places.SOURCES / "03_name.py"
BEYOND = places.SOURCES / "deeper/03_name.py"
EQUATIONS = {
    "2.5": (places.SOURCES / "02_name.py", "eq-2-4"),
    "3.1": (CHAPTER, "eq-3-1"),
    "3.2": (CHAPTER, "eq-3-1"),
    "3.9": (BEYOND, "eq-3-9"),
}
PAPERS = {
    "ho2020": {
        "authors": "Ho et al.",
        "year": 2020,
        "title": "Denoising",
        "venue": "NeurIPS 2020",
        "url": "https://a/b",
    },
    "do2019": {"authors": "Do & Re", "year": 2019, "title": "Noise", "venue": "ICML 2019", "url": "https://c/d"},
}


@pytest.fixture(autouse=True)
def small_course(monkeypatch):
    monkeypatch.setattr(links, "equations", lambda: EQUATIONS)
    monkeypatch.setattr(links, "references", lambda: PAPERS)


def as_main_line(text):
    return linked(text, CHAPTER, places.built(CHAPTER))


def as_students_copy(text):
    return linked(text, CHAPTER, places.students_copy(CHAPTER))


def as_deeper(text):
    return linked(text, BEYOND, places.built(BEYOND))


@pytest.mark.parametrize(
    "number, main_line, students_copy, deeper",
    [
        ("3.2", "#scrollTo=eq-3-2", "#scrollTo=eq-3-2", "../03_name.ipynb#cell-id=eq-3-1"),
        ("2.5", "02_name.ipynb#cell-id=eq-2-4", "02_name.ipynb#cell-id=eq-2-4", "../02_name.ipynb#cell-id=eq-2-4"),
        ("3.9", "deeper/03_name.ipynb#cell-id=eq-3-9", "../deeper/03_name.ipynb#cell-id=eq-3-9", "#scrollTo=eq-3-9"),
    ],
)
def test_an_equation_is_linked_from_every_folder(number, main_line, students_copy, deeper):
    assert as_main_line(f"by ({number}), twice") == f"by [({number})]({main_line}), twice"
    assert as_students_copy(f"by ({number}), twice") == f"by [({number})]({students_copy}), twice"
    assert as_deeper(f"by ({number}), twice") == f"by [({number})]({deeper}), twice"


@pytest.mark.parametrize(
    "text",
    [
        "(9.9) and (0.5)",
        "`f(3.1)`",
        "$f(3.1)$",
        "## By (3.1)",
        "[by (3.1)](x.ipynb)",
        "```\n(3.1)\n```",
        "<b>(3.1)</b>",
    ],
)
def test_what_is_no_mention_of_an_equation_stays(text):
    assert as_main_line(text) == text


FORMULA = "$$ x\n= y \\tag{3.1} $$"
MARK = '<a id="scrollTo=eq-3-1"></a>'


@pytest.mark.parametrize(
    "text, anchored",
    [
        (f"Two lines\nlead up.\n\n{FORMULA}\n\nOn.", f"{MARK}Two lines\nlead up.\n\n{FORMULA}\n\nOn."),
        (f"Far.\n\nNear.\n\n{FORMULA}", f"Far.\n\n{MARK}Near.\n\n{FORMULA}"),
        (f"## Title\nText.\n\n{FORMULA}", f"## Title\n{MARK}Text.\n\n{FORMULA}"),
        (f"## Title\n\n{FORMULA}", f"## Title\n\n{MARK}\n\n{FORMULA}"),
        (f"- one\n- two\n\n{FORMULA}", f"- one\n- two\n\n{MARK}\n\n{FORMULA}"),
        ("- one\n\n  $$ x \\tag{3.1} $$", f"- one\n\n  {MARK}\n\n  $$ x \\tag{{3.1}} $$"),
        ("> Box.\n>\n> $$ x \\tag{3.1} $$", f"> Box.\n>\n> {MARK}\n>\n> $$ x \\tag{{3.1}} $$"),
        ("```\ncode\n```\n\n$$ x \\tag{3.1} $$", f"```\ncode\n```\n\n{MARK}\n\n$$ x \\tag{{3.1}} $$"),
        ("Text.\n\n$$ x = y $$", "Text.\n\n$$ x = y $$"),
    ],
)
def test_the_paragraph_before_a_numbered_formula_gets_its_anchor(text, anchored):
    assert as_main_line(text) == anchored


def test_a_formula_with_two_numbers_has_two_anchors():
    assert as_main_line("Both:\n\n$$ x \\tag{3.1} $$").count("<a id=") == 1
    both = as_main_line("Both:\n\n$$ x \\tag{3.1} \\\\ y \\tag{3.2} $$")
    assert both.startswith('<a id="scrollTo=eq-3-1"></a><a id="scrollTo=eq-3-2"></a>Both:')


def test_the_book_gets_the_text_without_links_and_anchors_of_equations():
    text = f"Lead (3.1), [x](02_name.ipynb).\n\n{FORMULA}\n\nBy (2.5)."
    assert as_main_line(text) != text and unlinked(as_main_line(text)) == text


@pytest.mark.parametrize(
    "target, main_line, students_copy",
    [
        ("../docs/glossary.md#score", "../docs/glossary.md#score", "../../docs/glossary.md#score"),
        ("04_next.ipynb", "04_next.ipynb", "04_next.ipynb"),
        ("deeper/03_name.ipynb#x", "deeper/03_name.ipynb#x", "../deeper/03_name.ipynb#x"),
        ("https://a.b/c#d", "https://a.b/c#d", "https://a.b/c#d"),
        ("#here", "#here", "#here"),
    ],
)
def test_links_to_files_hold_in_every_folder(target, main_line, students_copy):
    assert as_main_line(f"a [word]({target})") == f"a [word]({main_line})"
    assert as_students_copy(f"a [word]({target})") == f"a [word]({students_copy})"


def test_deeper_notebooks_name_docs_as_main_lines_do():
    assert as_deeper("[a](../docs/glossary.md#score)") == "[a](../../docs/glossary.md#score)"
    assert as_deeper("[a](../04_next.ipynb)") == "[a](../04_next.ipynb)"


def test_a_key_becomes_a_link_to_the_paper():
    assert as_main_line("as [@ho2020] say") == "as [Ho et al. 2020](https://a/b) say"
    with pytest.raises(ValueError, match=r"expected a key of docs/references.json, got \[@who1999\]"):
        as_main_line("as [@who1999] say")


def test_the_list_of_papers_is_sorted_and_names_each_once():
    wanted = [
        "- Do & Re 2019. [Noise](https://c/d). ICML 2019.",
        "- Ho et al. 2020. [Denoising](https://a/b). NeurIPS 2020.",
    ]
    assert links.listed(["ho2020", "do2019", "ho2020"]).splitlines() == wanted


SECTIONS = {(places.built(CHAPTER), "2-two"): "03-name-07", (places.built(BEYOND), "2-two"): "deeper-03-name-05"}


def test_a_section_is_linked_by_the_cell_it_begins_in(monkeypatch):
    """JupyterLab opens another notebook at a cell, and at nothing else."""
    monkeypatch.setattr(links, "sections", lambda: SECTIONS)
    text = "see [2](03_name.ipynb#2-two) and [more](deeper/03_name.ipynb#2-two), not [x](03_name.ipynb#3-x)"
    main_line, beyond = "03_name.ipynb#cell-id=03-name-07", "deeper/03_name.ipynb#cell-id=deeper-03-name-05"
    assert as_main_line(text) == f"see [2]({main_line}) and [more]({beyond}), not [x](03_name.ipynb#3-x)"
    assert as_students_copy(text) == f"see [2]({main_line}) and [more](../{beyond}), not [x](03_name.ipynb#3-x)"
    assert unlinked(as_main_line(text)) == text


def test_every_section_that_a_source_names_is_there():
    for source in places.all_sources():
        for name, place in re.findall(r"\]\(([\w/.]+\.ipynb)#([\w-]+)\)", source.read_text(encoding="utf-8")):
            assert ((places.built(source).parent / name).resolve(), place) in links.sections(), (source.name, place)
