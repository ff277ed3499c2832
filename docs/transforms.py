"""How do plain docstrings and numbered equations become pages with links?

A docstring of this package is plain text: paragraphs, `code`, indented formulas, and (eq. 3.4) for an equation of
chapter 03. In chapters an equation carries its number as a tag, and the text around it says (3.4).
"""

import re
from functools import cache

from course import sources
from docutils import nodes

TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
PLAIN = re.compile(r"([\\*_|])")
EQUATION = re.compile(r"\beq\. (\d+\.\d+)")
MENTION = re.compile(r"\((\d+\.\d+)\)")
PROSE = nodes.paragraph | nodes.list_item | nodes.entry | nodes.strong | nodes.emphasis
LISTED = re.compile(r"- |\d+\. ")


@cache
def pages():
    """The chapter that holds an equation, by its number: {"3.4": "03_reverse_diffusion"}."""
    return {tag: path.stem for path in sources() for tag in TAG.findall(path.read_text(encoding="utf-8"))}


def anchor(number):
    return "eq-" + number.replace(".", "-")


def sentence(text):
    """A line of plain text as reST: no sign means anything but backticks; equations become links."""

    def link(found):
        page = pages().get(found[1])
        return f"`eq. {found[1]} <../notebooks/{page}.html#{anchor(found[1])}>`__" if page else found[0]

    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"`{part}`" if i % 2 else EQUATION.sub(link, PLAIN.sub(r"\\\1", part).replace("::", ":"))
        for i, part in enumerate(parts)
    )


def says_nothing(app, what, name, obj, skip, options):
    """Whether to leave out a member: a field of a NamedTuple, whose docstring is Python's own."""
    return skip or (getattr(obj, "__doc__", "") or "").startswith("Alias for field number")


def plain_docstring(app, what, name, obj, options, lines):
    """Turns a plain docstring into reST, in place: what is indented becomes a literal block, unless in a list."""
    result, literal, listed = [], False, False
    for line in lines:
        indented = line.startswith(" ") and not listed
        if indented and not literal:
            result += ["", ".. code-block:: text", ""]
        elif literal and line and not indented:
            result.append("")
        if line:
            literal = indented
            listed = bool(LISTED.match(line)) or (listed and line.startswith(" "))
        result.append(line if literal else sentence(line))
    lines[:] = result


def equations(app, doctree):
    """Gives numbered equations an anchor, and links the text that names them, within and across chapters."""
    for block in doctree.findall(nodes.math_block):
        numbers = TAG.findall(block.astext())
        block["ids"] += map(anchor, numbers)
        # Sphinx would put formulas of several lines into an environment of its own, which takes no tags
        block["no-wrap"] = block["nowrap"] = True  # the name since Sphinx 8.2, and the one before
        block[:] = [nodes.Text(rf"\[{block.astext()}\]")]
    if app.env.docname.startswith(("notebooks/", "docs/")):
        for text in list(doctree.findall(nodes.Text)):
            parts = MENTION.split(str(text))
            if len(parts) > 1 and isinstance(text.parent, PROSE):
                links = [mention(app, part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts)]
                text.parent.replace(text, links)


def mention(app, number):
    """(3.4) as a link to equation 3.4, or as it was if there is none."""
    page, here = f"notebooks/{pages().get(number)}", app.env.docname
    if number not in pages():
        return nodes.Text(f"({number})")
    place = "" if page == here else app.builder.get_relative_uri(here, page)
    return nodes.reference("", f"({number})", refuri=f"{place}#{anchor(number)}", internal=True)
