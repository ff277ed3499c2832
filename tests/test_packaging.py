"""pyproject.toml is the one truth: environment.yml, constraints.txt, the changelog and Colab agree."""

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import minidiff

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
COLAB = json.loads((ROOT / "tests/course/colab_versions.json").read_text(encoding="utf-8"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PACKAGES = packages_distributions()  # by the name that one imports
PLATFORMS = {
    "linux": ("Linux", "posix", "x86_64"),
    "darwin": ("Darwin", "posix", "arm64"),
    "win32": ("Windows", "nt", "AMD64"),
}


def declared(*extras: str) -> dict[str, Requirement]:
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {requirement.name: requirement for requirement in map(Requirement, chain(*groups))}


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def machine(python: str, platform: str) -> dict[str, str]:
    """The marker environment of another machine."""
    system, os_name, processor = PLATFORMS[platform]
    return default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
        "platform_system": system,
        "os_name": os_name,
        "platform_machine": processor,
    }


def test_conda_and_pyproject_ask_for_the_same():
    python, *conda, local = CONDA["dependencies"]
    ours = {CONDA_NAMES.get(name, name): r.specifier for name, r in declared("notebooks").items()}
    assert {r.name: r.specifier for r in map(Requirement, conda)} == ours | {"pip": SpecifierSet()}
    assert local == {"pip": ["-e ."]}


def test_conda_names_one_channel_and_a_python_that_we_support():
    name, _, version = CONDA["dependencies"][0].partition("=")
    assert CONDA["channels"] == ["conda-forge"] and CONDA["name"] == "minidiff"
    assert name == "python" and SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_requirements_are_lower_bounds_only():
    for requirement in declared(*PROJECT["optional-dependencies"]).values():
        assert [s.operator for s in requirement.specifier] == [">="], requirement


def on_colab(requirement: Requirement) -> str | None:
    """The version that Colab has of what is asked for."""
    return {canonicalize_name(name): v for name, v in COLAB["packages"].items()}.get(
        canonicalize_name(requirement.name)
    )


def test_colab_needs_nothing_reinstalled():
    assert SpecifierSet(PROJECT["requires-python"]).contains(COLAB["python"])
    asked = declared("notebooks")
    del asked["jupyterlab"]  # Colab is its own
    for requirement in asked.values():
        assert on_colab(requirement), f"Colab has no {requirement.name}"
        assert requirement.specifier.contains(on_colab(requirement)), (
            f"Colab has {on_colab(requirement)}: {requirement}"
        )


def imports(tree: ast.AST) -> set[str]:
    """Packages imported, except where a missing one is caught."""
    guarded = {node for t in ast.walk(tree) if isinstance(t, ast.Try) for s in t.body for node in ast.walk(s)}
    found = [node for node in ast.walk(tree) if node not in guarded]
    names = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in found if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"minidiff"}


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks/src").rglob("*.py")), ids=lambda path: path.stem)
def test_colab_has_all_that_a_notebook_imports(source):
    for name in imports(ast.parse(source.read_text(encoding="utf-8"))):
        assert any(on_colab(Requirement(package)) for package in PACKAGES[name]), f"Colab has no {name}"


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_has_one_pin_everywhere(python, platform):
    here = machine(python, platform)
    active = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(here):
            name = canonicalize_name(pin.name)
            assert name not in active, f"two pins of {name}"
            active[name] = next(iter(pin.specifier)).version
    for name, requirement in declared("notebooks", "test", "book").items():
        if requirement.marker is None or requirement.marker.evaluate(here):
            assert requirement.specifier.contains(active[canonicalize_name(name)]), requirement


def test_pins_are_exact_and_name_no_address():
    for pin in pins():
        assert pin.url is None and [s.operator for s in pin.specifier] == ["=="], pin


def test_changelog_opens_with_the_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == minidiff.__version__
