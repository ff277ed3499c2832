"""docs/INSTRUCTOR.md: schedules add up, name what exists, leave time to read and to solve; tables tell the truth."""

import re
from pathlib import Path

import links
import places
import pytest

from minidiff.course import doctor

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/INSTRUCTOR.md").read_text(encoding="utf-8")
SOURCES = {path.name[:2]: path for path in sorted((ROOT / "notebooks/src").glob("[0-9][0-9]_*.py"))}
ANSWERS = {path.name[:2]: path for path in sorted((ROOT / "docs/answers").glob("[0-9][0-9]_*.md"))}
LENGTHS = {"90 minutes": 90, "Half a day": 210, "Day 1": 420, "Day 2": 420}
WORDS_A_MINUTE = 200


def section(title):
    """What stands between a heading of the handbook and the next one."""
    return re.search(rf"(?ms)^#+ {re.escape(title)}$(.*?)(?=^#+ |\Z)", TEXT)[1]


def tables(text):
    """The tables of a text: lists of rows, rows lists of cells, without the heading and its rule."""
    found = re.findall(r"(?m)(?:^\|.*\n)+", text)
    split = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in found]
    return [table[2:] for table in split]


def minutes(clock):
    hours, past = clock.split(":")
    return 60 * int(hours) + int(past)


def schedule(title):
    return tables(section(title))[0]


def prose(chapter):
    """The number of words of prose under each heading of a chapter."""
    words, heading, markdown = {}, "", False
    for line in SOURCES[chapter].read_text(encoding="utf-8").splitlines():
        if line.startswith("# %%"):
            markdown = "[markdown]" in line
        elif markdown:
            line = line.removeprefix("#").strip()
            if found := re.fullmatch(r"#+ (.+)", line):
                heading = found[1]
            words[heading] = words.get(heading, 0) + len(line.split())
    return words


def named(what):
    """The sections that a cell of a schedule names, as pairs of chapter and heading."""
    chapter = re.match(r"(\d\d): ", what)
    return [(chapter[1], heading) for heading in re.findall(r"\*([^*]+)\*", what)] if chapter else []


def answer_minutes(chapter):
    """Minutes for pen, code and open, as the answer key has them."""
    last = ANSWERS[chapter].read_text(encoding="utf-8").strip().splitlines()[-1]
    return [int(n) for n in re.fullmatch(r"\*\*Minutes\.\*\* pen (\d+), code (\d+), open (\d+)\.?", last).groups()]


@pytest.mark.parametrize("title", LENGTHS)
def test_schedule_adds_up(title):
    now = 0
    for clock, length, *_ in schedule(title):
        assert minutes(clock) == now, f"{title}: it is {now // 60}:{now % 60:02}, the table says {clock}"
        now += int(length)
    assert now == LENGTHS[title]


@pytest.mark.parametrize("title", LENGTHS)
def test_schedule_names_sections_that_exist(title):
    chapters = {chapter for _, _, what, *_ in schedule(title) for chapter, _ in named(what)}
    headings = {chapter: prose(chapter) for chapter in chapters}
    missing = [pair for _, _, what, *_ in schedule(title) for pair in named(what) if pair[1] not in headings[pair[0]]]
    assert not missing and len(chapters) > 3


@pytest.mark.parametrize("title", LENGTHS)
def test_schedule_leaves_time_to_read_and_to_solve(title):
    for clock, length, what, who, *_ in schedule(title):
        assert who in ("talk", "show", "run", "do", "start", "break"), clock
        if who == "run":
            words = sum(prose(chapter)[heading] for chapter, heading in named(what))
            assert 0 < words / WORDS_A_MINUTE <= int(length) / 1.5, f"{title} {clock}: {words} words, and cells to run"
        if who == "do":
            number = int(re.search(r"\*Exercises\*, ([123])", what)[1])
            # An open exercise has no end; the others have to be finished.
            assert number == 3 or answer_minutes(what[:2])[number - 1] <= int(length), f"{title} {clock}"


@pytest.mark.parametrize("title", LENGTHS)
def test_cut_list_wins_what_it_says(title):
    length = {clock: int(length) for clock, length, *_ in schedule(title)}
    won = 0
    for lost, rows, says, go_on, _ in tables(section(title))[1]:
        won += sum(length[clock] for clock in rows.split(", "))
        assert int(says) == won >= int(lost.removesuffix(" min")) and go_on in length


def test_needs_of_each_chapter():
    """Reading time from the words, and the seconds that are trainings of a given length."""
    rows = {re.match(r"\[(\d\d)", row[0])[1]: row for row in tables(section("What each chapter needs"))[0]}
    assert list(rows) == list(SOURCES)
    for chapter, (_, read, seconds, clock, *_) in rows.items():
        source = SOURCES[chapter].read_text(encoding="utf-8")
        assert int(read.split()[0]) == pytest.approx(sum(prose(chapter).values()) / WORDS_A_MINUTE, rel=0.1)
        constants = re.findall(r"(?m)^(?:\w*SECONDS|FIRST)(?:, \w+)* = ([\d, ]+)", source)
        given = [int(n) for numbers in constants for n in numbers.split(",")]
        given += [int(n) for n in re.findall(r"\bseconds=(\d+)\b", source)]
        given += [5] * ("examine()" in source)  # the doctor's training
        assert int(clock) == pytest.approx(sum(given), abs=2) and int(clock) < int(seconds)


def test_chapters_compute_on_the_cpu():
    """The handbook says so; a chapter that moves its work to a GPU makes it wrong."""
    moves = re.compile(r"best_device\(|\.cuda\(|\.to\([\"']|device=")
    assert [chapter for chapter, path in SOURCES.items() if moves.search(path.read_text(encoding="utf-8"))] == ["06"]


def test_exercises_are_those_of_the_answer_keys():
    rows = tables(section("Exercises"))[0]
    assert len(rows) == len(SOURCES) - 1 == len(ANSWERS)
    for chapter, *titles, time in rows:
        number, link = re.fullmatch(r"\[(\d\d)\]\((answers/.+)\)", chapter).groups()
        assert ROOT / "docs" / link == ANSWERS[number]
        key = ANSWERS[number].read_text(encoding="utf-8")
        assert titles == [re.search(rf"(?m)^## {kind}: (.+)$", key)[1] for kind in ("Pen", "Code", "Open")]
        assert [int(n) for n in time.split("+")] == answer_minutes(number)


def test_lines_of_the_doctor():
    lines = [row[0].split() for row in tables(section("Pre-flight"))[0]]
    assert len(lines) > 5
    for verdict, check in lines:
        assert verdict in ("FAIL", "warn") and callable(getattr(doctor, check))


def test_papers_are_cited_by_the_chapters():
    text = "\n".join(path.read_text(encoding="utf-8") for path in places.all_sources())
    text = links.CITATION.sub(lambda key: "{authors} {year}".format(**links.reference(key[1])), text)
    text = " ".join(re.sub(r"(?m)^# ?", "", text).split())
    papers = [row[0] for row in tables(section("After"))[1]]
    assert len(papers) > 5 and not [paper for paper in papers if paper not in text]
