"""How numbers are spelt, and tables of an evaluation: for the terminal and as CSV files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.table import Table as RichTable

from ghosttrack.evaluation.result import ALL, CONFIDENT, WITHIN, Evaluation, Row
from ghosttrack.evaluation.roster import COLORS, SURFACE

CHIEF = (ALL, *CONFIDENT, WITHIN)
"""Subsets that a terminal has room for; the page shows all."""
MOST_SHOWN = 25
"""Detectors that a terminal has room for; of more, only the chief ones are shown there."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A spreadsheet takes a cell that begins so for a formula, of wide forms where it is Japanese."""


class Estimate(NamedTuple):
    """A number with its interval; None where one is not defined."""

    value: float | None
    low: float | None
    high: float | None


def number(value: float | None, digits: int = 3) -> str:
    """Format a number; what is not defined (None or NaN) becomes a dash.

    >>> number(0.5), number(float("nan"))
    ('0.500', '–')
    """
    return "–" if value is None or not isfinite(value) else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: Sequence[float | None]) -> str:
    """Format a number with its interval.

    >>> with_interval(0.9, (0.85, 0.95))
    '0.900 [0.850, 0.950]'
    """
    low, high = interval
    return f"{number(value)} [{number(low)}, {number(high)}]"


def account(n: int, n_judged: int, categories: Mapping[str, int]) -> str:
    """Say what became of the answers, and how many detectors are judged on.

    >>> account(9, 8, {"correct": 3, "wrong": 5, "echo": 1})
    '9 answers: correct 3, wrong 5, echo (only words of the question) 1; judged are 8'
    """
    said = {"echo": "echo (only words of the question)"}
    parts = ", ".join(
        f"{said.get(name, name.replace('_', ' '))} {count:,}" for name, count in categories.items()
    )
    return f"{n:,} answers: {parts}; judged are {n_judged:,}"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write CSV in UTF-8; a text that a spreadsheet would run as a formula gets a `'` before it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(_cell, header))
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, float) and not isfinite(value):
        return ""
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def print_headline(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the closing table: named detectors on the chief subsets, and what the surface tells.

    A narrow console folds names; the intervals of the other subsets stand in the report.

    Args:
        rows: As in `evaluation.json`; null is not defined.
        console: Where to.
    """
    there = {row["subset"]: row["n"] for row in rows}
    others = tuple(name for name in CHIEF if name in there and name != ALL)
    table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("detector", overflow="fold")
    table.add_column("AUROC", no_wrap=True)
    counted = [f"{name}\nn={there[name]}" for name in others]
    for name in (*counted, "F1", "ECE", "passes"):
        table.add_column(name, justify="right", max_width=8, overflow="fold")
    for name in _shown(tuple(dict.fromkeys(row["detector"] for row in rows))):
        by_subset = {row["subset"]: row for row in rows if row["detector"] == name}
        whole = by_subset[ALL]
        areas = [number(by_subset[subset]["auroc"]) for subset in others]
        scores = number(whole["f1"], 2), number(whole["ece"]), number(whole["forwards"], 1)
        area = with_interval(whole["auroc"], whole["auroc_ci"])
        table.add_row(name, area, *areas, *scores)
    console.print(table)


def _shown(names: Sequence[str]) -> list[str]:
    chief = [name for name in (*COLORS, SURFACE) if name in names]
    others = [name for name in names if name not in chief]
    return chief if len(names) > MOST_SHOWN else chief + others


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write every row of an evaluation, intervals of AUROC beside it."""
    names = [one.name for one in fields(Row) if one.name not in ("auroc_ci", "intervals")]
    header = [*names, "auroc_low", "auroc_high"]
    write_csv(
        path, header, [[*(getattr(row, name) for name in names), *row.auroc_ci] for row in rows]
    )


def write_scores(path: Path, evaluation: Evaluation, texts: Sequence[Sequence[str]]) -> None:
    """Write one row per answer: its four `texts`, and each detector's probability."""
    names = list(evaluation.scores)
    columns = [evaluation.scores[name] for name in names]
    cells = (
        [*text, *(f"{column[index]:.6f}" for column in columns)] for index, text in enumerate(texts)
    )
    write_csv(path, ["question", "answer", "category", "group", *names], cells)


def category_counts(
    groups: Sequence[str], labels: Int[np.ndarray, " sample"]
) -> list[tuple[str, int, float]]:
    """Count answers per group, with the share of right ones: rows (group, n, accuracy)."""
    names = np.array(groups)
    return [
        (str(name), int((names == name).sum()), float(1 - labels[names == name].mean()))
        for name in dict.fromkeys(groups)
    ]
