"""Figures, live figures and films: what they show and what they send."""

import io

import ipywidgets
import matplotlib
import numpy as np
import pytest
import torch
from cycler import cycler
from PIL import Image

from minidiff.course import plot, widgets
from minidiff.schedule import Cosine

FIGURES = {
    "images": lambda: plot.images(torch.rand(12, 1, 8, 8), "twelve", titles=list("abcdefghijkl")),
    "colour": lambda: plot.images(torch.rand(3, 3, 8, 8), "three"),
    "curves": lambda: plot.curves(torch.arange(1, 5.0), {"a": torch.rand(4)}, "a line", "x", "y", yscale="log"),
    "scatter": lambda: plot.scatter({"a": torch.randn(9, 2), "b": torch.randn(9, 2)}, "two clouds"),
    "trajectories": lambda: plot.trajectories(torch.randn(5, 3, 2), "three paths"),
    "field": lambda: plot.field(torch.randn(5, 2), torch.randn(5, 2), "arrows", behind=torch.randn(9, 2)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pngs_with_a_text(name):
    torch.manual_seed(0)
    picture = FIGURES[name]()
    data, metadata = picture._repr_mimebundle_()
    assert (
        set(data) == {"image/png", "text/plain"} and data["text/plain"] == metadata["image/png"]["alt"] == picture.alt
    )
    pixels = Image.open(io.BytesIO(data["image/png"]))
    assert len(set(pixels.convert("L").tobytes())) > 10  # something is drawn
    assert picture.png() == picture.png()


def test_figures_have_the_courses_style_whatever_matplotlibs_settings_are():
    """Also axes that were cleared, twins and free axes; the settings themselves stay as they are."""
    with matplotlib.rc_context({"axes.grid": False, "axes.prop_cycle": cycler(color=["red"]), "grid.alpha": 1}):
        before = dict(matplotlib.rcParams)
        picture, (ax,) = plot.figure("styled")
        ax.clear()
        for axes in (ax, ax.twinx(), picture.add_axes((0, 0, 0.5, 0.5))):
            (line,) = axes.plot([0, 1], label="a line")
            assert line.get_color() == plot.COLOURS[0]
            assert not axes.spines["top"].get_visible() and axes.spines["bottom"].get_visible()
            grid = axes.xaxis.get_gridlines()[0]
            assert grid.get_visible() and grid.get_alpha() == 0.25
            assert not axes.legend().get_frame_on() and axes.legend(frameon=True).get_frame_on()
        picture.png()
        assert matplotlib.rcParams == before


def test_images_show_the_values_they_are_given():
    black_and_white = torch.stack([torch.full((1, 4, 4), -1.0), torch.full((1, 4, 4), 1.0)])
    pixels = Image.open(io.BytesIO(plot.images(black_and_white, "two squares").png())).convert("L")
    width, height = pixels.size
    assert pixels.getpixel((width // 4, height // 2)) == 0 and pixels.getpixel((3 * width // 4, height // 2)) == 255


def test_images_refuse_other_shapes():
    with pytest.raises(ValueError, match=r"expected images \(B, 1 or 3, H, W\), got \(3, 8, 8\)"):
        plot.images(torch.zeros(3, 8, 8), "none")


def test_scatter_shows_all_but_a_few_stray_points():
    cloud = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    cloud[0] = 50.0
    low, high = plot.scatter({"cloud": cloud}, "a cloud").axes[0].get_xlim()
    assert low == -high and cloud.abs().flatten().quantile(0.999) < high < 6


def test_show_source_is_the_live_source():
    assert "class Cosine" in plot.show_source(Cosine).data and plot.show_source(Cosine).data.startswith("```python\n")


def test_explore_redraws_and_leaves_a_picture(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **kw: shown.append((args[0], kw)))
    box = widgets.explore(
        lambda k: plot.curves(torch.arange(5.0), {"y": k * torch.arange(5.0) ** k}, f"power {k}", "x", "y"),
        k=ipywidgets.IntSlider(2, 1, 5, description="power"),
    )
    ((data, options),) = shown
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert data["text/plain"] == "power 2" and options["metadata"]["image/png"]["alt"] == "power 2"
    slider, image = box.children
    assert image.layout.align_self == "flex-start"  # its own size, however wide the page
    before = image.value
    slider.value = 3
    assert image.value != before
    slider.value = 2
    assert image.value == before


def test_film_is_an_animated_png():
    frames = [plot.curves(torch.arange(5.0), {"y": k * torch.arange(5.0)}, "rising", "x", "y") for k in range(4)]
    film = widgets.film(frames)
    data, _ = film._repr_mimebundle_()
    pictures = Image.open(io.BytesIO(data["image/png"]))
    assert pictures.format == "PNG" and pictures.n_frames == 4 and data["text/plain"] == "rising"
    assert pictures.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match="at least one frame"):
        widgets.film([])


def shades(picture):
    """The grey of a figure's pixels, (H, W)."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(picture.png())).convert("L")))


def test_strips_stand_in_order_dot_by_dot_and_are_clipped():
    """Four greys in a row, brighter to the right, values beyond [-1, 1] as black and white; the second row below."""
    row = torch.tensor([-7.0, -0.5, 0.5, 7.0])[:, None, None, None].expand(4, 1, 16, 16)
    pixels = shades(plot.strips({"up": row, "down": -row}, "eight squares"))
    left = 16 + 7 * len("down")
    centres = [left + 67 * k + 32 for k in range(4)]  # each is enlarged to 64 pixels, with 3 between
    for line, wanted in (32, [0, 64, 191, 255]), (32 + 67, [255, 191, 64, 0]):
        assert (torch.tensor([int(pixels[line, x]) for x in centres]) - torch.tensor(wanted)).abs().max() <= 1
    assert pixels[3:60, centres[0]].max() == 0  # no pixel is smoothed
    large = shades(plot.strips({"up": row}, "four squares", size=128))
    assert large.shape == (131, 16 + 7 * len("up") + 4 * 131)


def test_images_stand_row_by_row():
    steps = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 1, 4, 4)
    pixels = shades(plot.images(steps, "six squares", columns=3))
    height, width = pixels.shape
    found = [int(pixels[(2 * r + 1) * height // 4, (2 * c + 1) * width // 6]) for r in range(2) for c in range(3)]
    assert found == sorted(found) and len(set(found)) == 6


def test_values_beyond_the_range_are_clipped():
    pixels = shades(plot.images(torch.tensor([-9.0, 9.0])[:, None, None, None].expand(2, 1, 4, 4), "two squares"))
    height, width = pixels.shape
    assert (int(pixels[height // 2, width // 4]), int(pixels[height // 2, 3 * width // 4])) == (0, 255)


def test_the_last_picture_of_a_film_stays():
    frames = [plot.curves(torch.arange(5.0), {"y": k * torch.arange(5.0)}, "rising", "x", "y") for k in range(3)]
    pictures = Image.open(io.BytesIO(widgets.film(frames, ms=50, hold=900).png))
    durations = []
    for k in range(3):
        pictures.seek(k)
        pictures.load()
        durations.append(pictures.info["duration"])
    assert durations == [50, 50, 900]
