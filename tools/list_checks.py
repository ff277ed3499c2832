"""Writes docs/checks.md: each numbered equation, the code that is it, and what that is checked by.

python tools/list_checks.py

A check belongs to the equations that its title or its code names, in brackets as in the text; an equation that no check
names belongs to the next one below it in its notebook. A gap that the reader fills belongs to the equation above it.
The code of an equation are the functions of the package whose docstrings cite it, or else those that its notebook
defines before that check.
"""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
from links import MENTION, TAG, THERE, equations, relative
from places import ROOT, SOURCES, all_sources, built, sources

PAGE = ROOT / "docs/checks.md"
CITATION = re.compile(r"\beqs?\.\s*(\d+\.\d+(?:(?:,|-| and| to)\s*\d+\.\d+)*)")
FORMULA = re.compile(r"(?s)\$\$(.*?)\$\$")
LAYOUT = re.compile(r"\\(?:begin|end)\{(?:aligned|gathered|split)\}|&")
HEAD = """\
# Checks

Each numbered equation, the code that is it, and what it is checked by: a folded cell with a ✓ in the chapter or in its
deeper notebook, a gap that the reader fills, tests of the package. `tools/list_checks.py` writes this page.
"""
UNFOLDED = "asserts in the text"  # of a chapter whose checks are no folded cells yet


@dataclass
class Equation:
    """A numbered equation, the functions and gaps below it, the check below it, and the checks that name it."""

    source: Path
    formula: str
    code: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    below: list[tuple[str, Path]] = field(default_factory=list)
    named: list[tuple[str, Path]] = field(default_factory=list)


def first_line(formula):
    """The first line of a formula, as it can stand in a text; all lines where a bracket would be torn."""
    lines = LAYOUT.sub(" ", TAG.sub("", re.sub(r"(?m)^> ?", "", formula))).split(r"\\")
    torn = any(lines[0].count(a) != lines[0].count(b) for a, b in ((r"\left", r"\right"), ("{", "}")))
    line = r" \quad ".join(lines) if torn else lines[0]
    return " ".join(line.split()).rstrip(" ,.:;")


def in_notebooks():
    """All equations, with what the notebooks have of them: {number: Equation}."""
    found, naming = {}, []
    for source in all_sources():
        waiting = []  # for the next check
        for cell in jupytext.read(source, fmt="py:percent").cells:
            names = [f"`{name}`" for name in re.findall(r"(?m)^def (\w+)", cell.source)]
            if cell.cell_type == "markdown":
                for formula in FORMULA.findall(cell.source):
                    new = {number: Equation(source, first_line(formula)) for number in TAG.findall(formula)}
                    found |= new
                    waiting += new.values()
            elif "check" in cell.metadata.get("tags", []):
                check = cell.source.partition("\n")[0].partition("✓ ")[2], source
                naming += [(number, check) for number in dict.fromkeys(MENTION.findall(cell.source))]
                for equation in waiting:
                    equation.below.append(check)
                waiting = []
            elif waiting:
                for equation in waiting:
                    equation.code += names
                if "### BEGIN SOLUTION" in cell.source:
                    waiting[-1].gaps += [f"your turn: {name}" for name in names]
    for number, check in naming:
        if number in found:
            found[number].named.append(check)
    return found


def in_package():
    """What cites an equation in its docstring, a module only if nothing in it does: {"3.4": ["process.posterior"]}."""
    found = defaultdict(list)
    for path in sorted((ROOT / "minidiff").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "minidiff").with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for node in [*parts, tree]:
            numbers = re.findall(r"\d+\.\d+", " ".join(CITATION.findall(ast.get_docstring(node) or "")))
            for number in numbers:
                if node is not tree:
                    found[number].append(f"{module}.{node.name}")
                elif not any(name.startswith(module) for name in found[number]):
                    found[number].append(module)
    return found


def tests(name):
    """The test files of a function, class or module: those named after its module, or after its folder, that use it."""
    *modules, used = name.split(".")
    named = [f"test_{part}" for part in modules or [used]]
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if path.stem in named]
    using = [path for path in files if re.search(rf"\b{used}\b", path.read_text(encoding="utf-8"))]
    return [f"`{path.relative_to(ROOT).as_posix()}`" for path in using]


def titles(equation):
    """The gaps and checks of an equation; one of another chapter, or beyond a main line, says so."""
    checks = list(equation.gaps)
    for title, source in equation.named or equation.below:
        where = [] if source.name == equation.source.name else [f"chapter {source.name[:2]}"]
        where += ["deeper"] if source.parent != SOURCES else []
        checks.append(title + (f" ({', '.join(where)})" if where else ""))
    return checks


def entry(number, equation, names, folded):
    """What the page says of an equation that these names of the package cite."""
    link = THERE.format(relative(built(equation.source), PAGE), equations()[number][1])
    deeper = "" if equation.source.parent == SOURCES else ", deeper"
    code = [f"`{name}`" for name in names] or equation.code or ["in the check"]
    checks = titles(equation) if folded else [UNFOLDED]
    checks += dict.fromkeys(file for name in names for file in tests(name))
    head = f"- [({number})]({link}){deeper}: ${equation.formula}$"
    return f"{head}\n  - code: {', '.join(code)}\n  - checked by: {'; '.join(checks)}\n"


def page():
    """The text of docs/checks.md."""
    found, package = in_notebooks(), in_package()
    folded = {source.name for equation in found.values() for _, source in equation.below + equation.named}
    text = HEAD
    for chapter in sources():
        own = [number for number, equation in found.items() if equation.source.name == chapter.name]
        own.sort(key=lambda number: int(number.partition(".")[2]))
        if own:
            text += f"\n## {re.search(r'(?m)^# # (.+)$', chapter.read_text(encoding='utf-8'))[1]}\n\n"
        for number in own:
            text += entry(number, found[number], package[number], chapter.name in folded)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
