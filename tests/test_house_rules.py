"""The house rules that a parser can check: old syntax, short modules, no pickle, a light import."""

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
            used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
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
def test_package_modules_are_short_and_open_with_their_question(path):
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 250
    assert docstring and len(docstring.splitlines()) <= 15


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_public_functions_say_what_they_do_and_take_at_most_six_parameters(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        taken = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        assert len(taken) <= 6, f"{node.name} takes {len(taken)} parameters"
        assert ast.get_docstring(node), f"{node.name} has no docstring"


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


def test_import_is_light():
    """`import minidiff` costs torch and little more: it brings none of these on top."""
    heavy = {"matplotlib", "torchvision", "tqdm", "IPython", "PIL", "ipywidgets", "sklearn", "scipy"}
    code = (
        "import sys, torch; before = set(sys.modules); import minidiff;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    brought = set(run.stdout.split())
    assert "minidiff" in brought and not brought & heavy
