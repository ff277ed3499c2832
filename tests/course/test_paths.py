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
        elif not re.search(r'"(check|answer|folded)"', head):
            found[here] += 0.5 + 3 * ("### BEGIN SOLUTION" in body)
    return found


def whole(number):
    """The minutes that a main line takes."""
    return sum(sum(reading_times(s).values()) for s in places.sources() if s.name.startswith(f"{number:02d}_"))


def path(name):
    """What a path reads, and the time that it is promised to take."""
    read, time = re.search(rf"(?m)^\| \*\*{name}\*\*[^|]*\|([^|]*)\|([^|]*)\|$", PATHS).groups()
    return read.strip(), time.strip()


def minutes(text):
    """How long each chapter takes of which a path names sections, with what stands above them; "1 to 3" are three."""
    found = {}
    for name in dict.fromkeys(name for name, anchor in LINK.findall(text) if anchor):
        times = reading_times(places.SOURCES / f"{name}.py")
        anchors = [anchor for other, anchor in LINK.findall(text) if other == name and anchor]
        for first, last in re.findall(rf"{name}\.ipynb#([\w-]+)\)\s+to\s+\[\d\]\({name}\.ipynb#([\w-]+)\)", text):
            order = list(times)
            anchors += order[order.index(first) + 1 : order.index(last)]
        found[name] = times[""] + sum(times[anchor] for anchor in anchors)
    return found


def test_ninety_minutes_are_ninety_minutes():
    read, time = path("Ninety minutes")
    own = reading_times(places.SOURCES / "00_start_here.py")
    here = own[""] + sum(own[anchor] for anchor in own if re.match("[1234]-", anchor))
    named = minutes(read)
    assert read.startswith("00: 1 to 4. ") and len(named) == 3 and time == "90 minutes"
    assert 80 < here + sum(named.values()) <= 90


def test_a_weekend_has_two_days_of_six_hours():
    assert path("A weekend") == ("00 to 09", "two days of six hours")
    assert sum(map(whole, range(10))) <= 12 * 60


def test_half_a_day_for_stable_diffusion():
    read, time = path("How Stable Diffusion works")
    named = minutes(read)
    assert read.startswith("the ninety minutes. ") and len(named) == 4 and time == "half a day"
    assert 180 <= 90 + sum(named.values()) <= 240


def test_all_of_it():
    read, time = path("All of it")
    last = int(places.sources()[-1].name[:2])
    assert read == f"00 to {last}" and time.startswith("eighteen hours")
    assert sum(map(whole, range(last + 1))) / 60 == pytest.approx(18, rel=0.15)
