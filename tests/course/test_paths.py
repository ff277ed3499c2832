"""The paths through the course in chapter 00: their sections are there, and take the time that is promised.

Reading time is what docs/INSTRUCTOR.md says it is: words at 200 a minute, half a minute for each cell in sight, three
minutes for each gap.
"""

import re

import places
import pytest
from links import slug

TEXT = re.sub(r"(?m)^# ?", "", (places.SOURCES / "00_start_here.py").read_text(encoding="utf-8"))
PATHS = re.search(r"(?ms)^## 5\. Paths$(.*?)^## ", TEXT)[1]
LINK = re.compile(r"\[[^\]]*\]\(([\w/]+)\.ipynb(?:#([\w-]+))?\)")


def reading_times(source):
    """The minutes that each section of a chapter takes, what is under its own headings included: {anchor: minutes}.

    What stands above the first section has the anchor "".
    """
    found, here = {"": 0.0}, ""
    for cell in source.read_text(encoding="utf-8").split("\n# %%"):
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            for line in body.splitlines():
                words = line.removeprefix("#").split()
                if words[:1] == ["##"]:
                    here = slug(" ".join(words[1:]))
                    found[here] = 0.0
                found[here] += len(words) / 200
        elif not re.search(r'"(check|answer)"', head):
            found[here] += 0.5 + 3 * ("### BEGIN SOLUTION" in body)
    return found


def whole(number):
    """The minutes that a main line takes."""
    return sum(sum(reading_times(s).values()) for s in places.sources() if s.name.startswith(f"{number:02d}_"))


def ninety():
    """The rows of the ninety minutes: chapter, anchors of sections, minutes promised."""
    rows = [line.strip("|").split("|") for line in PATHS.splitlines() if re.match(r"\| (?:00|\[)", line)]
    for chapter, sections, minutes in rows:
        name = LINK.search(chapter)
        anchors = [place for _, place in LINK.findall(sections)]
        if not name:  # this notebook, by the numbers of its sections
            own = reading_times(places.SOURCES / "00_start_here.py")
            anchors = [anchor for anchor in own if re.match("[1234]-", anchor)]
            assert sections.strip() == "1 to 4"
        yield (name[1] if name else "00_start_here"), anchors, int(minutes)


def test_ninety_minutes_are_ninety_minutes():
    total = 0
    for name, anchors, promised in ninety():
        times = reading_times(places.SOURCES / f"{name}.py")
        assert anchors and set(anchors) <= set(times), name
        minutes = times[""] + sum(times[anchor] for anchor in anchors)
        assert abs(minutes - promised) <= 1, f"{name}: {minutes:.1f} minutes, the table says {promised}"
        total += minutes
    assert 80 < total <= 90


def test_a_weekend_has_two_days_of_six_hours():
    assert "00 to 09, two days of six hours" in PATHS
    assert sum(map(whole, range(10))) <= 12 * 60


def test_half_a_day_for_stable_diffusion():
    """The sections that are named, "1 to 3" with what is between them, after the ninety minutes."""
    text, names = re.search(r"\*\*How Stable Diffusion works\*\*(.*?)\n\n", PATHS, re.DOTALL)[1], {}
    for name, anchor in LINK.findall(text):
        names.setdefault(name, []).extend([anchor] if anchor else [])
    minutes = 90.0
    for name, anchors in names.items():
        times = reading_times(places.SOURCES / f"{name}.py")
        for first, last in re.findall(rf"{name}\.ipynb#([\w-]+)\)\s+to\s+\[\d\]\({name}\.ipynb#([\w-]+)\)", text):
            order = list(times)
            anchors += order[order.index(first) + 1 : order.index(last)]
        minutes += times[""] + sum(times[anchor] for anchor in anchors)
    assert len(names) == 4 and "half a day" in text and 180 <= minutes <= 240


def test_all_of_it():
    hours = re.search(r"\*\*All of it\*\*: 00 to (\d+) in (\w+) hours", PATHS)
    assert places.sources()[-1].name.startswith(hours[1]) and hours[2] == "eighteen"
    assert sum(map(whole, range(int(hours[1]) + 1))) / 60 == pytest.approx(18, rel=0.15)
