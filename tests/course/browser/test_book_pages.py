"""The web book and the slides as readers see them: no request off the machine, formulas set, no page too wide."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from places import ROOT, SOURCES, all_sources, sources

pytestmark = pytest.mark.usefixtures("book_log")

PAGES = [path.relative_to(SOURCES).with_suffix("").as_posix() for path in all_sources()]
CHAPTER = "03_reverse_diffusion"
PHONE = {"width": 390, "height": 844}
SCREEN = {"width": 1280, "height": 720}
LAID_OUT = ".reveal.ready section.page.present"
# For each slide: where its lowest and its rightmost part end, in its own pixels. Code may scroll in its box.
MEASURE = """() => [...document.querySelectorAll("section.page")].map((page) => {
  const { h, v } = Reveal.getIndices(page);
  Reveal.slide(h, v);
  const box = page.getBoundingClientRect(), scale = box.width / 1280;
  const parts = [...page.querySelectorAll(".content *")]
    .filter((part) => !part.closest("mjx-assistive-mml") && !part.matches("svg *, pre *"))
    .map((part) => part.getBoundingClientRect());
  return {
    slide: [h, v],
    bottom: Math.max(...parts.map((part) => part.bottom - box.top)) / scale,
    right: Math.max(...parts.map((part) => part.right - box.left)) / scale,
  };
})"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    """The address of build/ on a server of our own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=ROOT / "build")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(chromium, site):
    """Opens a page of the site, and says at the end of the test what went wrong behind the scenes."""
    trouble, contexts = [], []

    def say(message):
        if message.type in ("error", "warning"):
            trouble.append(message.text)

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # the page was left while an icon was on its way
            trouble.append(f"failed: {request.url}")

    def open_page(address, viewport=SCREEN, colours="light"):
        contexts.append(chromium.new_context(viewport=viewport, color_scheme=colours))
        page = contexts[-1].new_page()
        page.on("console", say)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("requestfailed", failed)
        page.on("request", lambda request: request.url.startswith((site, "data:")) or trouble.append(request.url))
        page.goto(f"{site}/{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


def typeset(page):
    """The page with all formulas set; what MathJax cannot read it marks, and unknown commands are red."""
    page.wait_for_function("window.MathJax?.startup?.promise")
    page.evaluate("MathJax.startup.promise.then(() => 1)")
    assert page.locator("mjx-merror, [data-mjx-error], mjx-container mtext[mathcolor=red]").count() == 0
    return page


def test_formulas_are_set(visit):
    page = typeset(visit(f"book/notebooks/{CHAPTER}.html"))
    formulas = page.locator("article .math")
    assert formulas.count() == page.locator("article mjx-container").count() > 50
    assert page.locator("#eq-3-4 mjx-container").is_visible()


@pytest.mark.parametrize("name", ["glossary", "checks"])
def test_formulas_beside_the_chapters_are_set(visit, name):
    page = typeset(visit(f"book/docs/{name}.html"))
    assert page.locator("article mjx-container").count() > 30


@pytest.mark.parametrize(
    "address",
    [
        "index",
        "api/nets.autoencoder",
        "data/README",
        "docs/INSTRUCTOR",
        "docs/glossary",
        "docs/checks",
        "docs/references",
    ],
)
def test_nothing_is_wider_than_a_phone(visit, address):
    page = visit(f"book/{address}.html", PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.parametrize("name", PAGES)
def test_long_formulas_code_and_tables_scroll_in_their_own_boxes(visit, name):
    page = typeset(visit(f"book/notebooks/{name}.html", PHONE))
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    outside = """() => [...document.querySelectorAll("article :is(img, pre, table, mjx-container, p, li)")]
      .filter((part) => part.getBoundingClientRect().right > innerWidth && part.checkVisibility())
      .filter((part) => !part.parentElement.closest("pre, .pst-scrollable-table-container, table, mjx-container"))
      .map((part) => part.outerHTML.slice(0, 200))"""
    assert page.evaluate(outside) == []


def test_dark_mode_is_dark_and_figures_keep_a_light_ground(visit):
    page = visit(f"book/notebooks/{CHAPTER}.html", colours="dark")
    ground = "(query) => getComputedStyle(document.querySelector(query)).backgroundColor"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert max(map(int, page.evaluate(ground, "body")[4:-1].split(","))) < 60
    assert page.evaluate(ground, ".cell_output img") == "rgb(255, 255, 255)"


def test_search_finds_a_chapter(visit):
    page = visit("book/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("ELBO")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").all_inner_texts()
    assert any("Generative models" in text for text in found) and any("variational bound" in text for text in found)


@pytest.mark.parametrize("size", [SCREEN, PHONE], ids=["screen", "phone"])
def test_what_a_check_found_is_in_sight_and_its_code_is_folded(visit, size):
    page = visit("book/notebooks/02_forward_diffusion.html", size)
    check = page.locator(".tag_check").first
    assert check.locator("summary").inner_text().startswith("✓ ") and check.locator(".cell_output").is_visible()
    assert not check.locator(".cell_input pre").is_visible()
    output = check.locator(".cell_output pre")
    assert output.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    check.locator("summary").click()
    assert check.locator(".cell_input pre").is_visible()


def test_a_film_plays(visit):
    page = visit("book/notebooks/00_start_here.html")
    images = page.locator(".cell_output img")
    moving = [
        image
        for image in images.all()
        if "acTL" in page.request.get(image.evaluate("img => img.src")).body()[:2000].decode("latin1")
    ]
    film = moving[0]
    film.scroll_into_view_if_needed()
    frames = set()
    for _ in range(8):
        frames.add(film.screenshot())
        page.wait_for_timeout(100)
    assert len(frames) > 2


def test_live_figures_show_their_first_picture(visit):
    page = visit("book/notebooks/00_start_here.html")
    picture = page.locator(".cell:has-text('widgets.explore(') .cell_output img").first
    assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 300


def test_a_deck_follows_the_keys(visit):
    page = visit(f"slides/{CHAPTER}.html")
    page.wait_for_selector(LAID_OUT)
    title = page.locator(LAID_OUT + " :is(h1, h2)")
    assert title.inner_text() == "03 · Reverse diffusion"
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == re.search(r"(?m)^# ## (.+)$", (SOURCES / f"{CHAPTER}.py").read_text("utf-8"))[1]
    page.keyboard.press("ArrowDown")
    assert page.evaluate("Reveal.getIndices()") | {"f": None} == {"h": 1, "v": 1, "f": None}
    assert page.locator("mjx-container").count() > 20  # formulas are set, on whichever slides they are


def test_the_list_of_decks_opens_each(visit):
    page = visit("slides/index.html")
    assert page.locator("li a").count() == len(sources())
    page.locator("li a").first.click()
    page.wait_for_selector(LAID_OUT)


@pytest.mark.parametrize("chapter", ["02_forward_diffusion", "12_text_to_image"])
def test_no_slide_overflows(visit, chapter):
    page = visit(f"slides/{chapter}.html")
    page.wait_for_selector(LAID_OUT)
    slides = page.evaluate(MEASURE)
    assert len(slides) > 50
    assert [slide for slide in slides if slide["bottom"] > 690 or slide["right"] > 1232] == []
    assert page.locator("section.page .content:empty").count() == 0


def test_a_question_to_the_audience_ends_its_slide(visit):
    page = visit(f"slides/{CHAPTER}.html")
    page.wait_for_selector(LAID_OUT)
    after = 'section.page p:has(> em:last-child:text-matches("^Predict")) + *'
    assert page.locator("section.page p > em", has_text="Predict").count() > 5
    assert page.locator(after).count() == 0
