"""Imports point one way: a module imports only from the folders above its own in the table of the design."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minidiff"

# What the modules of a folder may import beside their own folder. "" is the root: the mathematics.
MAY_IMPORT = {
    "": set(),
    "nets": set(),
    "data": set(),
    "training": {"", "nets", "data"},
    "app": {"", "nets", "data", "training"},
    "course": {"", "nets", "data", "training", "app"},
    "cli": {"", "nets", "data", "training", "app", "course"},
}
# The mathematics has an order of its own; what is not named here comes last.
ORDER = {"schedule": 0, "process": 1, "oracle": 2, "denoiser": 2}
ORDER |= {"losses": 3, "samplers": 3, "guidance": 3, "latent": 3}


def modules() -> dict[str, Path]:
    """All modules by dotted name below minidiff: "samplers", "nets.unet", "data" for data/__init__.py, "" the root."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    del found["__main__"]
    return found


MODULES = modules()


def folder(name: str) -> str:
    """The row of a module: its folder, "cli", or "" for the root and the modules in it."""
    first = name.partition(".")[0]
    return first if first in MAY_IMPORT or (PACKAGE / first).is_dir() else ""


def allowed(name: str, other: str) -> bool:
    """Whether the module `name` may import the module `other`."""
    if folder(name) != folder(other):
        return folder(other) in MAY_IMPORT[folder(name)]
    if folder(name) or not name:  # inside a folder, and where `import minidiff` offers the mathematics
        return True
    return other != "" and ORDER.get(other, 4) < ORDER.get(name, 4)


def imports(source: str, here: str = "") -> set[str]:
    """The modules of minidiff that a source in a folder imports, anywhere in it; "" stands for the package's root."""
    found = set()
    package = ["minidiff", *filter(None, here.split("."))]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{source}.{alias.name}" for alias in node.names]
            # `from minidiff.data import Images` imports the module data, not a module Images.
            names = [n if n.partition(".")[2] in MODULES else source for n in names]
        else:
            continue
        found |= {n.partition(".")[2] for n in names if n.split(".")[0] == "minidiff"}
    return found


def imported_by(name: str) -> set[str]:
    path = MODULES[name]
    return imports(path.read_text(encoding="utf-8"), ".".join(path.relative_to(PACKAGE).parent.parts))


def test_every_folder_has_its_row_and_every_row_something():
    assert {folder(name) for name in MODULES} == set(MAY_IMPORT)
    assert set(ORDER) <= set(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_only_from_rows_above(name):
    assert not [other for other in imported_by(name) if not allowed(name, other)]


def test_no_modules_import_each_other():
    """Not even in a ring, nor inside functions."""
    TopologicalSorter({name: imported_by(name) for name in MODULES}).prepare()


@pytest.mark.parametrize(
    "name, other",
    [
        ("schedule", "process"),
        ("process", "denoiser"),
        ("denoiser", "losses"),
        ("losses", "samplers"),
        ("samplers", "losses"),
        ("oracle", "denoiser"),
        ("schedule", ""),
        ("samplers", "nets.unet"),
        ("latent", "data"),
        ("", "app.generate"),
        ("", "nets.unet"),
        ("nets.unet", ""),
        ("nets.unet", "schedule"),
        ("nets", "data.toy"),
        ("data.images", "nets"),
        ("data", "training"),
        ("training.loop", "app.checkpoint"),
        ("training", "course.plot"),
        ("app.runs", "course"),
        ("app", "cli"),
        ("course.doctor", "cli"),
    ],
)
def test_a_wrong_direction_is_found(name, other):
    assert not allowed(name, other)


@pytest.mark.parametrize(
    "source, here, wanted",
    [
        ("import minidiff.nets.unet", "", {"nets.unet"}),
        ("from minidiff import Cosine", "", {""}),
        ("from minidiff import samplers", "", {"samplers"}),
        ("from minidiff.data import Images", "", {"data"}),
        ("def f():\n    from minidiff.app import runs", "", {"app.runs"}),
        ("from .. import schedule", "nets", {"schedule"}),
        ("from . import layers", "nets", {"nets.layers"}),
        ("from .layers import zero_init", "nets", {"nets.layers"}),
        ("import torch", "", set()),
    ],
)
def test_all_ways_to_import_are_seen(source, here, wanted):
    assert imports(source, here) == wanted
