"""The web book and the slides as files: complete, whole links, a text for each picture, nothing from the network.

What only a browser can tell is in tests/course/browser/test_book_pages.py.
"""

import ast
import json
import re
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import make_book
import make_slides
import nbformat
import pytest
from places import NOTEBOOKS, ROOT, SOURCES, all_sources, setting, sources

pytestmark = pytest.mark.usefixtures("book_log")

MAIN = [path.stem for path in sources()]
PAGES = [path.relative_to(SOURCES).with_suffix("").as_posix() for path in all_sources()]
each_chapter = pytest.mark.parametrize("chapter", MAIN)
each_page = pytest.mark.parametrize("page", PAGES)


class Page(HTMLParser):
    """The tags of an HTML file, but for the coloured bits of code: [(name, attributes)]."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags = []
        self.feed(re.sub(r"(?s)<pre>.*?</pre>", "", path.read_text(encoding="utf-8")))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@cache
def tags(path: Path) -> list:
    return Page(path).tags


@cache
def anchors(path: Path) -> set[str]:
    return {attrs["id"] for _, attrs in tags(path) if "id" in attrs}


def pages() -> list[Path]:
    found = [*make_book.BOOK.rglob("*.html"), *make_slides.DECKS.glob("*.html")]
    return [path for path in found if "_static" not in path.parts]


def images(path: Path) -> list[dict]:
    return [attrs for tag, attrs in tags(path) if tag == "img"]


def stored(page: str):
    return nbformat.read(NOTEBOOKS / f"{page}.ipynb", as_version=4).cells


def tagged(page: str, tag: str) -> list:
    return [cell for cell in stored(page) if tag in cell.metadata.get("tags", [])]


def shown(page: str) -> list[Path]:
    """The book's page of a notebook and, of a main line, its deck."""
    decks = [make_slides.DECKS / f"{page}.html"] if page in MAIN else []
    return [make_book.BOOK / f"notebooks/{page}.html", *decks]


def stored_texts(page: str) -> list[str]:
    """The texts of a notebook's pictures, in order."""
    outputs = [output for cell in stored(page) for output in cell.get("outputs", [])]
    return [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]


def test_no_warnings(book_log):
    assert book_log == ""


def test_every_chapter_and_document_has_a_page_and_every_chapter_a_deck():
    wanted = {f"notebooks/{page}.html" for page in PAGES} | {"index.html", "search.html", "api/index.html"}
    wanted |= {
        "data/README.html",
        "CHANGELOG.html",
        "docs/INSTRUCTOR.html",
        "docs/references.html",
        "docs/glossary.html",
        "docs/checks.html",
    }
    wanted |= {f"docs/answers/{path.stem}.html" for path in ROOT.glob("docs/answers/*.md")}
    assert not [name for name in wanted if not (make_book.BOOK / name).exists()]
    assert {path.stem for path in make_slides.DECKS.glob("*.html")} == {*MAIN, "index"}


def test_links_lead_somewhere():
    lost = []
    for path in pages():
        for tag, attrs in tags(path):
            link = attrs.get("href") or attrs.get("src") or ""
            if not link or re.match(r"https?:|mailto:|data:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target.suffix == ".html" and anchor not in anchors(target)):
                lost.append(f"{path.relative_to(ROOT)}: <{tag}> {link}")
    assert not lost


def test_every_picture_has_a_text():
    bare = [(path.name, attrs["src"]) for path in pages() for attrs in images(path) if len(attrs.get("alt") or "") < 4]
    assert not bare


@each_page
def test_pictures_keep_their_texts_and_order(page):
    for path in shown(page):
        texts = [attrs["alt"] for attrs in images(path) if "images/" in attrs["src"] and "_static" not in attrs["src"]]
        assert texts == stored_texts(page)


def test_nothing_is_fetched_from_elsewhere():
    """Only a link that a reader clicks may leave the machine."""
    away = re.compile(r"(https?:)?//")
    fetched = {
        (path.name, link)
        for path in pages()
        for tag, attrs in tags(path)
        if tag in ("script", "link", "img", "iframe", "source")
        for link in (attrs.get("src"), attrs.get("href"))
        if link and away.match(link) and attrs.get("rel") not in ("canonical", "license")
    }
    assert not fetched


def test_styles_fetch_nothing_from_elsewhere():
    sheets = [path for folder in (make_book.BOOK, make_slides.DECKS) for path in folder.rglob("*.css")]
    assert len(sheets) > 5
    fetching = re.compile(r"""(url\(|@import)\s*["']?(https?:)?//""")
    assert not [path for path in sheets if fetching.search(path.read_text(encoding="utf-8"))]


@each_page
def test_the_book_has_no_badge_and_no_setup_cell(page):
    assert any(cell.id.endswith("-badge") for cell in stored(page))
    for path in shown(page):
        text = path.read_text(encoding="utf-8")
        assert "colab-badge" not in text and "run me first" not in text


@each_page
def test_the_button_leads_to_the_notebook_in_colab(page):
    links = {attrs.get("href") for tag, attrs in tags(make_book.BOOK / f"notebooks/{page}.html") if tag == "a"}
    where = "{repository}/blob/{branch}".format(**setting())
    assert f"https://colab.research.google.com/github/{where}/notebooks/{page}.ipynb" in links


@each_page
def test_numbered_equations_can_be_linked_to(page):
    numbers = re.findall(r"\\tag\{([\d.]+)\}", (SOURCES / f"{page}.py").read_text(encoding="utf-8"))
    for path in shown(page):
        assert {"eq-" + number.replace(".", "-") for number in numbers} <= anchors(path)
        assert "scrollTo" not in path.read_text(encoding="utf-8")  # what a notebook has in their place


@each_page
@pytest.mark.parametrize("tag", ["check", "folded"])
def test_a_folded_cell_shows_its_title_and_what_it_found_and_not_its_code(page, tag):
    html = (make_book.BOOK / f"notebooks/{page}.html").read_text(encoding="utf-8")
    parts = re.split(r'<div class="cell (?=[^"]*\btag_|docutils)', html)
    folded = [part for part in parts if re.match(rf'[^"]*\btag_{tag}\b', part)]
    assert len(folded) == len(tagged(page, tag))
    for part, cell in zip(folded, tagged(page, tag), strict=True):
        inside = r'(?s)[^>]*>\s*<details class="[^"]*hide[^"]*">\s*<summary[^>]*>(.*?)</summary>.*?</details>(.*)'
        summary, below = re.match(inside, part).groups()
        title = cell.source.partition("\n")[0].removeprefix("# @title ")
        assert title in unescape(summary)
        if texts := [output.text.strip() for output in cell.outputs if "text" in output]:
            assert unescape(re.sub("<[^>]*>", "", re.search("(?s)<pre>(.*?)</pre>", below)[1])).strip() == texts[-1]
        assert "<img" in below or not any("image/png" in output.get("data", {}) for output in cell.outputs)


@each_chapter
def test_a_deck_has_what_a_check_found_and_not_its_code(chapter):
    deck = unescape((make_slides.DECKS / f"{chapter}.html").read_text(encoding="utf-8"))
    for cell in tagged(chapter, "check"):
        assert cell.outputs[-1].text.strip() in deck
    assert "@title" not in deck


@each_page
def test_what_goes_beyond_a_main_line_stands_below_it_in_the_sidebar(page):
    html = (make_book.BOOK / f"notebooks/{page}.html").read_text(encoding="utf-8")
    sidebar = re.search(r'(?s)<nav class="bd-links.*?</nav>', html)[0]
    below = {page: f"deeper/{page}.html", f"deeper/{page}": "#"}
    if f"deeper/{page}" in PAGES:
        assert re.search(rf'(?s)href="#">[^<]*</a>(?:(?!</li>).)*href="deeper/{page}.html"', sidebar), below


def test_text_that_names_an_equation_links_to_it():
    links = {attrs.get("href") for _, attrs in tags(make_book.BOOK / "notebooks/03_reverse_diffusion.html")}
    assert {"#eq-3-4", "02_forward_diffusion.html#eq-2-5"} <= links
    links = {attrs.get("href") for _, attrs in tags(make_book.BOOK / "docs/answers/03_reverse_diffusion.html")}
    assert "../../notebooks/03_reverse_diffusion.html#eq-3-4" in links


def test_search_finds_words_of_chapters_and_of_the_package():
    index = (make_book.BOOK / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))

    def found(word):
        hits = index["terms"].get(word, [])
        return {index["docnames"][hit] for hit in ([hits] if isinstance(hits, int) else hits)}

    assert "notebooks/01_generative_models" in found("elbo")
    assert "notebooks/13_evaluation" in found("memoris") | found("memorisation")
    assert "api/samplers" in found("ancestr") | found("ancestral")


@pytest.mark.parametrize("name", make_book.modules())
def test_every_public_module_and_all_its_names_are_documented(name):
    path = make_book.modules()[name]
    body = ast.parse(path.read_text(encoding="utf-8")).body
    public = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]
    wanted = {f"minidiff.{name}.{node.name}" for node in public if ast.get_docstring(node)}
    assert wanted <= anchors(make_book.BOOK / f"api/{name}.html")


def test_docstrings_are_shown_as_they_are():
    text = unescape(re.sub(r"<[^>]+>", "", (make_book.BOOK / "api/process.html").read_text(encoding="utf-8")))
    assert "q(x_s | x_t, x0) for s < t (Ho et al. 2020, eq. 7; eq. 3.4)" in text
    assert (
        "    x_t = alpha x0 + sigma eps,    (eq. 2.4)" in text or "\nx_t = alpha x0 + sigma eps,    (eq. 2.4)" in text
    )
    links = {attrs.get("href") for _, attrs in tags(make_book.BOOK / "api/process.html")}
    assert "../notebooks/03_reverse_diffusion.html#eq-3-4" in links


@each_chapter
def test_decks_have_every_section_and_no_answers(chapter):
    deck = (make_slides.DECKS / f"{chapter}.html").read_text(encoding="utf-8")
    titles = [cell.source for cell in stored(chapter) if cell.cell_type == "markdown"]
    sections = re.findall(r"(?m)^##? ", "\n".join(titles))
    assert deck.count("<section data-title=") == len(sections)
    assert "SOLUTION" not in deck and "<details" not in deck
    assert deck.count("# your turn") == sum("### BEGIN SOLUTION" in cell.source for cell in stored(chapter))


def test_solutions_are_folded_in_the_book():
    page = (make_book.BOOK / "notebooks/03_reverse_diffusion.html").read_text(encoding="utf-8")
    assert re.search(r"(?s)<details class=[^>]*hide[^>]*>.{0,200}Show a solution.*?BEGIN SOLUTION", page)


def test_links_out_of_documents_lead_to_the_repository():
    path = ROOT / "docs/INSTRUCTOR.md"
    blob = "https://github.com/{repository}/blob/{branch}".format(**setting())
    text = (
        "[a](../Makefile) [b](answers/03_reverse_diffusion.md) [c](../notebooks/03_reverse_diffusion.ipynb#x) $[x](t)$"
    )
    wanted = text.replace("../Makefile", f"{blob}/Makefile")
    assert make_book.linked(text, path) == wanted
