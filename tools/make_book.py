"""Builds the web book in build/book from the stored notebooks, the documents and the docstrings.

python tools/make_book.py

Sphinx reads copies, laid out as in the repository, so that links between files hold: notebooks without what serves
Colab only and with the text of each picture, documents whose links lead to the repository where the book has no such
page, the bibliography, and a page of the package for each module. docs/conf.py has the settings.
"""

import ast
import re
import shutil
import subprocess
import sys
from importlib import resources

import nbformat
from links import listed, references, unlinked
from places import DEEPER, NOTEBOOKS, ROOT, built, setting, sources

COPIES = ROOT / "build/book-source"
BOOK = ROOT / "build/book"
GUIDE = ROOT / "docs/INSTRUCTOR.md"
GLOSSARY, CHECKS = ROOT / "docs/glossary.md", ROOT / "docs/checks.md"
TITLE = re.compile(r"# @title (.+)")
LINK = re.compile(r"(?<=\]\()([^()#\s:]+)(?=[)#])")
# What a folder of the package is called in the book; "" has the modules at its root, in the order that one reads them.
GROUPS = {
    "": "The mathematics",
    "nets": "Networks",
    "data": "Data",
    "training": "Training",
    "app": "From a network to files and figures of merit",
    "course": "What the notebooks need",
    "cli": "The command line",
}
FIRST = ["schedule", "process", "oracle", "denoiser", "losses", "samplers", "guidance", "latent"]


def documents():
    """The Markdown files of the repository that the book has pages for."""
    own = [ROOT / name for name in ("CHANGELOG.md", "README.md", "data/README.md")]
    return [*own, GUIDE, GLOSSARY, CHECKS, *answers()]


def answers():
    return sorted(ROOT.glob("docs/answers/*.md"))


def modules():
    """The public modules as {dotted name below minidiff: path}."""
    found = {}
    for path in sorted((ROOT / "minidiff").rglob("*.py")):
        parts = path.relative_to(ROOT / "minidiff").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and not any(part.startswith("_") for part in name.split(".")):
            found[name] = path
    return found


def prepared(notebook):
    """A notebook as the book shows it: without badge and setup, folded where it says so, a text with each picture.

    Links and anchors of equations are docs/transforms.py's business.
    """
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.id.endswith("-badge") or "setup" in tags:
            continue
        shown = {}
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                shown["image"] = {"alt": alt}
        if cell.cell_type == "markdown":
            cell.source = unlinked(cell.source)
        elif "### BEGIN SOLUTION" in cell.source:
            cell.metadata["tags"] = [*tags, "hide-input"]
            shown |= {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
        elif {"check", "folded"} & set(tags):
            title = TITLE.match(cell.source)[1]
            cell.metadata["tags"] = [*tags, "hide-input"]
            shown |= {"code_prompt_show": title, "code_prompt_hide": title}
        cell.metadata["mystnb"] = shown
        cells.append(cell)
    notebook.cells = cells
    return notebook


def linked(text, path):
    """A document with links to files that are no pages of the book turned to the repository, and none to equations."""
    repository = "https://github.com/{repository}/blob/{branch}".format(**setting())

    def target(found):
        file = (path.parent / found[1]).resolve()
        has_page = file in documents() or file.parent in (NOTEBOOKS, DEEPER) or file.suffix == ".png"
        if has_page or not file.exists():
            return found[1]
        return f"{repository}/{file.relative_to(ROOT).as_posix()}"

    return LINK.sub(target, unlinked(text))


def toctree(names, caption):
    """The part of a page that gives the book's order; it shows in the sidebar only."""
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])


def group(name):
    """The key in GROUPS of a module: its folder."""
    first = name.partition(".")[0]
    return first if first in GROUPS else ""


def summary(path):
    """The first line of a module's docstring: what it is."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


def api():
    """A page per module, and one that groups them: {name: text}."""
    found, copies = modules(), {}
    index = "# The package\n\nWhat each module is.\n"
    for folder, heading in GROUPS.items():
        names = [name for name in dict.fromkeys([*FIRST, *found]) if group(name) == folder]
        rows = [f"| [{name}]({name}.rst) | {summary(found[name])} |" for name in names]
        index += "\n".join(
            ["", f"## {heading}", "", "| module | what it is |", "|---|---|", *rows, toctree(names, heading)]
        )
        for name in names:
            title = f"minidiff.{name}"
            copies[f"api/{name}.rst"] = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n   :members:\n"
    return copies | {"api/index.md": index}


def copies():
    """All that Sphinx reads: {path below build/book-source: text or bytes}."""
    result, chapters = api(), [built(source) for source in sources()]
    for path in chapters:
        notebook = prepared(nbformat.read(path, as_version=4))
        if (deeper := DEEPER / path.name).exists():
            result[f"notebooks/deeper/{path.name}"] = nbformat.writes(prepared(nbformat.read(deeper, as_version=4)))
            notebook.cells.append(nbformat.v4.new_markdown_cell(toctree([f"deeper/{path.name}"], "Deeper")))
        result[f"notebooks/{path.name}"] = nbformat.writes(notebook)
    for path in documents():
        result[path.relative_to(ROOT).as_posix()] = linked(path.read_text(encoding="utf-8"), path)
    for path in ROOT.glob("docs/**/*.png"):
        result[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    result["docs/INSTRUCTOR.md"] += toctree([f"answers/{path.name}" for path in answers()], "Answers")
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    index += toctree([f"notebooks/{path.name}" for path in chapters], "Chapters")
    beside = ["docs/glossary.md", "docs/checks.md", "docs/references.md", "docs/INSTRUCTOR.md"]
    index += toctree([*beside, "api/index.md", "data/README.md", "CHANGELOG.md"], "Beside them")
    bibliography = f"# References\n\nEvery work that the course cites.\n\n{listed(references())}\n"
    return result | {"index.md": index, "docs/references.md": bibliography}


def mathjax():
    """The folder of MathJax 3, out of a package that carries it."""
    return resources.files("mathjax") / "static/mathjax"


def build():
    """Builds the book from scratch; returns Sphinx's exit code, which is not 0 after a warning."""
    for folder in (COPIES, BOOK):
        shutil.rmtree(folder, ignore_errors=True)
    for name, data in copies().items():
        path = COPIES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    (BOOK / "_static").mkdir(parents=True)
    shutil.copy2(mathjax() / "es5/tex-svg.js", BOOK / "_static/mathjax.js")
    shutil.copy2(mathjax() / "LICENSE", BOOK / "_static/mathjax-LICENSE.txt")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-E", "-q", "-c", ROOT / "docs"]
    return subprocess.run([*command, "-d", ROOT / "build/book-read", COPIES, BOOK]).returncode


if __name__ == "__main__":
    code = build()
    print(f"The book is in {BOOK / 'index.html'}" if code == 0 else "The book has warnings.")
    sys.exit(code)
