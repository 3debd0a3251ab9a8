import math
from dataclasses import replace
from html import escape
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.text import Text

from ghosttrack.evaluation.result import Interval
from ghosttrack.evaluation.roster import COLORS, DETECTORS
from ghosttrack.report.evidence import draw_bank
from ghosttrack.report.figures import OVERVIEWS, draw
from ghosttrack.report.first import ORACLE
from ghosttrack.report.overview import draw_overview
from ghosttrack.report.page import CAPTIONS
from tests.report import materials

PNG = b"\x89PNG\r\n\x1a\n"


def test_each_figure_is_an_svg_and_a_png_with_a_caption(tmp_path: Path):
    shown = materials.material()
    paths = draw(tmp_path, shown.evaluation, materials.LABELS, shown.hooks)
    assert [path.stem for path in paths] == list(CAPTIONS)
    for path in paths:
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert path.with_suffix(".png").read_bytes().startswith(PNG)


def test_drawing_again_gives_the_same_bytes(tmp_path: Path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        draw(folder, materials.evaluation(), materials.LABELS)
    first, second = (
        {file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders
    )
    assert first == second


def test_the_forest_shows_every_detector_and_the_curves_only_chosen_ones(tmp_path: Path):
    draw(tmp_path, materials.evaluation(), materials.LABELS)
    forest = (tmp_path / "auroc.svg").read_text()
    assert ">null:shuffled<" in forest
    assert ">output<" in forest
    assert ">null:shuffled<" not in (tmp_path / "roc.svg").read_text()


def test_evidence_is_drawn_beside_what_means_nothing_and_bands_of_quality(tmp_path: Path):
    shown = materials.material()
    draw(tmp_path, shown.evaluation, materials.LABELS, shown.hooks)
    said = {name: (tmp_path / f"{name}.svg").read_text() for name in ("subsets", "tracks", "bank")}
    assert all(f">{escape(one)}, n = 8<" in said["subsets"] for one in materials.SUBSETS)
    told = ("layers of a confirmed track", "layers 3 to 7", "null:shuffled", "pairs without link")
    assert all(f">{one}<" in said["tracks"] for one in told)
    assert all(f">{one}<" in said["bank"] for one in ("excellent", "good", "dead latents, share"))
    assert ">poor<" not in said["bank"]  # its FVU is 0.1


@pytest.mark.filterwarnings("error")
def test_a_hook_point_whose_quality_is_not_defined_is_left_out():
    known = {"layer": 0, "fvu": 0.1, "dead_frac": 0.0}
    figure = draw_bank([known, {"layer": 1, "fvu": None, "dead_frac": 0.5}])
    assert [line.get_xydata().tolist() for line in figure.axes[0].lines] == [[[0.0, 0.1]]] * 2
    alone = draw_bank([{"layer": 0, "fvu": math.nan, "dead_frac": 0.0}])
    assert [axes.get_title() for axes in alone.axes] == ["dead latents, share"]


def test_curves_are_drawn_of_ready_answers_too(tmp_path: Path):
    """None of the detectors whose curves are usual reads them."""
    found = materials.evaluation()
    draw(tmp_path, replace(found, scores={"sampling": found.scores["output"]}), materials.LABELS)
    for name in ("roc", "pr"):
        assert ">sampling<" in (tmp_path / f"{name}.svg").read_text()


def test_every_detector_of_the_closing_table_has_a_colour_of_its_own():
    assert {one.name for one in DETECTORS if one.curve} <= set(COLORS)
    assert len(set(COLORS.values())) == len(COLORS)


@pytest.mark.parametrize("size", OVERVIEWS.values(), ids=str)
def test_no_name_of_the_first_picture_lies_on_another_or_on_an_interval(size: tuple[float, float]):
    crowd = [(name, at) for at, name in enumerate(list(COLORS)[:30]) if name != ORACLE]
    names = {"output": 0.88, "tracks": 0.86, "null:shuffled": 0.87, "recommended": 0.89}
    scored = {name: 0.9 - 0.004 * at for name, at in crowd} | names
    rows = [
        materials.row(name, "all", auroc, forwards=2.0 if "tracks" in name else 1.0)
        for name, auroc in scored.items()
    ]
    chosen = {"recommended": "probe+output"}
    wide = {"length": Interval(0.2, 0.93)}
    crowded = replace(
        materials.evaluation(), rows=tuple(rows), recommended=chosen, canaries_ci=wide
    )
    figure = draw_overview(crowded, size)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    intervals = [line.get_window_extent() for line in axes.lines if line.get_zorder() == 3]
    assert (len(boxes) > 5, len(intervals)) == (True, len(rows))
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert not [box for box in boxes if box.count_overlaps(intervals)]
