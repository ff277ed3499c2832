"""Where does the course keep its files, and where does it live itself?

A chapter has a main line, `notebooks/src/NN_name.py`, and may have a notebook that goes beyond it, of the same name in
`notebooks/src/deeper`. Each becomes a notebook; a main line becomes a student's copy too.
"""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
DEEPER = NOTEBOOKS / "deeper"
STUDENT = NOTEBOOKS / "student"
SOURCES = NOTEBOOKS / "src"


def setting():
    """Where the course lives: {"repository": "OWNER/REPO", "branch": ...}."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["minidiff"]


def sources():
    """The sources of the main lines, in order."""
    return sorted(SOURCES.glob("[0-9][0-9]_*.py"))


def deeper_sources():
    """The sources of what goes beyond them."""
    return sorted((SOURCES / "deeper").glob("[0-9][0-9]_*.py"))


def all_sources():
    """Every source, main lines first."""
    return sources() + deeper_sources()


def built(source):
    """The path of the notebook that belongs to a source."""
    return NOTEBOOKS / source.relative_to(SOURCES).with_suffix(".ipynb")


def students_copy(source):
    """The path of the student's copy of a main line."""
    return STUDENT / built(source).name
