"""Colours that colour-blind eyes can tell apart: no figure of the package, the notebooks or the tools uses others."""

import ast
import re

import pytest
from places import ROOT

from minidiff.course import plot

# Perceptually uniform, rising in lightness; and diverging maps whose two ends differ for every kind of eye.
SEQUENTIAL = {"viridis", "cividis", "magma", "inferno", "plasma", "gray", "grey", "Greys", "binary", "Blues"}
DIVERGING = {"RdBu", "PuOr", "coolwarm", "BrBG", "berlin", "managua", "vanimo"}
SAFE = SEQUENTIAL | DIVERGING
# Names that are no common words: wherever they stand, a colour map is meant.
UNSAFE = {"jet", "rainbow", "gist_rainbow", "hsv", "nipy_spectral", "gist_ncar", "RdYlGn", "PiYG", "PRGn", "Spectral"}
FOLDERS = ("minidiff", "notebooks/src", "tools", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def maps(source: str) -> set[str]:
    """The colour maps that a piece of code names, without a trailing _r."""
    named = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "cmap" and isinstance(node.value, ast.Constant):
            named.add(node.value.value)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(("cm", "colormaps")):
            named.add(node.attr)
        elif isinstance(node, ast.Subscript | ast.Call) and "colormap" in ast.unparse(node).split("(")[0].split("[")[0]:
            argument = node.slice if isinstance(node, ast.Subscript) else (node.args or [None])[0]
            named |= {argument.value} if isinstance(argument, ast.Constant) else set()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named |= {node.value} & (UNSAFE | {name + "_r" for name in UNSAFE})
    return {str(name).removesuffix("_r") for name in named}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_maps_are_safe(path):
    assert maps(path.read_text(encoding="utf-8")) <= SAFE


@pytest.mark.parametrize(
    "code", ['f(cmap="jet")', 'm = "RdYlGn_r"', "plt.cm.hsv(x)", 'matplotlib.colormaps["hot"]', 'get_colormap("cool")']
)
def test_unsafe_maps_are_found(code):
    assert not maps(code) <= SAFE


def from_the_global_cycle(source: str) -> list[str]:
    """Colours such as "C1": matplotlib looks them up in its own settings, which the course leaves alone."""
    return re.findall(r"""["']C(?:\d|\{\w+\})["']""", source)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_colours_are_the_courses_own(path):
    assert not from_the_global_cycle(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("code", ['ax.plot(x, color="C1")', 'colour = f"C{k}"'])
def test_a_colour_of_the_global_cycle_is_found(code):
    assert from_the_global_cycle(code)


def test_the_default_colours_are_okabe_and_itos_and_viridis():
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    _, (ax,) = plot.figure("eight lines and a picture")
    assert [ax.plot([0, 1])[0].get_color() for _ in okabe_ito] == plot.COLOURS and set(plot.COLOURS) == okabe_ito
    assert ax.imshow([[0, 1]]).get_cmap().name == "viridis"
