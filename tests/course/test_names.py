"""Notebooks, tools, benchmarks and the code in documents import only names that the package has."""

import ast
import re

import pytest
from places import ROOT

SOURCES = sorted(path for folder in ("notebooks/src", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = sorted(path for pattern in ("*.md", "docs/**/*.md", "data/*.md") for path in ROOT.glob(pattern))
FENCE = re.compile(r"(?ms)^```python\n(.*?)^```$")
MAGIC = re.compile(r"(?m)^(\s*)[%!].*$")


def lost(source: str) -> list[str]:
    """The imports of a source from minidiff that fail."""
    failed = []
    for node in ast.walk(ast.parse(MAGIC.sub(r"\1pass", source))):
        if isinstance(node, ast.Import):
            lines = [f"import {alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            lines = [f"from {node.module} import {alias.name}" for alias in node.names]
        else:
            continue
        for line in lines:
            if line.split()[1].split(".")[0] == "minidiff":
                try:
                    exec(line, {})
                except ImportError:
                    failed.append(line)
    return failed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_find_what_they_name(path):
    assert not lost(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_in_documents_find_what_they_name(path):
    assert not [name for code in FENCE.findall(path.read_text(encoding="utf-8")) for name in lost(code)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_that_documents_name_exist(path):
    """`minidiff.data.load`, in code in the text, is a module or a name in one."""
    named = set(re.findall(r"`(minidiff(?:\.\w+)+)[`(]", path.read_text(encoding="utf-8")))
    assert not [name for name in named if lost("from {} import {}".format(*name.rsplit(".", 1)))]


@pytest.mark.parametrize(
    "code", ["import minidiff.plot", "from minidiff.plot import images", "from minidiff.course.plot import pictures"]
)
def test_a_lost_name_is_found(code):
    assert lost(code)
    assert not lost("import minidiff.course.plot\nfrom minidiff import course\nfrom minidiff.course.plot import images")
