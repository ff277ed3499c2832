"""The stored benchmark results: the tables and plots beside the numbers are those numbers."""

import importlib.util
import io
import json
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))
SPEC = importlib.util.spec_from_file_location("report", ROOT / "benchmarks/report.py")
report = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(report)

each_result = pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)


def test_there_is_a_result():
    assert RESULTS


@each_result
def test_the_table_is_that_of_the_numbers(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == report.table(result) + "\n"


@each_result
def test_the_plot_is_one_of_these_numbers(path):
    picture = report.draw(json.loads(path.read_text(encoding="utf-8")))
    with Image.open(path.with_suffix(".png")) as stored, Image.open(io.BytesIO(picture.png())) as drawn:
        assert stored.size == drawn.size
    assert all(name in picture.alt for name in ("minidiff", "diffusers", "smalldiffusion"))


@each_result
def test_it_says_on_what_it_was_measured(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {"machine", "versions", "date", "seconds"} <= result.keys()
    assert result["versions"].keys() == {"torch", *result["contenders"]}
