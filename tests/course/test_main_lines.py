"""How a main line is made, as far as one can count: its length, its cells, its gaps, its beginning and its end.

And the same, but for length, of what goes beyond a main line.
"""

import ast
import re

import jupytext
import nbformat
import places
import pytest

# Chapters that have not been rebuilt to these rules. The list only shrinks: a chapter that follows them must leave it.
WAITING = {
    "06_unet",
    "07_training",
    "08_sampling",
    "09_guidance",
    "10_autoencoders",
    "11_latent_diffusion",
    "12_text_to_image",
    "13_evaluation",
}
MAIN = [source for source in places.sources() if source.stem not in WAITING]
DEEPER = places.deeper_sources()
CELLS = {"lines in a cell": 12, "characters in a line": 88}  # the book and a phone show no more
ANSWER = "<details><summary>Answer</summary>"
SOLUTION = re.compile(r"(?s)### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION")


def name(path) -> str:
    return path.relative_to(places.SOURCES).with_suffix("").as_posix()


def cells(text: str) -> list:
    return jupytext.reads(text, fmt="py:percent").cells


def tagged(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def markdown(chosen: list) -> str:
    return "\n\n".join(cell.source for cell in chosen if cell.cell_type == "markdown")


def words(text: str) -> int:
    """Words of prose: a formula in a line is one, displayed formulas, code and the targets of links are none."""
    text = re.sub(r"(?ms)\$\$.*?\$\$|^```.*?^```|\]\([^)]*\)", " ", text)
    return len(re.findall(r"\S*\w\S*", re.sub(r"</?\w[^>]*>", " ", re.sub(r"\$[^$]*\$", "formula", text))))


def sections(chosen: list) -> dict[str, list]:
    """The cells under each heading of the second level; "" has those before the first. A cell may be in several."""
    found, heading = {"": []}, ""
    for cell in chosen:
        parts = re.split(r"(?m)^## (.+)$", cell.source) if cell.cell_type == "markdown" else [cell.source]
        for k in range(0, len(parts), 2):
            heading = parts[k - 1] if k else heading
            found.setdefault(heading, []).append(nbformat.from_dict({**cell, "source": parts[k]}))
    return found


def lines(cell) -> int:
    """The lines of a code cell, without empty ones and the title of a check."""
    return len([line for line in cell.source.splitlines() if line.strip() and "# @title" not in line])


def too_large(chosen: list, limits: dict[str, int]) -> list[str]:
    """What there is more of than the limits allow."""
    code = [cell for cell in chosen if cell.cell_type == "code"]
    counts = {
        "words": words(markdown(chosen)),
        "visible cells": sum(not tagged(cell, "check") and not tagged(cell, "folded") for cell in code),
        "lines in a cell": max(map(lines, code)),
        "characters in a line": max(len(line) for cell in code for line in cell.source.splitlines()),
        "sections": len(re.findall("(?m)^## ", markdown(chosen))),
        "checks": sum(tagged(cell, "check") for cell in code),
    }
    return [f"{counts[what]} {what}, at most {most}" for what, most in limits.items() if counts[what] > most]


def ends_in_a_line(source: str) -> bool:
    """Whether code prints once, at its end, a line that begins with ✓; `expect` prints such a line."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    said = [call for call in calls if ast.unparse(call.func) in ("print", "expect")]
    last = ast.parse(source).body[-1]
    if len(said) != 1 or not isinstance(last, ast.Expr) or ast.unparse(last.value) != ast.unparse(said[0]):
        return False
    return ast.unparse(said[0].func) == "expect" or re.match(r"f?['\"]✓ ", ast.unparse(said[0].args[0])) is not None


def bad_checks(chosen: list) -> list[str]:
    """What is wrong with the folded cells: no title, no assertion, no line that says what agrees with what."""
    wrong = []
    for cell in (cell for cell in chosen if tagged(cell, "check")):
        title = cell.source.partition("\n")[0]
        wrong += [] if title.startswith("# @title ✓ ") else [f"a check without a title: {title}"]
        wrong += [] if re.search(r"(?m)^\s*(assert |expect\()", cell.source) else [f"a check of nothing: {title}"]
        wrong += [] if ends_in_a_line(cell.source) else [f"a check that does not end in its one line with ✓: {title}"]
    return wrong


def before_exercises(chosen: list) -> list:
    return chosen[: next((k for k, cell in enumerate(chosen) if "## Exercises" in cell.source), len(chosen))]


def bad_gaps(chosen: list) -> list[str]:
    """What is wrong with the gaps before the exercises: their number, their lengths, no check."""
    before = before_exercises(chosen)
    gaps = [k for k, cell in enumerate(before) if "### BEGIN SOLUTION" in cell.source]
    wrong = [] if 3 <= len(gaps) <= 5 else [f"{len(gaps)} gaps, from 3 to 5"]
    for k in gaps:
        length = len(SOLUTION.search(before[k].source)[1].splitlines())
        wrong += [] if length <= 4 else [f"a gap of {length} lines, at most 4"]
        wrong += [] if re.search(r"\b(check|yours)\(", before[k + 1].source) else ["a gap without a check"]
        wrong += [] if tagged(before[k + 1], "folded") else ["a gap whose check, which knows the answer, is in sight"]
    return wrong


def unanswered(chosen: list) -> list[str]:
    """Questions to the reader that do not end their cell, or whose answer is not folded right below the output."""
    wrong = []
    for k, cell in enumerate(before_exercises(chosen)):
        if cell.cell_type == "markdown" and re.search(r"(?<!\*)\*Predict", cell.source):
            question = cell.source[cell.source.index("*Predict") :]
            below = next((later for later in chosen[k + 1 :] if later.cell_type == "markdown"), cell)
            if "\n\n" in question or not re.fullmatch(r"(?s)\*Predict: .*\?\*", question):
                wrong.append(f"a question that does not end its cell: {question[:60]}")
            elif not below.source.startswith(ANSWER):
                wrong.append(f"no answer to: {question[:60]}")
    return wrong


def bad_ends(chosen: list, chapter: str) -> list[str]:
    """What is missing at the beginning, which has the letters, and at the end."""
    found, wrong = sections(chosen), []
    letters = re.findall(r"(?m)^(?:\| *\$|- \$)", markdown(found[""]))
    wrong += (
        [] if 1 <= len(letters) <= 6 else [f"{len(letters)} lines of letters before the first section, from 1 to 6"]
    )
    if list(found)[-3:] != ["What to keep", "Exercises", "References"]:
        return [*wrong, f"it ends with {list(found)[-3:]}"]
    keep = re.findall(r"(?m)^- ", markdown(found["What to keep"]))
    wrong += [] if 1 <= len(keep) <= 5 else [f"{len(keep)} things to keep, from 1 to 5"]
    number = int(chapter[:2]) + 1
    links = {f"](deeper/{chapter}.ipynb)", *(f"]({path.stem}.ipynb)" for path in places.sources()[number : number + 1])}
    wrong += [f"no link {link[1:]}" for link in sorted(links) if link not in markdown(found["Exercises"])]
    wrong += [] if markdown(found["References"]).strip() == "{references}" else ["References are not {references}"]
    return wrong


def faults(text: str, chapter: str) -> list[str]:
    """What a main line has against the rules; chapter 00 derives nothing, so it has no gaps and no exercises."""
    chosen = cells(text)
    limits = {"words": 3200, "visible cells": 55, "sections": 10, "checks": 15}
    wrong = too_large(chosen, limits | CELLS) + bad_checks(chosen) + unanswered(chosen)
    return wrong if chapter.startswith("00") else wrong + bad_gaps(chosen) + bad_ends(chosen, chapter)


def faults_of_deeper(text: str) -> list[str]:
    """What a notebook beyond a main line has against the rules."""
    chosen = cells(text)
    wrong = too_large(chosen, {"words": 5000} | CELLS)
    return wrong + bad_checks(chosen) + (["a gap"] if "### BEGIN SOLUTION" in text else [])


@pytest.mark.parametrize("source", MAIN, ids=name)
def test_a_main_line_follows_the_rules(source):
    assert not faults(source.read_text(encoding="utf-8"), source.stem)


@pytest.mark.parametrize("source", DEEPER, ids=name)
def test_what_goes_beyond_a_main_line_follows_the_rules(source):
    assert not faults_of_deeper(source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("chapter", sorted(WAITING))
def test_a_chapter_that_follows_the_rules_does_not_wait(chapter):
    assert faults((places.SOURCES / f"{chapter}.py").read_text(encoding="utf-8"), chapter)


@pytest.mark.parametrize("source", MAIN, ids=name)
def test_a_main_line_opens_with_a_picture_and_says_how_long_it_takes(source):
    opening = sections(nbformat.read(places.built(source), as_version=4).cells)[""]
    assert any("image/png" in output.get("data", {}) for cell in opening for output in cell.get("outputs", []))
    assert re.search(r"\b(minutes?|hours?)\b", markdown(opening))


@pytest.mark.parametrize("source", [*MAIN, *DEEPER], ids=name)
def test_a_check_has_found_what_it_says(source):
    """One line with ✓: a warning of `expect` is not stored."""
    for cell in nbformat.read(places.built(source), as_version=4).cells:
        if tagged(cell, "check"):
            (output,) = cell.outputs
            assert re.fullmatch(r"✓ [^\n]+\n?", output.text), cell.source


GAP = """# %%
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
check(double, twice, [(1,)], hint="add it to itself")

"""
CHECK = """# %% tags=["check"]
# @title ✓ Twice is twice
assert double(2) == 4
print(f"✓ {double(2)} is 4")

"""
PREDICT = """# %% [markdown]
# *Predict: what is twice $x$?*

# %%
double(2)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Four.
#
# </details>

"""
CHAPTER = f"""# %% [markdown]
# # 03 · Reverse diffusion
#
# | letter | meaning |
# |---|---|
# | $x$ | a number |

# %% [markdown]
# ## 1. Twice

{GAP}{GAP}{GAP}{CHECK}{PREDICT}# %% [markdown]
# ## What to keep
#
# - Twice is twice.
#
# ## Exercises
#
# Three.
#
# **Deeper:** [03](deeper/03_reverse_diffusion.ipynb). **Next:** [04](04_variational_bound.ipynb).
#
# ## References
#
# {{references}}
"""
NAME = "03_reverse_diffusion"


def more(text: str, times: int) -> str:
    """The chapter with a text put so many times before what to keep."""
    return CHAPTER.replace("# %% [markdown]\n# ## What to keep", text * times + "# %% [markdown]\n# ## What to keep")


def test_a_good_chapter_has_no_faults():
    longest = CHAPTER.replace("assert double", "1\n" * 10 + "assert double")  # 12 lines, and its title
    used = CHAPTER.replace("check(double", "double = yours(double")  # the chapter goes on with the answer
    assert faults(CHAPTER, NAME) == faults(longest, NAME) == faults(used, NAME) == []
    assert faults_of_deeper(CHAPTER.replace(GAP, "")) == []


@pytest.mark.parametrize(
    "chapter, fault",
    [
        (more("# %% [markdown]\n# word $x + y$ a [b](c.md) $$ d $$\n\n", 800), "words, at most 3200"),
        (more("# %%\n1\n\n", 52), "56 visible cells, at most 55"),
        (more(CHECK, 15), "16 checks, at most 15"),
        (more("# %% [markdown]\n# ## More\n\n", 7), "11 sections, at most 10"),
        (more("# %%\n" + "1\n" * 13 + "\n", 1), "13 lines in a cell, at most 12"),
        (more("# %%\n" + "1" * 89 + "\n\n", 1), "89 characters in a line, at most 88"),
        (CHAPTER.replace("# @title ✓ Twice", "# Twice"), "a check without a title"),
        (CHAPTER.replace("assert double", "double"), "a check of nothing"),
        (CHAPTER.replace('f"✓ {', 'f"{'), "a check that does not end in its one line with ✓"),
        (CHAPTER.replace("assert double(2) == 4", "assert double(2) == 4\nprint(1)"), "does not end in its one line"),
        (CHAPTER.replace("== 4", "== 4\nfor k in (1, 2):\n    print(k)", 1), "does not end in its one line"),
        (CHAPTER.replace(GAP, "", 1), "2 gaps, from 3 to 5"),
        (more(GAP, 3), "6 gaps, from 3 to 5"),
        (CHAPTER.replace("return 2 * x", "x\n    x\n    x\n    x\n    return 2 * x", 1), "a gap of 5 lines, at most 4"),
        (CHAPTER.replace("check(double, twice", "print(double, twice", 1), "a gap without a check"),
        (CHAPTER.replace('# %% tags=["folded"]', "# %%", 1), "a gap whose check, which knows the answer, is in sight"),
        (CHAPTER.replace("# <details><summary>Answer</summary>", "# An answer", 1), "no answer to: *Predict: what is"),
        (CHAPTER.replace("$x$?*", "$x$?* Well."), "a question that does not end its cell"),
        (CHAPTER.replace("$x$?*", "$x$?*\n#\n# Is it *four?*"), "a question that does not end its cell"),
        (CHAPTER.replace("# | $x$ | a number |\n", ""), "0 lines of letters"),
        (CHAPTER.replace("# | $x$ | a number |\n", "# | $x$ | a number |\n" * 7), "7 lines of letters"),
        (CHAPTER.replace("## What to keep", "## Summary"), "it ends with ['Summary', 'Exercises', 'References']"),
        (CHAPTER.replace("# - Twice is twice.\n", "# - Twice is twice.\n" * 6), "6 things to keep"),
        (CHAPTER.replace("(deeper/03", "(03"), "no link (deeper/03_reverse_diffusion.ipynb)"),
        (CHAPTER.replace("(04_variational", "(05_variational"), "no link (04_variational_bound.ipynb)"),
        (CHAPTER.replace("{references}", "- Ho et al. 2020"), "References are not {references}"),
    ],
)
def test_each_fault_of_a_main_line_is_found(chapter, fault):
    assert fault in "\n".join(faults(chapter, NAME))


@pytest.mark.parametrize(
    "chapter, fault",
    [
        (more("# %% [markdown]\n# a word\n\n", 2500).replace(GAP, ""), "words, at most 5000"),
        (more("# %%\n" + "1\n" * 13 + "\n", 1), "13 lines in a cell, at most 12"),
        (more("# %%\n" + "1" * 89 + "\n\n", 1), "89 characters in a line, at most 88"),
        (CHAPTER.replace("assert double", "double"), "a check of nothing"),
        (CHAPTER, "a gap"),
    ],
)
def test_each_fault_of_what_goes_beyond_is_found(chapter, fault):
    assert fault in "\n".join(faults_of_deeper(chapter))


def test_words_are_counted_as_one_reads_them():
    assert (
        words("Two words, $x < y$ and [a link](b/c.md)\n\n$$ none $$\n\n```\nnone\n```\n<details>one</details> - *")
        == 7
    )
