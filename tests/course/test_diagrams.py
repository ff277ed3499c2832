"""Annotated pictures: they draw the data that they are given, name their arrows and refuse other shapes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import Cosine, Flow, Gaussian, Mixture
from minidiff.course import diagrams
from minidiff.course.diagrams import base, states
from minidiff.samplers import State

GREY = torch.zeros(1, 1, 8, 8)
NAMES = ("x_0", "x_s", "x_t", "x_1")
HUMPS = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]), torch.tensor([0.2, 0.2]))
TS = torch.linspace(0, 1, 5, dtype=torch.float64)
BELL = Gaussian(torch.zeros(1, 1), torch.tensor(0.5))

FIGURES = {
    "chain": lambda: diagrams.chain(GREY, Cosine(), (0, 0.3, 0.4, 1), NAMES, "noise comes in", "noise goes out"),
    "colour": lambda: diagrams.chain(GREY.expand(-1, 3, -1, -1), Flow(), (0, 0.3, 0.4, 0.9), NAMES, "in", "out"),
    "round cloud": lambda: diagrams.round_cloud(0.8, 0.5, n=200),
    "ribbon": lambda: diagrams.ribbon(HUMPS, Cosine(), TS, torch.zeros(5, 3), "a ribbon", "forward"),
    "contest": lambda: diagrams.contest(
        {"grain": GREY.expand(6, -1, -1, -1), "zip": "nothing"}, {"grain": 3.5, "zip": 3}, "two codes"
    ),
    "bells": lambda: diagrams.bells([(0.3, BELL), (BELL, BELL)], ("one", "two"), ("a", "b"), "two panels"),
    "components": lambda: diagrams.components(
        TS, {"a": ([TS, 1 - TS], 0.5, "here"), "b": ([TS], 0, "")}, "two mixtures"
    ),
    "telescope": diagrams.telescope,
    "split bars": lambda: diagrams.split_bars(
        {"one": (torch.tensor(1.0), 2.0), "two": (0.5, 0.01)},
        ("a", "b"),
        "bits",
        "two bars of two parts",
        {"whole": 2.0},
    ),
    "guess and mix": lambda: diagrams.guess_and_mix(
        GREY, [State(torch.tensor(0.0), GREY, GREY)], ["a mean"], "one step"
    ),
    "pictures": lambda: diagrams.pictures(
        {"a": GREY.expand(3, -1, -1, -1), "b": -GREY}, "two rows", above=("1", "2", "3")
    ),
    "pictures below": lambda: diagrams.pictures(
        {"a": GREY.expand(3, -1, -1, -1)}, "two rows", above=("1", "2", "3"), columns=2
    ),
    "weighted mean": lambda: diagrams.weighted_mean(
        GREY.expand(2, -1, -1, -1), {"t": (GREY[0] - 1, [0.25, 0.75], GREY[0])}, ("sees", "ways", "mean"), "one row"
    ),
    "dissolve": lambda: diagrams.dissolve(GREY[0] - 1, "step 0", "a black picture"),
    "kernels": lambda: diagrams.kernels(HUMPS, Cosine(), 0.5, (0.4, 0.01), torch.zeros(1)),
    "schedule paths": lambda: diagrams.schedule_paths({"cosine": Cosine(), "flow": Flow()}, "two schedules"),
    "schedule curves": lambda: diagrams.schedule_curves({"cosine": Cosine(), "flow": Flow()}, "two schedules"),
    "paired bars": lambda: diagrams.paired_bars(
        ["a", "b", "c"],
        {"left": {"x": [1, 2, 3], "y": [3, 2, 1]}, "right": {"x": TS[:3], "y": TS[1:4]}},
        "%",
        "pairs of bars",
        "class",
    ),
    "under bells": lambda: diagrams.under_bells({"a": (TS, 0.5, 0.3), "b": (TS, 0.5, 0.3)}, "two panels"),
    "guess the noise": lambda: diagrams.guess_the_noise(GREY, GREY + 1, GREY + 0.5, GREY + 0.9),
    "clock hands": lambda: diagrams.clock_hands(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), ("0", "1"), (0,), "two clocks"),
    "rows and weights": lambda: diagrams.rows_and_weights(Cosine(), 0.3),
    "two judges": lambda: diagrams.two_judges(
        {name: [(3.0, 5.0), (3.1, 6.0), (3.2, 7.0), (2.9, 3.0)] for name in "abc"}, 2.0, 0.8
    ),
    "predictions": lambda: diagrams.predictions([("x0", torch.zeros(4, 2), "off: 0")] * 2, 2, ("D = 2",), "two panels"),
    "ribbon, back": lambda: diagrams.ribbon(HUMPS, Flow(), TS.flip(0), torch.zeros(5, 9), "a ribbon"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_diagrams_are_pngs_with_a_text(name):
    picture = FIGURES[name]()
    data, metadata = picture._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == picture.alt and len(picture.alt) > 5
    pixels = Image.open(io.BytesIO(data["image/png"]))
    assert pixels.width <= 720 and len(set(pixels.convert("L").tobytes())) > 10
    assert picture.png() == picture.png() == FIGURES[name]().png()


def texts(picture):
    return [text.get_text() for ax in picture.axes for text in ax.texts]


def test_words_are_large_enough_for_a_phone():
    for make in FIGURES.values():
        assert all(text.get_fontsize() >= base.WORDS for ax in make().axes for text in ax.texts if text.get_text())


def test_a_chain_names_its_states_and_arrows():
    picture = FIGURES["chain"]()
    written = texts(picture)
    assert {"$x_0$", "$x_s$", "$x_t$", "$x_1$", "data", "noise"} <= set(written)
    assert any("q(x_t\\,|\\,x_s)" in text and "noise comes in" in text for text in written)
    assert any("p(x_s\\,|\\,x_t)" in text and "noise goes out" in text for text in written)
    assert "noise comes in" in picture.alt and "noise goes out" in picture.alt


def test_a_chain_is_one_walk_from_the_image_to_noise():
    """The first picture is x0; each has the variance of its time; neighbours are nearer than strangers."""
    x0 = torch.full((1, 1, 64, 64), 0.5)
    walk = states._walk(x0, (0, 0.3, 0.4, 1), Cosine())
    assert torch.equal(walk[0], x0)
    for t, x in zip((0.3, 0.4, 1), walk[1:], strict=True):
        alpha, sigma = Cosine()(t)
        assert abs(x.mean() - 0.5 * alpha) < 0.05 and abs(x.std() - sigma) < 0.05
    assert (walk[2] - walk[1]).std() < 0.6 * (walk[3] - walk[1]).std()
    drawn = np.asarray(diagrams.chain(x0, Cosine(), (0, 0.3, 0.4, 1), NAMES, "a", "b").axes[0].images[0].get_array())
    assert np.allclose(drawn, 0.75)  # 0.5 on [-1, 1] is 0.75 on [0, 1]


def test_a_ribbon_is_the_mixtures_density():
    picture = diagrams.ribbon(HUMPS, Cosine(), TS, torch.zeros(5, 3), "a ribbon")
    drawn = np.asarray(picture.axes[1].images[0].get_array())  # the root of the density, from -3.2 to 3.2
    assert np.allclose((drawn**2).sum(0) * 6.4 / 320, 1, atol=0.01)  # at each time it integrates to one
    assert np.allclose(drawn[160, 0] ** 2, HUMPS.log_prob(torch.zeros(1, 1), 0.0, Cosine()).exp())
    assert picture.axes[1].get_ylim() == (-3.2, 3.2)


def test_arrows_point_the_way_the_paths_go():
    forward = diagrams.ribbon(HUMPS, Cosine(), TS, torch.zeros(5, 3), "a ribbon", "noise")
    back = diagrams.ribbon(HUMPS, Cosine(), TS.flip(0), torch.zeros(5, 3), "a ribbon", "data")
    assert forward.axes[1].get_title() == r"noise $\rightarrow$" and back.axes[1].get_title() == r"$\leftarrow$ data"


@pytest.mark.parametrize("x0, names", [(GREY[0], NAMES), (GREY.expand(2, -1, -1, -1), NAMES), (GREY, NAMES[:3])])
def test_chain_refuses_other_shapes(x0, names):
    with pytest.raises(ValueError, match=r"expected one image \(1, 1 or 3, H, W\) and four times and names"):
        diagrams.chain(x0, Cosine(), (0, 0.3, 0.4, 1), names, "in", "out")


@pytest.mark.parametrize("paths", [torch.zeros(4, 3), torch.zeros(5)])
def test_ribbon_refuses_other_shapes(paths):
    with pytest.raises(ValueError, match=r"expected a mixture in one dimension, times \(S,\) and paths \(S, N\)"):
        diagrams.ribbon(HUMPS, Cosine(), TS, paths, "a ribbon")


def test_ribbon_refuses_a_plane():
    plane = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match="got 2 dimensions"):
        diagrams.ribbon(plane, Cosine(), TS, torch.zeros(5, 3), "a ribbon")


PLANE = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([0.2, 0.2]))


def test_two_bells_draw_their_product():
    panels = {"s": ((torch.tensor(-1.0), 0.5), (1.0, torch.tensor(0.5))), "s'": ((0.0, 1.0), (1.0, 0.5))}
    picture = diagrams.two_bells(panels, ["a", "b", "both"], "bells")
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["a", "b", "both"]
    assert [ax.get_title() for ax in picture.axes] == ["s", "s'"] and picture.alt == "bells"
    x, height = picture.axes[0].lines[2].get_data()
    assert abs(x[height.argmax()]) < 1e-6  # two equal witnesses are met halfway
    assert abs((height[1:] * (x[1] - x[0])).sum() - 1) < 1e-6
    assert abs((x**2 * height).sum() / height.sum() - 0.25) < 1e-3  # precisions add
    assert picture.png() == picture.png()


def test_score_arrows_point_to_the_data():
    panels = [(PLANE, 0.9, torch.zeros(5, 2), "far"), (PLANE, 0.05, torch.ones(5, 2), "near")]
    picture = diagrams.score_arrows(panels, Cosine(), "arrows")
    assert [ax.get_xlabel() for ax in picture.axes] == ["far", "near"]
    assert [ax.get_title() for ax in picture.axes] == ["$t = 0.9$", "$t = 0.05$"]
    for ax, mean in zip(picture.axes, (0.0, 1.0), strict=True):
        (arrows,) = [c for c in ax.collections if hasattr(c, "U")]
        right = arrows.X > 1.5
        assert (np.sign(arrows.U[right]) == -1).all()  # from beyond the data back to them
        between = (arrows.X > 0.3) & (arrows.X < 0.7) & (arrows.Y == 0)
        assert (np.sign(arrows.U[between]) == (1 if mean else -1)).all()
    (ax,) = diagrams.score_arrows(panels[:1], Cosine(), "", crosses=torch.ones(3, 2)).axes
    assert any(np.allclose(c.get_offsets(), float(Cosine()(0.9)[0])) for c in ax.collections)  # shrunk as at t
    above, below = diagrams.score_arrows(panels, Cosine(), "", columns=1).axes
    assert abs(above.get_position().x0 - below.get_position().x0) < 1e-6  # one under the other
    assert picture.png() == picture.png()


@pytest.mark.parametrize("mixture, points", [(HUMPS, torch.zeros(5, 2)), (PLANE, torch.zeros(5, 1))])
def test_score_arrows_refuse_what_is_not_in_the_plane(mixture, points):
    with pytest.raises(ValueError, match=r"expected mixtures and points \(N, 2\) in the plane"):
        diagrams.score_arrows([(mixture, 0.5, points, "words")], Cosine(), "arrows")


def test_a_contest_writes_what_each_code_draws_and_spends():
    picture = FIGURES["contest"]()
    assert {"grain", "zip", "nothing", "3.50", "3.00", "all levels alike: 8"} <= set(texts(picture))
    grain, zipped = (bar.get_width() for bar in picture.axes[0].patches)
    assert grain / zipped == pytest.approx(3.5 / 3)
    first, second = (bar.get_facecolor() for bar in picture.axes[0].patches)
    again = diagrams.contest({"a": "x", "b": "y"}, {"a": 1, "b": 2}, "one colour", colours=(1, 1)).axes[0].patches
    assert first != second == again[0].get_facecolor() == again[1].get_facecolor()
    (state, line) = (
        texts(diagrams.contest({"a": "x"}, {"a": 1}, "two words", 2.5, words=("at", "all")))[k] for k in (0, -1)
    )
    assert (state, line) == ("at", "all: 2.5")
    split = diagrams.contest({"a": "x", "b": "y"}, {"a": 1.0, "b": 2.0}, "split", constants={"b": 0.5})
    whole, left, grey = split.axes[0].patches  # a has no constants
    assert (left.get_width(), grey.get_width()) == pytest.approx((1.5 * whole.get_width(), 0.5 * whole.get_width()))
    assert grey.get_x() == pytest.approx(left.get_x() + left.get_width())
    assert {"1.00", "1.50 + 0.50"} <= set(texts(split)) and not {"2.00"} & set(texts(split))
    with pytest.raises(ValueError, match="expected bits for"):
        diagrams.contest({"grain": "nothing"}, {"zip": 3.0}, "one code")


def test_bells_are_the_densities_and_numbers_are_lines():
    line, bell = (ax.lines for ax in FIGURES["bells"]().axes)
    assert len(line) == 2 and list(line[1].get_xdata()) == [0.3, 0.3] and len(bell) == 1
    drawn = torch.as_tensor(bell[0].get_ydata())
    assert drawn.max() == pytest.approx(1 / (0.5 * (2 * torch.pi) ** 0.5))
    with pytest.raises(ValueError, match="expected a title and a note for each of 1 pairs"):
        diagrams.bells([(0.3, BELL)], ("one", "two"), ("a",), "one panel")


def test_a_telescope_leaves_only_its_far_end():
    picture = diagrams.telescope()
    terms = [text for text in texts(picture) if "log q" in text]
    assert len(terms) == 5 and sum("x_1" in term for term in terms) == 1 and texts(picture).count("0") == 2


def test_split_bars_write_all_parts_and_the_sum():
    picture = FIGURES["split bars"]()
    assert [text.strip() for text in texts(picture)] == ["0.50", "0.51", "2.00", "1.00", "2.00", "3.00"]
    *bars, frame = picture.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.01, 2, 1, 2])  # the shortest bar on top
    assert frame.get_width() == pytest.approx(0.51) and not frame.get_fill()
    legend = [handle.get_facecolor() for handle in picture.axes[0].get_legend().legend_handles]
    assert legend == [bar.get_facecolor() for bar in bars[:2]] and bars[2].get_facecolor() not in legend
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == ["two", "whole", "one"]
    with pytest.raises(ValueError, match=r"expected 2 parts in every row, got \[1\]"):
        diagrams.split_bars({"one": (1.0,)}, ("a", "b"), "bits", "one part")


def test_guesses_stand_below_their_states():
    white = torch.ones(1, 1, 8, 8)
    states = [State(torch.tensor(0.5), GREY, -white)]
    picture = diagrams.guess_and_mix(white, states, ["a mean"], "one step")
    first, second, guess = picture.axes[0].images
    assert [image.get_array().mean() for image in (first, second, guess)] == [1, 0.5, 0]
    assert first.get_extent()[:2] == guess.get_extent()[:2] and guess.get_extent()[3] < first.get_extent()[2]
    assert {"$t = 1$", "$t = 0.5$", "guess", "mix", "noise", "a mean"} <= set(texts(picture))


@pytest.mark.parametrize("noise, words", [(torch.ones(2, 1, 8, 8), ["a"]), (GREY, ["a", "b"])])
def test_guess_and_mix_refuses_other_shapes(noise, words):
    with pytest.raises(ValueError, match="expected one image"):
        diagrams.guess_and_mix(noise, [State(torch.tensor(0.0), GREY, GREY)], words, "one step")


def test_labelled_lines_carry_their_names_in_their_colours():
    x = torch.linspace(-2, 2, 9)
    picture = diagrams.labelled(x, {"up": (x, (1.0, 0.5)), "down": (-x, (1.0, -0.5))}, "lines", "x", "y")
    (ax,) = picture.axes
    assert texts(picture) == ["up", "down"] and picture.alt == "lines"
    assert [line.get_color() for line in ax.lines] == [text.get_color() for text in ax.texts]
    assert ax.get_xlabel() == "x" and ax.get_ylabel() == "y"
    (ax,) = diagrams.labelled(x, {"up": (x, (1.0, 0.5))}, "lines", "x", "y", rules=(x + 1, x + 2), level=1.0).axes
    assert np.allclose([line.get_ydata()[0] for line in ax.lines], [-2, -1, 0, 1])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["by the rule", "1"]
    (ax,) = diagrams.labelled(x.exp(), {"up": (x.exp(), (1.0, 0.5))}, "lines", "x", "y", log_ticks=(0.2, 1, 5)).axes
    assert ax.get_yscale() == "log" and ax.get_xscale() == "linear"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.2", "1", "5"]


def test_one_density_is_drawn_against_another():
    x = torch.linspace(-2, 2, 9)
    panels = {"one": (x.square(), 1 + x), "two": (x.abs(), 2 - x)}
    picture = diagrams.against(x, panels, ("true", "best"), "densities")
    assert [ax.get_title() for ax in picture.axes] == ["one", "two"] and picture.alt == "densities"
    assert [text.get_text() for text in picture.axes[0].get_legend().get_texts()] == ["true", "best"]
    assert np.allclose(picture.axes[1].lines[0].get_ydata(), 2 - x)


def test_components_add_up():
    x = torch.linspace(-2, 2, 9)
    panels = {"one": ([x.square(), 1 + x.abs()], -0.5, "here"), "two": ([x.abs()], 1.0, "mean")}
    picture = diagrams.components(x, panels, "two mixtures", labels=("a", "b"))
    assert [ax.get_title() for ax in picture.axes] == ["one", "two"] and texts(picture) == ["here", "mean"]
    assert [ax.get_xlabel() for ax in picture.axes] == ["a", "b"]
    assert [text.get_text() for text in picture.axes[1].get_legend().get_texts()] == ["sum"]
    first, second, total, mark = picture.axes[0].lines
    assert first.get_color() != second.get_color() and mark.get_xdata() == [-0.5, -0.5]
    assert np.allclose(total.get_ydata(), x.square() + 1 + x.abs())


def test_pictures_stand_in_rows_with_words():
    rows = {"grey": GREY.expand(2, -1, -1, -1), "white": torch.ones(2, 1, 8, 8)}
    by_column = diagrams.pictures(rows, "rows", above=("left", "right"))
    by_image = diagrams.pictures(rows, "rows", above=("1", "2", "3", "4"))
    assert texts(by_column) == ["grey", "left", "right", "white"] and texts(by_image)[1:3] == ["1", "2"]
    for picture in (by_column, by_image):
        first, second, third, _ = picture.axes[0].images
        assert first.get_array().max() == 0.5 and third.get_array().max() == 1
        assert first.get_extent()[1] < second.get_extent()[0] and third.get_extent()[3] < first.get_extent()[2]
    with pytest.raises(ValueError, match="expected words for 2 columns or for all images, got 3"):
        diagrams.pictures(rows, "rows", above=("1", "2", "3"))


def test_a_row_of_many_pictures_goes_on_below():
    rows = {"dark": -torch.ones(3, 1, 8, 8), "light": torch.ones(3, 1, 8, 8)}
    picture = diagrams.pictures(rows, "rows", above=("1", "2", "3"), columns=2)
    assert texts(picture) == ["dark", "1", "2", "light", "dark", "3", "light"]
    shown = picture.axes[0].images
    assert [float(image.get_array().max()) for image in shown] == [0, 0, 1, 1, 0, 1]
    assert shown[4].get_extent()[0] == shown[0].get_extent()[0]  # the third is again on the left,
    assert shown[4].get_extent()[3] < shown[2].get_extent()[2]  # below both rows


def test_a_weighted_mean_has_a_bar_for_each_weight():
    rows = {"t": (GREY[0], [0.25, 0.75], GREY[0] + 1)}
    picture = diagrams.weighted_mean(-torch.ones(2, 1, 8, 8), rows, ("sees", "ways", "mean"), "one row")
    assert texts(picture) == ["sees", "ways", "mean", "t", "25%", "75%"]
    ax = picture.axes[0]
    assert [float(image.get_array().max()) for image in ax.images] == [0, 0, 0.5, 1]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([1, 0.25, 1, 0.75])
    with pytest.raises(ValueError, match="expected 3 weights in each row"):
        diagrams.weighted_mean(GREY.expand(3, -1, -1, -1), rows, ("sees", "ways", "mean"), "one row")


def test_the_high_bar_of_a_black_ground_is_not_cut():
    x = torch.cat([-torch.ones(6, 8), torch.linspace(-1, 1, 16).reshape(2, 8)])[None]  # three in four are black
    _, right = diagrams.dissolve(x, "step 0", "a black ground").axes
    heights = right.patches[0].get_data()[0]
    assert heights.max() ** 2 > 4 and heights.max() < right.get_ylim()[1] + 0.2
    assert (heights**2).sum() / 6 == pytest.approx(1)


def test_a_kernel_is_a_density_over_its_gaussian():
    long, short = diagrams.kernels(HUMPS, Cosine(), 0.5, (0.4, 0.01), torch.zeros(1)).axes
    for ax in (long, short):
        x, bell = ax.lines[0].get_data()
        true = ax.collections[0].get_paths()[0].vertices[:, 1].max()
        assert true < ax.get_ylim()[1] and (bell[1:] * np.diff(x)).sum() == pytest.approx(1, abs=0.01)
    assert true == pytest.approx(bell.max(), rel=0.02)  # the short one


def test_schedules_are_drawn_as_they_are():
    (plane,) = diagrams.schedule_paths({"cosine": Cosine(), "flow": Flow()}, "two").axes
    assert len(plane.lines[-1].get_xdata()) == 11
    strokes = np.array([line.get_data() for line in plane.lines[1:12]])  # each from its path outwards
    assert np.allclose((strokes**2).sum(1), [1, 1.21])
    left, right = diagrams.schedule_curves({"cosine": Cosine(), "flow": Flow()}, "two").axes
    alpha, sigma, *_ = (line.get_ydata() for line in left.lines)
    assert np.allclose(alpha**2 + sigma**2, 1)
    t, y = right.lines[1].get_data()
    assert np.allclose(y, 2 * np.log((1 - t) / t))


def test_paired_bars_are_as_long_as_they_say():
    picture = FIGURES["paired bars"]()
    left, right = picture.axes
    assert [bar.get_width() for bar in left.patches] == [1, 2, 3, 3, 2, 1] and left.yaxis_inverted()
    assert [text.get_text() for text in left.get_yticklabels()] == ["a", "b", "c"] and left.get_ylabel() == "class"
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["x", "y"]
    assert [ax.get_title() for ax in picture.axes] == ["left", "right"] and left.get_xlim() == right.get_xlim()
    assert [text.get_text() for text in left.texts] == ["3", "2", "1"]


def test_arrows_of_the_round_cloud_are_to_scale():
    left, _ = diagrams.round_cloud(0.8, 0.5, n=200).axes
    ends = [text.xy for text in left.texts if not text.get_text()]
    assert np.allclose(ends, [(1, 0), (0.8, 0.5)])


def test_a_narrow_kernel_is_enlarged():
    wide, narrow = diagrams.kernels(HUMPS, Cosine(), 0.5, (0.4, 0.001), torch.zeros(1)).axes
    assert wide.get_xlim() == (-3, 3) and narrow.get_xlim() == pytest.approx((-0.3, 0.3))
    assert narrow.get_xlabel().endswith("(10 times enlarged)")


def test_histograms_stand_under_their_bells():
    sample = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    first, _ = diagrams.under_bells({"a": (sample, 0.0, 1.0), "b": (sample, 0.0, 1.0)}, "two").axes
    bars = [bar.get_height() for bar in first.patches]
    assert max(bars) == pytest.approx(max(first.lines[0].get_ydata()), rel=0.25)


def test_families_name_what_samples_and_what_only_trains():
    cloud = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    picture = diagrams.families(cloud, [cloud / 2, cloud / 3])
    written = texts(picture)
    assert {"GAN", "VAE", "flow", "diffusion", "generator", "decoder", "denoiser, 50 times"} <= set(written)
    assert {"discriminator", "encoder", "itself, inverted", "adds noise"} <= set(written)
    clouds = [c for c in picture.axes[0].collections if len(c.get_offsets()) == 30]
    assert len(clouds) == 2 * 4 + 1 and picture.png() == picture.png()


def test_clouds_stand_in_rows_of_equal_panels():
    picture = diagrams.clouds({f"{k}": torch.zeros(4, 2) for k in range(5)}, "five clouds", title="all")
    assert [ax.get_title() for ax in picture.axes] == list("01234") and picture.get_suptitle().strip() == "all"
    assert len({ax.get_xlim() for ax in picture.axes}) == 1 and picture.png() == picture.png()
    assert diagrams.clouds({"a": torch.zeros(4, 2)}, "", window=(0.0, 2.0)).axes[0].get_ylim() == (0.0, 2.0)
    circles = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([0.5, 0.25])
    rings = diagrams.clouds({"a": torch.zeros(4, 2), "b": torch.zeros(4, 2)}, "", circles=circles).axes[1].patches
    assert [(tuple(ring.center), ring.radius) for ring in rings] == [((0.0, 0.0), 0.5), ((1.0, 1.0), 0.25)]


def test_guesses_lie_over_their_points():
    points = torch.cat([torch.full((3, 2), 5.0), torch.ones(12, 2)])  # the first three are out of the frame
    picture = diagrams.guesses({"far": (points, torch.zeros(15, 2)), "near": (torch.ones(7, 2),) * 2}, "two")
    assert [ax.get_title() for ax in picture.axes] == ["far", "near"] and picture.alt == "two"
    assert [line.get_xdata().tolist() for line in picture.axes[0].lines] == [[1.0, 0.0]] * 10  # from point to guess
    below, above = picture.axes[0].collections
    assert np.allclose(below.get_offsets()[3:], 1) and np.allclose(above.get_offsets(), 0)
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["point", "its guess"]
    assert picture.png() == picture.png()


def test_grids_are_bent_and_their_squares_measured():
    def twice_as_wide(p):
        return p * torch.tensor([2.0, 1.0])

    def sheared(p):  # keeps areas, and bends lines
        return p + torch.stack([torch.zeros(len(p)), p[:, 0].square()], 1)

    panels = {"before": lambda p: p, "wide": twice_as_wide, "sheared": sheared}
    picture = diagrams.bent_grids(panels, "three grids", ((-2, 0), (1, 0)))
    assert [ax.get_title() for ax in picture.axes] == list(panels) and picture.alt == "three grids"
    areas = [ax.get_xlabel() for ax in picture.axes]
    assert areas == ["orange 1.00\nblue 1.00", "orange 2.00\nblue 2.00", "orange 1.00\nblue 1.00"]
    upright = picture.axes[1].lines[0]  # x = -3 before
    assert np.allclose(upright.get_xdata(), -6) and picture.png() == picture.png()
    assert all(len(ax.lines) == 14 and len(ax.patches) == 2 for ax in picture.axes)


def test_walks_show_every_end():
    paths = torch.stack([torch.zeros(7, 2), torch.ones(7, 2)])  # (2, 7, 2)
    panels, behind = {"a": paths, "b": paths[:, :1]}, [torch.zeros(3, 2)] * 2
    marks = (("here", torch.zeros(2)), ("there", torch.ones(2)))
    picture = diagrams.walks(panels, behind, marks, "walks")
    assert [ax.get_title() for ax in picture.axes] == ["a", "b"] and picture.alt == "walks"
    for ax, ends in zip(picture.axes, (7, 1), strict=True):
        assert [len(c.get_offsets()) for c in ax.collections] == [3, ends]
        assert np.allclose(ax.collections[1].get_offsets(), 1)
        assert [line.get_xydata().tolist() for line in ax.lines[-2:]] == [[[0, 0]], [[1, 1]]]
    words = [text.get_text() for text in picture.legends[0].get_texts()]
    assert words == ["here", "there", "one walk", "another", "all ends"]
    assert picture.png() == picture.png()
    with pytest.raises(ValueError, match="expected a cloud behind each panel, got 2 panels and 1 clouds"):
        diagrams.walks(panels, behind[:1], marks, "walks")


def test_clouds_over_a_pale_one_stay_in_the_frame():
    picture = diagrams.over({"a": torch.full((5, 2), 3.0), "b": torch.zeros(4, 2)}, torch.zeros(3, 2), "over")
    assert [len(ax.collections[1].get_offsets()) for ax in picture.axes] == [5, 4] and picture.alt == "over"
    assert all(ax.get_xlim() == (-3.5, 3.5) for ax in picture.axes) and picture.png() == picture.png()
    below = diagrams.over({"a": torch.zeros(5, 2), "b": torch.zeros(4, 2)}, torch.zeros(3, 2), "over", columns=1)
    assert below.get_figheight() > below.get_figwidth() > picture.get_figheight()


def test_clouds_have_colours_of_their_own():
    panels, colours = {"a": torch.zeros(2, 2), "b": torch.ones(1, 2)}, {"a": ["red", "blue"], "b": ["blue"]}
    a, b = (ax.collections[0].get_facecolors() for ax in diagrams.clouds(panels, "two", colours).axes)
    assert len(a) == 2 and len(b) == 1 and np.allclose(a[1], b[0])


def test_bars_say_what_is_unknown():
    picture = diagrams.bars({"a": {"x": 1.5, "y": None}, "b": {"x": 2.0, "y": 3.0}}, "bars")
    assert [text.get_text() for text in picture.axes[0].texts] == ["1.5", "unknown"]
    assert [text.get_text() for text in picture.axes[1].texts] == ["2", "3"] and picture.png() == picture.png()


def test_a_bar_of_another_kind_is_hatched():
    picture = diagrams.bars({"a": {"x": 1.5, "y": 2.0, "z": 1.0}}, "bars", odd="z")
    assert [bar.get_hatch() for bar in picture.axes[0].patches] == [None, None, "///"]


def test_the_noise_that_is_guessed_is_compared_with_the_noise_that_was_added():
    """The last picture is what the guess misses, twice as strong."""
    noise, guess = torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 8, 8), 0.25)
    picture = diagrams.guess_the_noise(GREY, noise, GREY, guess)
    drawn = [image.get_array()[0, 0] for image in picture.axes[0].images]
    assert drawn == pytest.approx([0.5, 0.75, 0.5, 0.625, 0.75])
    assert any("loss" in text for text in texts(picture))


def test_hands_end_where_cosine_and_sine_say():
    """Each hand is (cosine, sine) from the middle of its clock; the first time's stand in all rows."""
    angles = torch.tensor([[0.0, 0.5], [2.0, 0.6]])
    picture = diagrams.clock_hands(torch.cat([angles.cos(), angles.sin()], 1), ("a", "b"), (0, 1), "clocks")
    arrows = [each for each in picture.axes[0].texts if each.get_text() == ""]
    hands = [torch.tensor(each.xy) - torch.tensor(each.xyann) for each in arrows]
    found = [float(torch.atan2(y, x)) for x, y in hands]
    assert found == pytest.approx([0, 0, 0, 2.0, 0.5, 0.5, 0.5, 0.6], abs=1e-5)
    with pytest.raises(ValueError, match="expected a name for each of 2 times, got 1"):
        diagrams.clock_hands(torch.ones(2, 4), ("a",), (0, 1), "clocks")


def test_rows_are_arrows_and_weights_are_lines():
    """Each row's arrow ends at (a, b); v is at a right angle to x_t; the weight of x0 is one."""
    left, right = diagrams.rows_and_weights(Cosine(), 0.3).axes
    ends = [text.xy for text in left.texts if text.get_text() == ""]
    alpha, sigma = (float(c) for c in Cosine()(0.3))
    for end in ((alpha, sigma), (-sigma, alpha), (1, 0), (0, 1), (0, -1 / sigma)):
        assert any(found == pytest.approx(end, abs=1e-6) for found in ends)
    assert any(np.allclose(line.get_ydata(), 1) for line in right.lines)


def test_marked_points_are_drawn_once_more_in_each_panel_of_their_row():
    x = torch.arange(8.0).view(4, 2) / 4
    mark = torch.tensor([True, False, False, True])
    panels = [("a", x, ""), ("b", x + 0.1, "")] * 2
    picture = diagrams.predictions(panels, 2, ("up", "down"), "four panels", marked=(mark, ~mark))
    for k, (ax, (_, points, _)) in enumerate(zip(picture.axes, panels, strict=True)):
        assert np.allclose(ax.collections[1].get_offsets(), points[mark if k < 2 else ~mark])
        assert len(ax.collections[0].get_offsets()) == 4


def test_predictions_need_a_panel_for_each_place():
    with pytest.raises(ValueError, match="expected 2 panels for each of 1 rows, got 1"):
        diagrams.predictions([("x0", torch.zeros(4, 2), "")], 2, ("D = 2",), "too few")
