"""What can be read off pictures, where it lies and what it looks like."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Stroke

from ghosttrack.report import pictures as report_pictures
from ghosttrack.report.pictures import (
    WIDEST,
    Curve,
    draw_curves,
    draw_intervals,
    draw_positions,
)
from ghosttrack.report.tables import Estimate
from sweep import pictures
from sweep.heatmaps import heatmaps
from sweep.pictures import Map, draw_depth, draw_pareto, draw_shapes
from sweep.shapes import Shape
from tests.sweep.outputs import hook, record

STEM = Path("picture")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures in the order in which they would have been saved, with everything in its place."""
    figures: list[Figure] = []

    def keep(figure: Figure, stem: Path) -> Path:
        figure.draw_without_rendering()
        figures.append(figure)
        return stem

    for module in (report_pictures, pictures):
        monkeypatch.setattr(module, "save", keep)
    return figures


def curves(n: int, name: str = "curve") -> list[Curve]:
    return [(f"{name} {i}", [0.0, 1.0], [0.0, float(i)]) for i in range(n)]


@pytest.mark.parametrize(
    ("one", "ends"),
    [
        pytest.param(Map(np.array([[0.0, 0.0]]), low=0.0), (0, 1), id="zero"),
        pytest.param(Map(np.array([[0.02, math.nan]]), low=0.0), (0, 0.02), id="from 0"),
        pytest.param(Map(np.array([[0.9, 0.95]]), high=1.0), (0.9, 1), id="to 1"),
        pytest.param(Map(np.array([[1.0]]), high=1.0), (0, 1), id="all of it"),
        pytest.param(Map(np.array([[0.2, 0.4]])), (0.2, 0.4), id="free"),
    ],
)
def test_colours_of_a_map_begin_and_end(one: Map, ends: tuple[float, float]):
    assert one.ends == ends


def test_maps_say_zero_and_tell_their_values_apart(drawn: list[Figure], tmp_path: Path):
    values = (0.0265, 0.0201, 0.0272, 0.0204)
    heatmaps([record(*(hook(i, fvu=v, dead_frac=0.0) for i, v in enumerate(values)))], tmp_path)
    (figure,) = drawn
    maps = {axes.get_title(): axes for axes in figure.axes if axes.images}
    ends = [axes.images[0].get_clim() for axes in maps.values()]
    np.testing.assert_allclose(ends, [(0, 0.00272), (1 - 0.0272, 1), (0, 1)])
    told = [text.get_text() for text in maps["explained variance"].texts]
    assert told == ["0.9735", "0.9799", "0.9728", "0.9796"]
    assert {text.get_text() for text in maps["dead fraction"].texts} == {"0.0"}


def test_the_first_and_the_last_marker_are_whole(drawn: list[Figure]):
    draw_intervals(STEM, "AUROC", [(f"row {i}", "a", Estimate(0.7, 0.6, 0.8)) for i in range(3)])
    (axes,) = drawn[0].axes
    radius = 2.5 / 72 * drawn[0].dpi
    for row in (0, 2):
        _, y = axes.transData.transform((0.7, row))
        assert axes.bbox.y0 + radius < y < axes.bbox.y1 - radius


@pytest.mark.parametrize("n_panels", [1, 3])
def test_the_legend_of_long_names_is_within_the_picture(drawn: list[Figure], n_panels: int):
    every = curves(9, "gpt2-medium topk-16384-128-abcdefabcdef")
    draw_curves(STEM, {f"panel {i}": every for i in range(n_panels)}, "step")
    (legend,) = drawn[0].legends
    found = legend.get_window_extent()
    assert 0 <= found.x0 < found.x1 <= drawn[0].bbox.x1


def test_the_legend_of_positions_is_within_a_picture_of_one_panel(drawn: list[Figure]):
    draw_positions(STEM, "bank", {"fvu": (np.arange(4), np.random.default_rng(0).random((3, 4)))})
    found = drawn[0].legends[0].get_window_extent()
    assert 0 <= found.x0 < found.x1 <= drawn[0].bbox.x1


def test_thirty_two_curves_look_different_and_the_same_in_every_panel(drawn: list[Figure]):
    draw_curves(STEM, {"a": curves(32), "b": curves(32)[::-1]}, "step")
    a, b = ([(x.get_color(), x.get_linestyle()) for x in axes.lines] for axes in drawn[0].axes)
    assert len(set(a)) == 32
    assert b == a[::-1]
    assert len({color for color, _ in a[:8]}) == 8
    assert {style for _, style in a[:8]} == {"-"}


def test_one_panel_alone_is_narrow(drawn: list[Figure]):
    shape = Shape(64, 8, 0.9, 0.1)
    draw_curves(STEM, {"a": curves(2)}, "step")
    draw_shapes(STEM, [shape], shape)
    draw_intervals(STEM, "AUROC", [("few", "a", Estimate(0.7, 0.6, 0.8))])
    widths = [figure.axes[0].get_window_extent().width / figure.dpi for figure in drawn]
    assert max(widths) <= WIDEST
    assert max(figure.get_figwidth() for figure in drawn[:2]) <= WIDEST


def test_crosses_are_seen_on_dark_dots(drawn: list[Figure]):
    good, dead = Shape(64, 8, 0.9, 0.1), Shape(64, 4, 0.8, 1.0)
    draw_shapes(STEM, [good, dead], good)
    (cross,) = [one for one in drawn[0].axes[0].collections if one.get_label() == "fails the rule"]
    assert isinstance(cross, PathCollection)
    rim, _ = cross.get_path_effects()
    assert isinstance(rim, Stroke)
    assert rim._gc["foreground"] == "#ffffff"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_front_is_of_banks_of_the_same_hook_points_and_labels_stay_inside(drawn: list[Figure]):
    banks = [hook(0, fvu=0.2, l0=8.0), hook(0, fvu=0.1, l0=16.0), hook(1, fvu=0.05, l0=4.0)]
    draw_pareto(STEM, [record(one) for one in banks])
    (axes,) = drawn[0].axes
    fronts = [one for one in axes.lines if one.get_linestyle() == "--"]
    assert [len(np.asarray(one.get_xdata())) for one in fronts] == [2, 1]
    inside = axes.get_window_extent()
    for text in axes.texts:
        extent = text.get_window_extent()
        assert inside.x0 < extent.x0
        assert extent.x1 < inside.x1


def test_depth_has_a_point_per_layer(drawn: list[Figure]):
    values = {2: (0.1, 0.3), 3: (0.2, 0.2), 6: (0.5, 0.7)}
    spread = [
        hook(layer, pos=pos, fvu=fvu)
        for layer, row in values.items()
        for pos, fvu in enumerate(row)
    ]
    draw_depth(STEM, [record(*spread)])
    fvu = drawn[0].axes[0]
    (line,) = fvu.lines
    np.testing.assert_allclose(
        np.asarray(line.get_xydata(), dtype=float), [[0, 0.2], [0.25, 0.2], [1, 0.6]]
    )
    assert fvu.get_xlabel() == "relative depth among the bank's layers"
