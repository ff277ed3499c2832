"""docs/references.json is the one bibliography: what is cited is in it, and what is in it is cited."""

import re
import unicodedata
from collections import Counter

import links
import places
import pytest

PAPERS = links.references()
TEXTS = [*places.all_sources(), *sorted((places.ROOT / "minidiff").rglob("*.py"))]
TEXTS += sorted(path for pattern in ("*.md", "docs/**/*.md", "data/*.md") for path in places.ROOT.glob(pattern))
NAME = r"(?:van (?:den |der )?)?[A-Z][\w-]+"
CITED = re.compile(rf"({NAME} et al\.|{NAME} & {NAME})(?:'s)?,? \(?((?:18|19|20)\d\d)\b")

each_paper = pytest.mark.parametrize("key", PAPERS)


def plain(text: str) -> str:
    """A text without accents, marks of comments and ends of lines."""
    letters = unicodedata.normalize("NFKD", re.sub(r"(?m)^ *# ?", "", text))
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


def named(paper: dict) -> tuple[str, str]:
    """Author and year, as text that has no key cites a paper."""
    return plain(paper["authors"]), str(paper["year"])


def unknown(text: str) -> set[tuple[str, str]]:
    """Authors and years in a text that are in no entry."""
    return set(CITED.findall(plain(text))) - {named(paper) for paper in PAPERS.values()}


@each_paper
def test_an_entry_is_complete_and_its_key_is_author_and_year(key):
    paper = PAPERS[key]
    assert list(paper) == ["authors", "year", "title", "venue", "url"]
    surname = re.search(rf"{NAME}", named(paper)[0])[0].split()[-1]
    assert re.fullmatch(rf"{re.sub('[^a-z]', '', surname.lower())}{paper['year']}[a-z]*", key)


@each_paper
def test_a_link_leads_to_a_page_that_lasts(key):
    """To arXiv, in a year near the paper's; to a DOI; or to a place of its own."""
    year, url = PAPERS[key]["year"], PAPERS[key]["url"]
    assert re.fullmatch(r"https://[^\s()<>]+", url)
    if "arxiv" in url:
        posted, _ = re.fullmatch(r"https://arxiv\.org/abs/(\d\d)(?:0[1-9]|1[0-2])\.(\d{4,5})", url).groups()
        assert -1 <= year - 2000 - int(posted) <= 2


def test_entries_are_in_order_and_none_is_there_twice():
    assert list(PAPERS) == sorted(PAPERS)
    assert len({paper["url"] for paper in PAPERS.values()}) == len(PAPERS)


def test_papers_of_the_same_authors_and_year_are_cited_by_key():
    names = Counter(map(named, PAPERS.values()))
    cited = {found for path in TEXTS for found in CITED.findall(plain(path.read_text(encoding="utf-8")))}
    assert not [name for name in cited if names[name] > 1]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(places.ROOT).as_posix())
def test_what_is_cited_is_in_the_bibliography(path):
    text = path.read_text(encoding="utf-8")
    assert not unknown(text)
    assert set(links.CITATION.findall(text)) <= set(PAPERS)


def test_what_is_in_the_bibliography_is_cited():
    texts = [path.read_text(encoding="utf-8") for path in TEXTS]
    keys, words = set(links.CITATION.findall("\n".join(texts))), plain("\n".join(texts))
    cited = {key for key, paper in PAPERS.items() if re.search(r"(?:'s)?,? \(?".join(named(paper)), words)}
    assert keys | cited == set(PAPERS)


@pytest.mark.parametrize(
    "text", ["Nobody et al. 2020", "Nobody & Else (2020)", "Ho et al. 1999", "van Nobody et al.\n# 2020"]
)
def test_an_unknown_paper_is_found(text):
    assert unknown(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ho et al. 2020",
        "Ho et al.\n# (2020)",
        "Salimans & Ho's (2022)",
        "Kynkäänniemi et al., 2019",
        "van den Oord et al. 2017",
    ],
)
def test_a_known_one_is_recognised(text):
    assert CITED.search(plain(text)) and not unknown(text)
