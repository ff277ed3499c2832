"""What stands for a link in the Markdown of a source, and what does it become in a notebook?

    \\tag{2.3}           an equation: the paragraph that leads up to it gets an anchor
    (2.3)               a link to it, in this notebook or another
    [@ho2020]           a link to the paper with that key in docs/references.json
    {references}        the list of all papers that the notebook cites
    [word](../docs/..)  a page of docs/, whatever folder the notebook is in
    [5](02_x.ipynb#5-y) a section of another notebook, by the anchor that GitHub would give its heading

Formulas, code, headings and the words of other links stay as they are.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

from places import DEEPER, NOTEBOOKS, ROOT, SOURCES, STUDENT, all_sources, built, students_copy

REFERENCES = ROOT / "docs/references.json"
TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
MENTION = re.compile(r"\((\d+\.\d+)\)")
CITATION = re.compile(r"\[@(\w+)\]")
LIST = "{references}"
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
HEADING = re.compile(r"(?m)^# ##+ (.+)$")
KEPT = re.compile(r"(?ms)(^```.*?^```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|^#+ [^\n]*|^<[^\n]*)")
# A formula on lines of its own, in a quotation or a list too, and the plain paragraph that leads up to it.
DISPLAYED = re.compile(r"(?ms)(?P<lead>(?:^(?![-+*] |\d+\. )[^\s#>|<`][^\n]*\n)+\n)?^(?P<margin>> | +)?\$\$.*?\$\$")

# Colab scrolls to a cell by its id and knows no other anchor (googlecolab/colabtools, issue 3983). JupyterLab scrolls
# to any anchor within a notebook, but in one that it has to open first only to a cell. Its aim is off by a few lines:
# with the anchor on the formula itself, half of the links left the formula out of sight.
ANCHOR = '<a id="scrollTo={}"></a>'
HERE, THERE = "#scrollTo={}", "{}#cell-id={}"
ANCHORS = re.compile(r'<a id="scrollTo=eq-[\d-]+"></a>')
CELL = re.compile(r"(?<=#)cell-id=([\w-]+)")
LINKED = re.compile(r"\[(\(\d+\.\d+\))\]\([^()]*#(?:scrollTo|cell-id)=eq-[\d-]+\)")


def anchor(number):
    """The anchor of an equation, which is the id of its cell too if it is the first in there."""
    return "eq-" + number.replace(".", "-")


@cache
def equations():
    """Where each numbered equation is: {"2.3": (its source, the id of its cell)}."""
    found = {}
    for source in all_sources():
        for cell in source.read_text(encoding="utf-8").split("\n# %%"):
            numbers = TAG.findall(cell)
            found |= {number: (source, anchor(numbers[0])) for number in numbers}
    return found


def slug(heading):
    """The anchor that GitHub and the book give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def start_of_ids(path):
    """What the ids of the cells of a notebook begin with: those of a main line and of what goes beyond it differ."""
    return ("deeper-" if path.parent == DEEPER else "") + path.stem.replace("_", "-")


def cell_id(text, number, path):
    """The id of a cell: of its first equation, which other notebooks link to, or of its position."""
    found = TAG.search(text)
    return anchor(found[1]) if found else f"{start_of_ids(path)}-{number:02d}"


@cache
def sections():
    """The cell in which each section begins: {(path of its notebook, anchor of its heading): id of the cell}."""
    found = {}
    for source in all_sources():
        for number, cell in enumerate(source.read_text(encoding="utf-8").split("\n# %%")):
            for heading in HEADING.findall(cell) if "[markdown]" in cell.partition("\n")[0] else []:
                found[built(source), slug(heading)] = cell_id(cell, number, built(source))
    return found


@cache
def references():
    """The bibliography: {"ho2020": {"authors": "Ho et al.", "year": 2020, "title", "venue", "url"}}."""
    return json.loads(REFERENCES.read_text(encoding="utf-8"))


def reference(key):
    """What the bibliography says of a key."""
    if key not in references():
        raise ValueError(f"expected a key of docs/references.json, got [@{key}]")
    return references()[key]


def listed(keys):
    """A list of papers by author and year."""
    papers = sorted(map(reference, set(keys)), key=lambda paper: (paper["authors"], paper["year"], paper["title"]))
    return "\n".join("- {authors} {year}. [{title}]({url}). {venue}.".format(**paper) for paper in papers)


def relative(file, path):
    """The address of a file as seen from the notebook at a path."""
    return Path(os.path.relpath(file, path.parent)).as_posix()


def home(source, path):
    """The notebook of a source to which the notebook at a path links: from a student's copy, a student's copy."""
    return students_copy(source) if path.parent == STUDENT and source.parent == SOURCES else built(source)


def moved(target, source, path):
    """A relative link of a source as seen from the notebook at a path."""
    name, mark, place = target.partition("#")
    if not name or ":" in name:
        return target
    file = (ROOT / name[3:] if name.startswith("../docs/") else built(source).parent / name).resolve()
    if (file, place) in sections():
        place = f"cell-id={sections()[file, place]}"
    if path.parent == STUDENT and file.parent == NOTEBOOKS and file.suffix == ".ipynb":
        file = STUDENT / file.name
    return relative(file, path) + mark + place


def mentioned(number, path):
    """The number of an equation in the notebook at a path, as a link to it if there is such an equation."""
    if number not in equations():
        return f"({number})"
    source, cell = equations()[number]
    there = home(source, path)
    place = HERE.format(anchor(number)) if there == path else THERE.format(relative(there, path), cell)
    return f"[({number})]({place})"


def anchored(displayed):
    """A formula and what leads up to it, with an anchor for each of its numbers."""
    anchors = "".join(ANCHOR.format(anchor(number)) for number in TAG.findall(displayed[0]))
    if not anchors or displayed["lead"]:
        return anchors + displayed[0]
    margin = displayed["margin"] or ""
    return f"{margin}{anchors}\n{margin.rstrip()}\n{displayed[0]}"


def linked(text, source, path):
    """The Markdown of a source as it stands in the notebook at a path."""

    def words(part):
        part = CITATION.sub(lambda found: "[{authors} {year}]({url})".format(**reference(found[1])), part)
        return MENTION.sub(lambda found: mentioned(found[1], path), part)

    def kept(part):
        return LINK.sub(lambda found: found[1] + moved(found[2], source, path) + found[3], part)

    parts = KEPT.split(text)
    return DISPLAYED.sub(anchored, "".join(kept(part) if i % 2 else words(part) for i, part in enumerate(parts)))


def unlinked(text):
    """A notebook's Markdown as the book takes it: sections by their anchors, equations without anchors and links."""
    anchors = {cell: place for (_, place), cell in reversed(sections().items())}  # of two, the first in its cell
    text = LINKED.sub(r"\1", ANCHORS.sub("", text))
    return CELL.sub(lambda found: anchors.get(found[1], found[0]), text)
