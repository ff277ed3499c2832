"""Files that are written whole or not at all: their parts, and what becomes of the parts of killed processes."""

import os
import platform
import subprocess
import sys

import pytest

from minidiff.app.files import FileError, write_atomically


def parts(folder):
    return sorted(path.name for path in folder.glob(".*.part"))


def test_each_process_writes_a_part_of_its_own(tmp_path, monkeypatch):
    seen = []

    def look(source, target):
        seen.extend(parts(tmp_path))
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "replace", look)
    for process in 1, os.getppid():  # both run
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with pytest.raises(FileError, match="could not write"):
            write_atomically(tmp_path / "a", b"new")
    assert len(set(seen)) == 2 and parts(tmp_path) == []


def test_a_write_removes_the_parts_of_the_dead_and_only_those(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = platform.node()
    others = [f".b.{host}-{os.getppid()}.part", f".c.elsewhere-{dead.pid}.part", ".d.part"]
    for name in (f".a.{host}-{dead.pid}.part", *others):
        (tmp_path / name).write_bytes(b"")
    write_atomically(tmp_path / "a", b"new")
    assert parts(tmp_path) == sorted(others)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_the_file_before_goes_on_under_its_other_name(tmp_path):
    path, previous = tmp_path / "a", tmp_path / "before"
    for content in b"1", b"2", b"3":
        write_atomically(path, content, previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert parts(tmp_path) == []


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "theirs").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "theirs").read_bytes() == b"old" and (tmp_path / "link").read_bytes() == b"new"
