"""Shipped files: where they lie, and whether each is whole.

    sha256(file) == checksums.json[file]

Data sets and checkpoints lie in one folder: `data/` of a checkout, `minidiff/_data` of an installed wheel.
Its `checksums.json` maps each file's path inside the folder to its sha256; a file is checked before its
first use.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

CHECKSUMS = "checksums.json"
REMEDY = "reinstall minidiff, or in a checkout run: git checkout -- data"


def root() -> Path:
    """Return the folder of shipped files, the wheel's own or the checkout's. FileNotFoundError if there is none."""
    package = Path(__file__).parents[1]
    folders = package / "_data", package.parent / "data"
    for folder in folders:
        if (folder / CHECKSUMS).is_file():
            return folder
    raise FileNotFoundError(f"no minidiff data in {folders[0]} nor {folders[1]}; {REMEDY}")


def checksums() -> dict[str, str]:
    """Return the sha256 of each shipped file by its path inside `root()`, such as "fashion/train.png"."""
    return json.loads((root() / CHECKSUMS).read_text(encoding="utf-8"))


def shipped(filename: str) -> Path:
    """Return the path of a shipped file, checked against its sha256 once per process.

    FileNotFoundError if it is missing, ValueError if it is unknown or altered; each names file and remedy.
    """
    known = checksums()
    if filename not in known:
        raise ValueError(f"expected a shipped file, one of {', '.join(known)}; got {filename!r}")
    path = root() / filename
    if not path.is_file():
        raise FileNotFoundError(f"missing {path}; {REMEDY}")
    _verify(path, known[filename])
    return path


@cache
def _verify(path: Path, expected: str) -> None:
    actual = sha256(path)
    if actual != expected:
        raise ValueError(f"{path} was altered: expected sha256 {expected[:12]}..., got {actual[:12]}...; {REMEDY}")


def sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
