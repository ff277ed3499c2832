"""Files that are written whole or not at all.

Content goes into a part beside its place, is flushed to disk and renamed: under the name stands the old file or the
new one, never half of one. A part carries the process that writes it; those of killed processes are removed.
"""

import os
import platform
import re
import shutil
from pathlib import Path


class FileError(ValueError):
    """A file that cannot be read or written; the message is one line that names it and the remedy."""


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Put content under path in one step; a symbolic link is replaced, not followed. FileError if the disk refuses.

    With `previous`, the file that was there before goes on under that name.
    """
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(path.parent)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            f"{path}: could not write {len(content) / 1e6:.1f} MB ({reason}); "
            "free space or choose another folder; an earlier file of that name is untouched"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _keep(path: Path, previous: Path) -> None:
    """Put the file under path under `previous` too, so that at no moment either name lacks a whole file."""
    part = _part(previous)
    try:
        os.link(path, part)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, part)
    try:
        os.replace(part, previous)
    finally:
        part.unlink(missing_ok=True)  # renaming one hard link of a file onto another leaves both


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.part")


def remove_stale_parts(folder: Path) -> None:
    """Remove the parts that processes of this machine left behind when they were killed."""
    for part in folder.glob(".*.part"):
        writer = re.fullmatch(r"\..+\.(.*)-(\d+)\.part", part.name)
        if writer and writer[1] == platform.node() and not _runs(int(writer[2])):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or a system that does not tell
        return True
    return True
