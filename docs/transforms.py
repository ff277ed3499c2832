"""How do plain docstrings and numbered equations become pages with links?

A docstring of this package is plain text: paragraphs, `code`, indented formulas, and (eq. 3.4) for an equation of
chapter 03. In chapters an equation carries its number as a tag, and the text around it says (3.4).
"""

import re

from docutils import nodes
from links import MENTION, TAG, anchor, equations
from places import ROOT, built

PLAIN = re.compile(r"([\\*_|])")
EQUATION = re.compile(r"\beq\. (\d+\.\d+)")
PROSE = nodes.paragraph | nodes.list_item | nodes.entry | nodes.strong | nodes.emphasis
LISTED = re.compile(r"- |\d+\. ")


def page(number):
    """The page that has an equation, or None: "notebooks/03_reverse_diffusion"."""
    if number not in equations():
        return None
    source, _ = equations()[number]
    return built(source).relative_to(ROOT).with_suffix("").as_posix()


def sentence(text):
    """A line of plain text as reST: no sign means anything but backticks; equations become links."""

    def link(found):
        there = page(found[1])
        return f"`eq. {found[1]} <../{there}.html#{anchor(found[1])}>`__" if there else found[0]

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


def number_equations(app, doctree):
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
    there, here = page(number), app.env.docname
    if there is None:
        return nodes.Text(f"({number})")
    place = "" if there == here else app.builder.get_relative_uri(here, there)
    return nodes.reference("", f"({number})", refuri=f"{place}#{anchor(number)}", internal=True)
