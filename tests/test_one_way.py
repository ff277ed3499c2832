"""Imports point one way: a module of minidiff imports only from rows above its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minidiff"

# Whole numbers are the rows of the design; tenths order modules inside a row. A new module gets its row here.
ROWS = {
    "schedule": 0,
    "muon": 0,
    "process": 1,
    "oracle": 2,
    "denoiser": 2,
    "losses": 3,
    "samplers": 3,
    "guidance": 3,
    "sde": 3,
    "flow": 3,
    "nets": 0,
    "nets.embed": 0,
    "nets.layers": 0,
    "nets.text": 0,
    "nets.mlp": 1,
    "nets.unet": 1,
    "nets.dit": 1,
    "nets.autoencoder": 1,
    "nets.classifier": 1,
    "data.files": 0,
    "data.toy": 0,
    "data.images": 0.1,
    "data.scenes": 0.2,
    "data.vision": 0.2,
    "data.reading": 0.3,
    "data": 0.3,
    "": 3.9,  # the root offers the rows 0-3; the rows below may import from it
    "latent": 4,
    "generate": 4.1,
    "checkpoint": 5,
    "objectives": 5,
    "train": 5.1,
    "metrics": 5.1,
    "plot": 6,
    "widgets": 6.1,
    "exercises": 6.1,
    "models": 6,
    "evaluate": 6,
    "runs": 6.1,
    "hosts": 6.2,
    "surroundings": 6.1,
    "doctor": 6.2,
    "cli": 7,
}
CLOSED = ("nets", "data")  # folders that know nothing of the rest: tensors only, no word about diffusion


def name_of(path: Path) -> str:
    """The dotted name below minidiff: "samplers", "nets.unet", "data" for data/__init__.py, "" the root."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def modules() -> dict[str, Path]:
    return {name_of(path): path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"}


def imports(path: Path) -> set[str]:
    """The modules of minidiff that a file imports, anywhere in it; "" stands for the package's root."""
    known, found = set(modules()), set()
    here = ["minidiff", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{source}.{alias.name}" for alias in node.names]
            # `from minidiff.data import Images` imports the module data, not a module Images.
            names = [n if n.partition(".")[2] in known else source for n in names]
        else:
            continue
        found |= {n.partition(".")[2] for n in names if n.split(".")[0] == "minidiff"}
    return found


INSIDE = sorted(name for name in modules() if name)


@pytest.mark.parametrize("name", INSIDE)
def test_imports_only_from_rows_above(name):
    assert name in ROWS, f"{name} has no row: give it one"
    for other in imports(modules()[name]):
        assert ROWS[other] < ROWS[name], f"{name} (row {ROWS[name]}) imports {other!r} (row {ROWS[other]})"


@pytest.mark.parametrize("name", [name for name in INSIDE if name.split(".")[0] in CLOSED])
def test_networks_and_data_know_only_their_own_folder(name):
    folder = name.split(".")[0]
    strangers = {other for other in imports(modules()[name]) if other.split(".")[0] != folder}
    assert not strangers, f"{name} imports {strangers}"


def test_the_root_offers_the_core_only():
    """`import minidiff` must not reach the rows that need matplotlib, torchvision or a terminal."""
    assert all(ROWS[name] < ROWS[""] for name in imports(PACKAGE / "__init__.py"))
