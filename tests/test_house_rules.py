"""The house rules that a parser can check: old syntax, docstrings, no pickle, a light import that changes nothing."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("minidiff", "tests", "tools", "benchmarks", "notebooks/src", "docs")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PACKAGE = [path for path in FILES if path.is_relative_to(ROOT / "minidiff")]
TESTS = [path for path in FILES if path.is_relative_to(ROOT / "tests") and re.match("test_|conftest", path.name)]
SHIPPED = [path for path in FILES if not path.is_relative_to(ROOT / "tests")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_used(tree: ast.AST) -> set[str]:
    """Imported modules and dotted names: {"pickle", "torch.load", ...}."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used |= {node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
    return used


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_syntax_of_python_310(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_never_pickle(path):
    """A pickle can run code. Weights and data are safetensors, JSON and pictures."""
    text = path.read_text(encoding="utf-8")
    assert not names_used(ast.parse(text)) & {"pickle", "dill", "joblib", "torch.load", "torch.save"}
    assert not re.search(r"allow_pickle\s*=\s*True|weights_only\s*=\s*False", text)


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_package_raises_instead_of_asserting(path):
    """python -O drops an assert; a ValueError stays and says what was expected."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [f"line {node.lineno}" for node in ast.walk(tree) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_modules_and_what_they_offer_have_docstrings(path):
    assert not undocumented(path.read_text(encoding="utf-8"))


def undocumented(source: str) -> list[str]:
    """The names of a module's public functions and classes that have no docstring; "" for the module itself."""
    tree = ast.parse(source)
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    return [getattr(node, "name", "") for node in (tree, *public) if not ast.get_docstring(node)]


def test_a_missing_docstring_is_found():
    assert undocumented("def f():\n    pass\n\nclass A:\n    pass\n\ndef _g():\n    pass") == ["", "f", "A"]
    assert not undocumented('"""A module."""\n\ndef f():\n    """Return nothing."""')


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_no_test_file_imports_another(path):
    """What several need is a fixture in conftest.py, so that each file can be read, run and moved alone."""
    others = {other.stem for other in TESTS}
    used = {part for name in names_used(ast.parse(path.read_text(encoding="utf-8"))) for part in name.split(".")}
    assert not used & others


@pytest.mark.parametrize("name", ["bootstrap.py", "kit_install.py"])
def test_installers_parse_on_any_python(name):
    """They must reach the line that says this Python is too old: no f-strings, annotations or newer syntax."""
    source = (ROOT / "tools" / name).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        assert not isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr | ast.Match), node.lineno
        if isinstance(node, ast.FunctionDef):
            assert not (node.returns or node.args.kwonlyargs), node.lineno
        if isinstance(node, ast.Call):
            assert not any(isinstance(a, ast.Starred) for a in node.args[:-1]), node.lineno


def run(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    """`import minidiff` costs torch and little more: it brings none of these on top."""
    heavy = {"matplotlib", "torchvision", "tqdm", "IPython", "PIL", "ipywidgets", "sklearn", "scipy"}
    code = (
        "import sys, torch; before = set(sys.modules); import minidiff;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    brought = set(run(code).split())
    assert "minidiff" in brought and not brought & heavy


GLOBAL_STATE = """
import importlib, random, signal
import matplotlib, numpy, torch

def state():
    return {
        "rcParams": dict(matplotlib.rcParams),
        "random": random.getstate(),
        "numpy": [getattr(part, "tolist", lambda: part)() for part in numpy.random.get_state()],
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
    }

before = state()
for name in NAMES:
    importlib.import_module(name)
print([key for key, value in state().items() if value != before[key]])
"""


def test_no_import_changes_global_state():
    """Neither matplotlib's settings, nor a random state, nor what a signal does."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE if path.stem != "__main__"]
    assert "minidiff.course.plot" in names
    assert run(f"NAMES = {names}" + GLOBAL_STATE).strip() == "[]"
