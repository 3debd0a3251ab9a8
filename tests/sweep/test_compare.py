from pathlib import Path

import pandas as pd
import pytest

from ghosttrack.analysis.evaluations import read_evaluation
from ghosttrack.evaluation.result import Interval
from ghosttrack.report.tables import Estimate
from sweep.compare_models import main, paired_sheet
from sweep.heatmaps import main as heatmaps
from sweep.tables import (
    Target,
    bands_sheet,
    models_sheet,
    statistics_sheet,
    targets_sheet,
    trends_sheet,
)
from tests.report.materials import LABELS, N, evaluation, row
from tests.sweep.outputs import bank, detected, hook, judged, record, trained


def only(sheet: pd.DataFrame, name: str, **where: object) -> object:
    (found,) = [one[name] for one in sheet.to_dict("records") if where.items() <= one.items()]
    return found


def test_statistics_over_layers_are_the_textbooks():
    sheet = statistics_sheet([record(*(hook(i, fvu=fvu) for i, fvu in enumerate((0.1, 0.2, 0.6))))])
    found = {name: only(sheet, name, metric="fvu") for name in sheet.columns[3:]}
    # deviations -0.2, -0.1, 0.3: variance 0.14 / 3
    wanted = {"mean": 0.3, "median": 0.2, "min": 0.1, "max": 0.6, "sd": (0.14 / 3) ** 0.5}
    assert found == pytest.approx({**wanted, "hooks": 3})


@pytest.mark.parametrize(
    ("by", "values", "counts"),
    [
        ("mse", (0.0019, 0.002, 0.0049, 0.005, 0.0099, 0.01), (1, 2, 2, 1)),
        ("fvu", (0.049, 0.05, 0.1, 0.29, 0.3, 0.9), (1, 1, 2, 2)),
    ],
)
def test_a_band_begins_at_the_limit_of_the_one_above(
    by: str, values: tuple[float, ...], counts: tuple[int, ...]
):
    sheet = bands_sheet([record(*({**hook(i), by: value} for i, value in enumerate(values)))])
    bands = ("excellent", "good", "fair", "poor")
    assert tuple(only(sheet, name, by=by) for name in bands) == counts


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (Estimate(0.95, 0.92, 0.97), "met"),
        (Estimate(0.91, 0.89, 0.93), "met, but not by the whole interval"),
        (Estimate(0.91, float("nan"), float("nan")), "met, but not by the whole interval"),
        (Estimate(0.89, 0.85, 0.93), "missed"),
        (Estimate(float("nan"), None, None), "not measured"),
    ],
)
def test_a_target_of_detection_counts_its_interval(value: Estimate, status: str):
    assert Target("AUROC", 0.9).status(value) == status


def test_targets_of_banks():
    sheet = targets_sheet([record(hook(0, l0=40.0), hook(1, l0=70.0, fvu=0.02))])
    assert [*zip(sheet["value"], sheet["status"], strict=True)] == [
        (Estimate(55.0, None, None), "met"),
        (Estimate(pytest.approx(0.006), None, None), "met"),
    ]
    sheet = targets_sheet([record(hook(0, l0=16.0))])
    assert sheet["status"].tolist() == ["missed", "missed"]


def test_a_trend_compares_the_halves_and_is_tested():
    values = (0.1, 0.2, 0.9, 0.3, 0.4)  # the layer in the middle is in neither half
    sheet = trends_sheet([record(*(hook(i, fvu=value) for i, value in enumerate(values)))])
    assert only(sheet, "early", metric="fvu") == pytest.approx(0.15)
    assert only(sheet, "late", metric="fvu") == pytest.approx(0.35)
    assert only(sheet, "Kendall's tau", metric="fvu") == pytest.approx(0.6)  # 8 of 10 pairs rise
    assert only(sheet, "Kendall's tau", metric="l0") is None
    rising = trends_sheet([record(*(hook(i, fvu=0.1 + 0.1 * i) for i in range(6)))])
    assert only(rising, "p", metric="fvu") == pytest.approx(2 / 720)  # of 6! orders two are sorted


def test_a_trend_is_of_layers_whatever_positions_they_have():
    values = [[0.1, 0.5], [0.3, 0.7], [0.2, 0.6], [0.4, 0.8]]  # means 0.3, 0.5, 0.4, 0.6
    hooks = [
        hook(layer, pos=pos, fvu=fvu)
        for layer, row in enumerate(values)
        for pos, fvu in enumerate(row)
    ]
    sheet = trends_sheet([record(*hooks)])
    assert only(sheet, "late - early", metric="fvu") == pytest.approx(0.1)
    plain = trends_sheet([record(*(hook(i, fvu=v) for i, v in enumerate((0.3, 0.5, 0.4, 0.6))))])
    for name in ("Kendall's tau", "p"):
        assert only(sheet, name, metric="fvu") == pytest.approx(only(plain, name, metric="fvu"))


def test_too_few_layers_have_no_trend():
    assert trends_sheet([record(*(hook(i) for i in range(3)))]).empty


def test_sparsity_and_expansion():
    sheet = models_sheet([record(hook(0))])
    assert only(sheet, "k / d_sae") == 0.125
    assert only(sheet, "expansion") == 2


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Two models, one of them with two evaluations."""
    low = evaluation(
        rows=(row("output", "all", 0.6, intervals={"f1": Interval(0.5, 0.7)}),), paired=()
    )
    for model, fvu in (("small", 0.2), ("large", 0.1)):
        root = tmp_path / "outputs" / model
        made = bank(root, 64, 8, [hook(i, fvu=fvu) for i in range(4)])
        detected(root / "runs" / "detect" / "a", [], made, judged(root))
    detected(root / "runs" / "detect" / "b", [], made, judged(root, low, seed=1))
    return tmp_path / "outputs"


def test_models_stand_side_by_side(outputs: Path, capsys: pytest.CaptureFixture[str]):
    out = outputs.parent / "cmp"
    folders = [str(outputs / model) for model in ("small", "large")]
    main([*folders, "--detectors", "output,everything", "--out", str(out)])
    printed = capsys.readouterr().out
    assert printed.index("small ") < printed.index("large ")
    text = (out / "comparison.md").read_text()
    assert text.count("## ") == 6
    detection = (out / "detection.csv").read_text().splitlines()
    assert len(detection) == 1 + 2 + 2 + 1
    assert sum(",output," in line for line in detection) == 3
    for picture in ("depth", "auroc"):
        assert (out / f"{picture}.svg").is_file()
    assert "large tiny-baseline" in (out / "auroc.svg").read_text()


def test_an_evaluation_of_another_format_is_left_out_and_named(
    outputs: Path, capsys: pytest.CaptureFixture[str]
):
    (old,) = (outputs / "small" / "evaluations").glob("*/manifest.json")
    old.write_text(old.read_text().replace('"n_folds": 5', '"n_folds": 6'))
    main([str(outputs), "--out", str(outputs.parent / "cmp")])
    assert f"left out: {old}: id" in capsys.readouterr().out
    assert len((outputs.parent / "cmp" / "detection.csv").read_text().splitlines()) == 3


def test_an_evaluation_without_an_entry_is_of_another_version(
    outputs: Path, capsys: pytest.CaptureFixture[str]
):
    (file,) = (outputs / "small" / "evaluations").glob("*/evaluation.json")
    content = file.read_text()
    file.write_text(content.replace('"causal"', '"ausalc"'))
    main([str(outputs), "--out", str(outputs.parent / "cmp")])
    said = "made by another version of ghosttrack; the same detect.py command makes it anew"
    assert f"left out: {file.parent}: {said}" in capsys.readouterr().out


def test_positions_have_maps_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "outputs" / "tiny"
    hooks = [hook(i, pos=p, fvu=0.1 + 0.01 * p) for i in (2, 10) for p in range(3)]
    spread, plain = bank(root, 64, 8, hooks), bank(root, 32, 8, [hook(i) for i in range(2)])
    for place, made in enumerate((spread, plain)):
        trained(root / "sweeps" / "grid" / str(place), [], made)
    heatmaps([str(root), "--out", str(tmp_path)])
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == [
        f"heatmap-tiny-{spread.name}.svg",
        "heatmap-layers.svg",
    ]
    drawn = paths[0].read_text()
    assert drawn.index("layer 2") < drawn.index("layer 10")
    for said in ("loss: mean squared error", "explained variance", "dead fraction", "0.25", "0.88"):
        assert f">{said}<" in drawn
    assert plain.name in paths[1].read_text()


def test_evaluations_that_share_answers_are_compared_on_these(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sweep.compare_models.LEAST_SHARED", 8)
    better = {"output": LABELS.astype(float)}
    found = [
        read_evaluation(judged(tmp_path / name, evaluation(scores=scores)))
        for name, scores in (("a", better), ("b", {"output": 1.0 - LABELS}))
    ]
    sheet = paired_sheet(found, ("output", "few"))
    assert only(sheet, "shared answers", detector="output") == N
    difference = only(sheet, "difference", detector="output")
    assert difference == Estimate(1.0, 1.0, 1.0)
    assert only(sheet, "AUROC", detector="output") == 1.0


def test_a_page_of_a_comparison_shows_its_numbers(outputs: Path):
    main([str(outputs)])
    page = (outputs / "comparison" / "comparison.html").read_text()
    assert "0.600" in page
    assert 'class="sortable comparable"' in page
