import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ghosttrack.report.tables import (
    category_counts,
    number,
    print_headline,
    with_interval,
    write_csv,
    write_rows,
    write_scores,
)
from tests.report import materials


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.1236, "0.124"), (1.0, "1.000"), (None, "–"), (float("nan"), "–"), (float("inf"), "–")],
)
def test_numbers_have_three_digits_and_undefined_ones_are_a_dash(value, shown):
    assert number(value) == shown


def test_an_interval_stands_behind_its_number():
    assert with_interval(0.9, (0.85, 0.95)) == "0.900 [0.850, 0.950]"
    assert with_interval(None, (None, None)) == "– [–, –]"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_run_is_neutralised(tmp_path: Path, start: str):
    write_csv(tmp_path / "t.csv", ["text"], [[f"{start}cmd|' /C calc'!A0"], ["a=1"]])
    assert read(tmp_path / "t.csv") == [["text"], [f"'{start}cmd|' /C calc'!A0"], ["a=1"]]


@given(st.text(st.characters(codec="utf-8")))
def test_no_cell_of_any_text_begins_a_formula(tmp_path_factory, text: str):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_csv(path, ["text"], [[text]])
    cell = read(path)[1][0]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell in (text, "'" + text)


def test_numbers_stay_numbers_and_undefined_ones_are_empty(tmp_path: Path):
    write_csv(tmp_path / "t.csv", ["a", "b"], [[-0.5, float("nan")]])
    assert read(tmp_path / "t.csv")[1] == ["-0.5", ""]


def test_a_table_of_rows_has_every_number_and_the_interval(tmp_path: Path):
    write_rows(tmp_path / "t.csv", materials.evaluation().rows)
    header, first, *rest = read(tmp_path / "t.csv")
    cells = dict(zip(header, first, strict=True))
    assert (cells["detector"], cells["subset"], cells["n"]) == ("output", "all", "8")
    assert float(cells["auroc_low"]) == pytest.approx(0.65)
    assert len(rest) == 8


def test_a_table_of_scores_has_a_row_per_answer(tmp_path: Path):
    texts = [("why?", "=SUM(A1)", "wrong", "g")] * materials.N
    write_scores(tmp_path / "t.csv", materials.evaluation(), texts)
    header, first, *rest = read(tmp_path / "t.csv")
    detectors = ["output", "everything", "null:shuffled"]
    assert header == ["question", "answer", "category", "group", *detectors]
    assert first[:4] == ["why?", "'=SUM(A1)", "wrong", "g"]
    assert float(first[5]) == pytest.approx(
        materials.evaluation().scores["everything"][0], abs=1e-6
    )
    assert len(rest) == materials.N - 1


@pytest.mark.parametrize(("n_others", "shown"), [(1, ["null:0"]), (40, [])])
def test_the_closing_table_names_chief_detectors_first_and_the_others_where_they_are_few(
    n_others: int, shown: list[str]
):
    rows = [
        {"detector": name, "subset": subset, "auroc": None, "auroc_ci": [None, None], "f1": 0.5,
         "ece": 0.25, "forwards": 37.0, "n": 8}
        for name in (*(f"null:{n}" for n in range(n_others)), "everything", "output")
        for subset in materials.SUBSETS
    ]  # fmt: skip
    out = io.StringIO()
    print_headline(rows, Console(file=out, width=200))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["p>0.5", "detector", "output", "everything", *shown]
    assert lines[3] == ["everything", "–", "[–,", "–]", "–", "–", "0.50", "0.250", "37.0"]


@pytest.mark.parametrize("width", [70, 100])
def test_the_closing_table_cuts_nothing_however_narrow(width):
    name = "tracks+output+probe+raw_latents"
    subsets = ("all", "p>0.5", "p>0.8", "within relation")
    rows = [
        {"detector": name, "subset": subset, "auroc": 0.95, "auroc_ci": [0.9, 0.97], "f1": 0.5,
         "ece": 0.25, "forwards": 221.0, "n": 1491}
        for subset in subsets
    ]  # fmt: skip
    out = io.StringIO()
    print_headline(rows, Console(file=out, width=width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "0.950 [0.900, 0.970]" in text
    assert "221.0" in text
    assert text.count("n=1491") == 3 or width == 70
    assert (name in text) == (width == 100)


def test_counts_are_per_group_in_order_of_appearance():
    counts = category_counts(["rare", "head", "rare"], np.array([1, 0, 0]))
    assert counts == [("rare", 2, 0.5), ("head", 1, 1.0)]
