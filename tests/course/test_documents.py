"""README, CONTRIBUTING, INSTRUCTOR and data/README: links lead somewhere, commands are understood, files exist.

The glossary and the list of checks are pages of the book, whose tests follow their links.
"""

import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from minidiff.cli import parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/INSTRUCTOR.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = set(re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split())
TOOLS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tools").glob("*.py")))
DATA = [path for path in (ROOT / "data").iterdir() if path.is_dir()]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
CODE = re.compile(r"`([^`]+)`")
FILE = re.compile(r"[\w./-]*\w\.(?:py|md|toml|yml|json|cfg|txt|png|ipynb|safetensors)")


def slug(heading):
    """The anchor that GitHub and the book give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(text):
    return {slug(heading) for heading in re.findall(r"(?m)^#+ (.*)$", FENCE.sub("", text))}


def broken_link(target, document):
    """What is wrong with where a link leads; None if nothing is, or if it leads to somebody else's page."""
    parts = urlsplit(target)
    if parts.scheme:
        return broken_address(target, parts)
    path = (document.parent / parts.path) if parts.path else document
    if not path.exists():
        return f"{target}: no such file"
    if parts.fragment and parts.fragment not in anchors(path.read_text(encoding="utf-8")):
        return f"{target}: no such heading"
    return None


def broken_address(address, parts):
    """Whether an address of this repository, on GitHub, Colab, Binder or a hub, names a file that is not there."""
    here = PROJECT["tool"]["minidiff"]
    repository, branch = here["repository"], here["branch"]
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.netloc == "mybinder.org" and parts.path.startswith("/v2/"):
        start, path = f"/v2/gh/{repository}/{branch}", asked.get("labpath", "")
    elif parts.netloc == "colab.research.google.com" and parts.path.startswith("/github/"):
        start, path = f"/github/{repository}/blob/{branch}", parts.path.partition(f"/blob/{branch}/")[2]
    elif "git-pull" in parts.path:
        if asked["repo"] != f"https://github.com/{repository}":
            return f"{address}: not this repository"
        start, path = "", asked["urlpath"].removeprefix(f"lab/tree/{asked['targetpath']}/")
    elif parts.netloc == "github.com":
        start, path = f"/{repository}", parts.path.partition(f"/blob/{branch}/")[2]
    else:
        return None
    if not parts.path.startswith(start):
        return f"{address}: not this repository"
    return None if (ROOT / path).exists() else f"{address}: no such file"


def commands(text):
    """Command lines: fences without a language, what is indented in a letter, and code in the text that begins so."""
    spans = [" ".join(span.split()) for span in CODE.findall(FENCE.sub("", text))]
    lines = [span for span in spans if re.match(r"(make|python -m minidiff|conda) \w", span)]
    for language, fence in FENCE.findall(text):
        start = {"": "", "text": "    "}.get(language)
        lines += [line for line in fence.splitlines() if start is not None and line.startswith(start)]
    return [command for line in lines for command in line.split("&&")]


def broken_command(command):
    """What is wrong with a command line; None if it is understood."""
    words = shlex.split(command.replace("\\", "/"), comments=True)
    while words and (re.fullmatch(r"[A-Z_]+=\S*", words[0]) or words[0] == "time"):
        words.pop(0)
    if not words:
        return None
    if words[0] == "make":
        unknown = [word for word in words[1:] if "=" not in word and word not in TARGETS]
        return f"{command}: no target {unknown}" if unknown else None
    if "-m" in words and words[words.index("-m") + 1 :][:1] == ["minidiff"]:
        arguments = words[words.index("minidiff") + 1 :]
        try:
            parser().parse_args(arguments)
        except SystemExit:
            return f"{command}: not a command of minidiff"
    extras = [extra for word in words for found in re.findall(r"\[(.*?)\]", word) for extra in found.split(",")]
    problems = [extra for extra in extras if extra not in PROJECT["project"]["optional-dependencies"]]
    problems += nowhere([word for before, word in pairwise(["", *words]) if before != "--out"], ROOT)
    for script in (ROOT / word for word in words if word.startswith("tools/") and (ROOT / word).exists()):
        options = [word for word in words if word.startswith("--")]
        problems += [option for option in options if option not in script.read_text(encoding="utf-8")]
    return f"{command}: {problems}" if problems else None


def nowhere(names, *places):
    """Names of files that are in none of the places, in no folder of data/, and that no tool writes. NN is a number."""
    asked = {name for name in names if FILE.fullmatch(name) and "NN" not in name}
    asked = {name for name in asked if not name.startswith(("runs/", "build/")) and name not in TOOLS}
    return sorted(name for name in asked if not any((place / name).exists() for place in (*places, *DATA)))


def missing_files(text, document):
    """Files that a document names in code and that are nowhere."""
    return nowhere((span.strip() for span in CODE.findall(FENCE.sub("", text))), ROOT, document.parent)


@pytest.fixture(params=DOCUMENTS)
def document(request):
    return ROOT / request.param


def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    targets = {*LINK.findall(FENCE.sub("", text)), *re.findall(r"https://[^\s`)\"]+", text)}
    assert not list(filter(None, (broken_link(target, document) for target in sorted(targets))))


def test_commands_are_understood(document):
    found = commands(document.read_text(encoding="utf-8"))
    assert found and not list(filter(None, map(broken_command, found)))


def test_named_files_exist(document):
    assert not missing_files(document.read_text(encoding="utf-8"), document)


@pytest.mark.parametrize(
    "target",
    [
        "nowhere.md",
        "#no-such-heading",
        "CONTRIBUTING.md#no-such-heading",
        "https://github.com/SOMEBODY/ELSE/blob/main/README.md",
        "https://github.com/OWNER/REPO/blob/main/nowhere.md",
        "https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/01_noise.ipynb",
        "https://mybinder.org/v2/gh/OWNER/REPO/main?labpath=notebooks/01_noise.ipynb",
        "https://HUB/hub/git-pull?repo=https://github.com/OWNER/REPO&targetpath=a&urlpath=lab/tree/a/b.md",
    ],
)
def test_a_broken_link_is_found(target):
    here = PROJECT["tool"]["minidiff"]
    target = target.replace("OWNER/REPO", here["repository"]).replace("main", here["branch"])
    assert broken_link(target, ROOT / "README.md")


@pytest.mark.parametrize(
    "command",
    [
        "make tea",
        "python -m minidiff dream",
        "OMP_NUM_THREADS=1 .venv/bin/python -m minidiff train --data fashion --second 3 --out runs/x --fast",
        'python -m pip install -e ".[notebook]" -c constraints.txt',
        'python -m pip install -e ".[notebooks]" -c limits.txt',
        ".venv/bin/python tools/no_such_tool.py",
        ".venv/bin/python tools/build_notebooks.py --fast",
        "time .venv/bin/jupyter execute notebooks/99_end.ipynb",
    ],
)
def test_a_broken_command_is_found(command):
    assert broken_command(command)


def test_a_missing_file_is_found():
    assert missing_files("see `tools/no_such_tool.py` and `README.md`", ROOT / "README.md") == ["tools/no_such_tool.py"]
