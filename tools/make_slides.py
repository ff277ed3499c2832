"""Builds a reveal.js deck of each chapter in build/slides from the pages of the web book.

python tools/make_slides.py

A section of a chapter becomes a column of slides. Here it is taken apart into blocks: headings, paragraphs, list
items, formulas, tables, code, outputs, figures. docs/slides/deck.js puts them on pages in the browser, which alone
knows how high they are. Answers, solutions and the code of checks are left out.
"""

import re
import shutil
import struct
import sys
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from bs4 import BeautifulSoup
from make_book import BOOK, build, mathjax
from places import ROOT, sources

DECKS = ROOT / "build/slides"
LOOKS = ROOT / "docs/slides"
SOLUTION = re.compile(r"(?s)[^\n]*### BEGIN SOLUTION.*?### END SOLUTION[^\n]*\n")  # in highlighted code


def filled(name, **parts):
    """A page of docs/slides with its gaps filled in."""
    return Template((LOOKS / name).read_text(encoding="utf-8")).substitute(parts)


def size(png):
    """Width and height of a PNG file, from its header."""
    with open(png, "rb") as file:
        return struct.unpack(">II", file.read(24)[16:])


def figure(image):
    """A picture as HTML with its own size, at its place beside the deck."""
    name = Path(image["src"]).name
    width, height = size(BOOK / "_images" / name)
    alt = escape(image["alt"])
    return f'<figure><img src="images/{name}" alt="{alt}" data-width="{width}" data-height="{height}"></figure>'


def items(block):
    """A list as lists of one item each: a long one may go over several slides."""
    for number, item in enumerate(block.find_all("li", recursive=False), int(block.get("start", 1))):
        start = f' start="{number}"' if block.name == "ol" else ""
        yield f"<{block.name}{start}>{item}</{block.name}>"


def blocks(section):
    """The blocks of a section as HTML, in order, those of its subsections too unless these are columns (h2)."""
    for child in section.find_all(True, recursive=False):
        if child.name == "section":
            yield from () if child.h2 else blocks(child)
        elif child.name in ("ul", "ol"):
            yield from items(child)
        elif "cell" in child.get("class", []):
            parts = [".cell_input > *", ".cell_output > *"]
            if {"tag_check", "tag_folded"} & set(child["class"]):  # only what it found
                parts = parts[1:]
            elif "tag_hide-input" in child["class"]:  # only the task of an exercise that has a solution
                parts = parts[:1]
            for block in child.select(", ".join(parts)):
                kind = block.parent["class"][0].removeprefix("cell_")
                yield figure(block) if block.name == "img" else f'<div class="{kind}">{block}</div>'
        else:
            yield str(child)


def deck(page):
    """The deck of a page of the book: (title, HTML)."""
    code = []  # put aside: four fifths of a page are the coloured bits of code

    def aside(found):
        code.append(SOLUTION.sub('<span class="c1">    # your turn</span>\n', found[0]))
        return f"<pre>{len(code) - 1}</pre>"

    article = BeautifulSoup(
        re.sub(r"(?s)<pre>.*?</pre>", aside, page.read_text(encoding="utf-8")), "html.parser"
    ).article
    for useless in article.select("details:not(.cell > *), a.headerlink, section > span[id]"):
        useless.decompose()
    for link in article.select("a[href*='/']:not([href*='://'])"):
        link.unwrap()  # to a page that is not a chapter
    for link in article.select("a[href*='.html#']:not([href*='://'], [href*='#eq-'])"):
        link["href"] = link["href"].partition("#")[0]  # a deck has anchors for equations only
    chapter, title = article.section, article.h1.get_text()
    parts = [(title, "".join(blocks(chapter)))]
    parts += [(section.h2.get_text(), "".join(blocks(section))) for section in chapter.select(":scope > section")]
    columns = [f'<section data-title="{escape(name)}">\n{content}\n</section>' for name, content in parts]
    html = re.sub(r"<pre>(\d+)</pre>", lambda found: code[int(found[1])], "\n".join(columns))
    return title, filled("deck.html", title=escape(title), parts=html)


def copy_static():
    """The scripts and styles of all decks, and the pictures of the book."""
    static = DECKS / "static"
    reveal = resources.files("sphinx_revealjs") / "_static/revealjs"
    shutil.copytree(BOOK / "_images", DECKS / "images")
    shutil.copytree(LOOKS, static, ignore=shutil.ignore_patterns("*.html"))
    for file in (reveal / "dist/reveal.js", reveal / "dist/reveal.css", BOOK / "_static/pygments.css"):
        shutil.copy(file, static)
    shutil.copy(ROOT / "docs/book/favicon.svg", static)
    shutil.copy(mathjax() / "es5/tex-svg.js", static / "mathjax.js")
    shutil.copy(mathjax() / "LICENSE", static / "mathjax-LICENSE.txt")
    shutil.copy(reveal / "LICENSE", static / "reveal-LICENSE.txt")


def make_decks():
    """Writes build/slides: a deck per chapter, and the page that lists them."""
    shutil.rmtree(DECKS, ignore_errors=True)
    copy_static()
    links = []
    for path in sources():
        title, html = deck(BOOK / f"notebooks/{path.stem}.html")
        (DECKS / f"{path.stem}.html").write_text(html, encoding="utf-8")
        links.append(f'<li><a href="{path.stem}.html">{escape(title)}</a></li>')
    (DECKS / "index.html").write_text(filled("index.html", parts="\n".join(links)), encoding="utf-8")


if __name__ == "__main__":
    if build():
        sys.exit("The book, from which the slides are made, has warnings.")
    make_decks()
    print(f"The slides are in {DECKS / 'index.html'}")
