"""The table of planted errors still fits the code, and covers all of it; `make mutate` runs it."""

from pathlib import Path

import pytest
from mutate import ROOT, TABLE, misfits

PACKAGE = ROOT / "minidiff"


def test_there_are_enough():
    assert len(TABLE) >= 160
    assert len({str(planted) for planted in TABLE}) == len(TABLE), "two entries of one name"


def test_each_text_stands_once_in_its_module():
    assert misfits(TABLE) == []


@pytest.mark.parametrize("module", sorted({planted.module for planted in TABLE}))
def test_each_error_changes_its_module_into_another_program(module):
    source = (PACKAGE / module).read_text(encoding="utf-8")
    for planted in TABLE:
        if planted.module == module:
            changed = source.replace(planted.old, planted.new)
            assert changed != source, planted
            compile(changed, module, "exec")


def test_each_names_tests_that_are_there():
    for planted in TABLE:
        arguments = planted.arguments()
        assert arguments.count("-k") == 1 and arguments[-2] == "-k" and len(arguments) >= 3, planted
        for file in arguments[:-2]:
            assert (ROOT / file).is_file(), planted


def test_every_folder_of_the_package_has_some():
    folders = {path.parent for path in PACKAGE.rglob("*.py") if "_data" not in path.parts}
    assert {PACKAGE / Path(planted.module).parent for planted in TABLE} == folders
