"""JupyterLab as a participant has it: Run All, live figures that follow the keyboard, films that play."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
# The news prompt would cover the page, and asks the network.
QUIET = {"fetchNews": "false", "checkForUpdates": False}
SLIDER, LIVE, STILL = ".noUi-handle", ".widget-image", ".jp-RenderedImage img"
# The one thing on a page that is not on the machine.
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
# JupyterLab shows errors and warnings alike.
COMPLAINT = '[data-mime-type="application/vnd.jupyter.stderr"]'


def wait_for(address: str) -> None:
    """Returns once a server answers there."""
    for _ in range(300):
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing answers at {address}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running JupyterLab with settings of its own: (its address, the folder it shows)."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("course")
    settings = home / "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(QUIET))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = dict.fromkeys(("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), str(home))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--log-level=ERROR"]
    command += [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--IdentityProvider.token=",
        f"--notebook-dir={folder}",
    ]
    with subprocess.Popen(command, env=os.environ | places | {"OMP_NUM_THREADS": "2"}) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status")
            yield f"http://127.0.0.1:{port}", folder
        finally:
            server.terminate()  # takes its kernels along


@pytest.fixture(scope="module")
def visit(chromium, lab):
    """A function that opens a notebook of the folder; in the end no page may have complained."""
    address, _ = lab
    pages, complaints = [], []

    def open_page(name: str):
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(300_000)  # a machine may be busy
        pages.append(page)
        page.route(BADGE, lambda route: route.fulfill(content_type="image/svg+xml", body="<svg/>"))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on("response", lambda r: complaints.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.on("request", lambda r: r.url.startswith((address, "data:", "blob:", BADGE)) or complaints.append(r.url))
        page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        return page

    yield open_page
    assert not complaints
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def run_all(visit, lab):
    """A function that writes a notebook, opens it and runs all its cells."""
    _, folder = lab

    def run(name: str, notebook: nbformat.NotebookNode):
        nbformat.write(notebook, folder / f"{name}.ipynb")
        page = visit(name)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        count = sum(cell.cell_type == "code" for cell in notebook.cells)
        page.get_by_text(f"[{count}]:", exact=True).first.wait_for()
        return page

    return run


def bytes_of(image) -> bytes:
    """The bytes of a picture on the page."""
    return bytes(image.evaluate("async img => [...new Uint8Array(await (await fetch(img.src)).arrayBuffer())]"))


def press(page, control: str, *keys: str) -> bytes:
    """Presses keys in a control of the live figure; its new picture."""
    old = page.locator(LIVE).get_attribute("src")
    page.locator(control).first.focus()
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function("([css, old]) => document.querySelector(css).src != old", arg=[LIVE, old])
    return bytes_of(page.locator(LIVE))


def emptied(path: Path, end: int | None = None, *further: str) -> nbformat.NotebookNode:
    """A notebook up to a cell, then further code, all without outputs: what shows after a run is new."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = notebook.cells[:end] + [nbformat.v4.new_code_cell(code) for code in further]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


@pytest.fixture(scope="module")
def start(run_all):
    """Chapter 00 as participants get it, after Run All; two more cells draw what the live figure is to show later."""
    later = "show(7, 2.5)", "show(8, 2.5)"
    return run_all("start", emptied(NOTEBOOKS / "student/00_start_here.ipynb", None, *later))


def test_runs_to_its_end_unsolved(start):
    assert start.locator(COMPLAINT).count() == 0
    assert start.get_by_text("not yet: nothing there so far").first.is_visible()


def test_a_slider_and_a_list_are_moved_by_keyboard(start):
    stronger, next_class = (bytes_of(image) for image in start.locator(STILL).all()[-2:])
    assert press(start, SLIDER, "ArrowRight") == stronger
    # arrows alone would move JupyterLab from cell to cell: a list is opened first
    assert press(start, ".widget-dropdown select", "Alt+ArrowDown", "ArrowDown", "Enter") == next_class


def test_a_film_plays(start):
    films = [image for image in start.locator(STILL).all() if b"acTL" in bytes_of(image)]
    assert len(films) == 1
    seen = set()
    for _ in range(4):
        seen.add(films[0].screenshot())
        start.wait_for_timeout(400)
    assert len(seen) > 1


def test_a_figure_follows_while_a_slider_moves(run_all):
    path = NOTEBOOKS / "03_reverse_diffusion.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    first = next(k for k, cell in enumerate(cells) if "_ = widgets.explore(" in cell.source)
    page = run_all("bells", emptied(path, first + 1, "testimony(0.15, x_t=-0.8, x_0=0.8)"))
    assert press(page, SLIDER, "ArrowRight") != press(page, SLIDER, "ArrowRight")
    assert press(page, SLIDER, "ArrowRight") == bytes_of(page.locator(STILL).last)


# Whether the formula below an anchor stands on the screen, between toolbar and status bar.
IN_SIGHT = """anchor => {
  const shown = [...document.querySelectorAll(`[data-jupyter-id="${anchor}"]`)].find((a) => a.checkVisibility());
  const top = shown?.parentElement.nextElementSibling?.getBoundingClientRect().top;
  return top > 80 && top < innerHeight - 80;
}"""


@pytest.mark.parametrize("number", ["5.10", "2.5"])
def test_the_number_of_an_equation_leads_to_it(visit, lab, number):
    """In this chapter, and in another that is not open yet."""
    for path in NOTEBOOKS.glob("0[25]_*.ipynb"):
        shutil.copy(path, lab[1])
    page = visit("05_simplified_loss")
    page.locator('[data-jupyter-id="scrollTo=eq-5-20"]').wait_for(state="attached")  # the chapter is drawn
    anchor = f"scrollTo=eq-{number.replace('.', '-')}"
    assert not page.evaluate(IN_SIGHT, anchor)
    page.get_by_role("link", name=f"({number})", exact=True).first.click()
    page.wait_for_function(IN_SIGHT, arg=anchor)
    page.close()  # two pages that share a kernel would each be told of the other's widgets


def test_a_check_shows_what_it_found_and_hides_its_code(run_all):
    path = next(NOTEBOOKS.glob("02_*.ipynb"))
    cells = nbformat.read(path, as_version=4).cells
    first = next(k for k, cell in enumerate(cells) if "check" in cell.metadata.get("tags", []))
    page = run_all("check", emptied(path, first + 1, "'the end'"))
    cell = page.locator(".jp-CodeCell").nth(-2)
    assert cell.locator(".jp-OutputArea-output", has_text="✓").is_visible()
    assert not cell.locator(".cm-content").is_visible()
    cell.locator(".jp-InputPlaceholder").click()
    assert cell.locator(".cm-content").is_visible()
