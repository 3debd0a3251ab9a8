"""The sections of the dashboard: what each shows of a folder's runs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd

from ghosttrack.analysis.evaluations import EvaluationRecord
from ghosttrack.analysis.runs import RunRecord, banks_of, common_overrides, labels_of
from ghosttrack.errors import DataError
from ghosttrack.evaluation.result import ALL
from ghosttrack.report.html import D3, asset, embedded, environment, script
from ghosttrack.report.pictures import Curve, draw_curves
from ghosttrack.report.sheet import Cell, SpelledSheet, sheet_of, shown, spelled
from sweep.logged import Logged, read_logged
from sweep.pictures import (
    draw_depth,
    draw_detection,
    draw_pareto,
    draw_shapes,
    heatmaps,
    place_on_front,
)
from sweep.shapes import LEAST_EXPLAINED, MOST_DEAD, shapes_of, shapes_sheet, sweet_spot
from sweep.tables import (
    CAUTION,
    bands_sheet,
    brief,
    detection_sheet,
    models_sheet,
    runs_sheet,
    statistics_sheet,
    targets_sheet,
    trends_sheet,
)

MOST_CURVES = 12
"""Runs whose layers are drawn; more panels could not be read."""
MOST_MAPS = 24
"""Banks whose layers are mapped, for the same reason."""
DEPTH = "Held out, layer by layer"
PARETO = "Explained variance over active latents, means over hook points; lines: Pareto fronts"
MAPS = "Hook point by hook point"
PANEL = 370
"""Width of a panel of curves, in pixels; three make a row."""


class PagePicture(NamedTuple):
    """A figure in the page."""

    data: str
    caption: str
    width: int = 1100
    is_map: bool = False
    """Its colours mean something: no dark page may turn them round."""


class Section(NamedTuple):
    """A heading with what stands below it."""

    anchor: str
    title: str
    note: str
    tables: Sequence[tuple[str, SpelledSheet]] = ()
    """With a title, which it is folded away below, or none."""
    figures: Sequence[PagePicture] = ()
    links: Mapping[str, str] = MappingProxyType({})
    """Where a cell that says this leads to."""


class Review(NamedTuple):
    """What is looked at."""

    runs: Sequence[RunRecord]
    found: Mapping[Path, EvaluationRecord]
    """Evaluations by folder."""
    detectors: tuple[str, ...]
    beside: Path
    """Folder of the page."""

    def summary(self) -> list[str]:
        """Say what there is, and how well the best does."""
        failed = sum(run.status != "done" for run in self.runs)
        models = sorted({run.model for run in self.runs})
        banks = banks_of(self.runs)
        lines = [
            f"Runs of {', '.join(models)}: {len(self.runs)}, {failed} of them not done;"
            f" SAE banks: {len(banks)}; evaluations: {len(self.found)}."
        ]
        known = [(value, bank) for bank in banks if (value := bank.mean("fvu")) is not None]
        if known:
            value, bank = min(known, key=lambda one: one[0])
            lines.append(f"Lowest FVU: {shown(value)} on average, {bank.label}.")
        for one in self.found.values():
            rows = [row for row in one.evaluation.rows if row.subset == ALL]
            shown_rows = [row for row in rows if row.detector in self.detectors]
            if shown_rows:
                row = max(shown_rows, key=lambda row: row.auroc)
                interval = f"[{shown(row.auroc_ci.low)}, {shown(row.auroc_ci.high)}]"
                lines.append(f"{one.name}: {row.detector} has AUROC {shown(row.auroc)} {interval}.")
        return lines


def sections(review: Review, pictures: Path) -> list[Section]:
    """Build every section that the runs have something for; figures are drawn in `pictures`."""
    logged = {
        label: read_logged(run.folder)
        for label, run in zip(labels_of(review.runs), review.runs, strict=True)
    }
    return [
        section
        for section in (
            _runs(review),
            _detection(review, pictures),
            _banks(review, pictures),
            _shapes(review, pictures),
            _training(logged, pictures),
            _usage(review.runs, logged),
        )
        if section is not None
    ]


def report_links(found: Mapping[Path, EvaluationRecord], beside: Path) -> dict[str, str]:
    """Lead from the name of every evaluation that has a report there, from a page in `beside`."""
    reports = {one.name: folder / "report.html" for folder, one in found.items()}
    return {
        name: quote(os.path.relpath(report, beside))
        for name, report in reports.items()
        if report.is_file()
    }


def write_review(
    path: Path, title: str, summary: Sequence[str], sections: Sequence[Section]
) -> None:
    """Write sections as one self-contained page.

    Raises:
        DataError: The file cannot be written.
    """
    text = (
        environment()
        .get_template("dashboard.html")
        .render(
            css=asset("report.css"),
            d3=asset(D3),
            js=script("dom", "tables", "readout", "compare", "review"),
            title=title,
            summary=summary,
            sections=sections,
        )
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"--out {path}: cannot be written ({error.strerror})") from error


def _tables(sheets: Mapping[str, pd.DataFrame]) -> list[tuple[str, SpelledSheet]]:
    return [(title, spelled(sheet)) for title, sheet in sheets.items() if not sheet.empty]


def _runs(review: Review) -> Section:
    note = "SAE metrics are means over hook points; intervals are 95 % cluster bootstraps."
    common = common_overrides(review.runs)
    if common:
        note = f"{note} All runs: {' '.join(common)}."
    sheet = runs_sheet(review.runs, review.found, review.detectors)
    return Section("runs", "Runs", note, [("", spelled(brief(sheet, review.runs)))])


def _detection(review: Review, pictures: Path) -> Section | None:
    found = list(review.found.values())
    if not found or not review.detectors:
        return None
    picture = draw_detection(pictures / "auroc", found, review.detectors)
    return Section(
        "detection",
        "Detection",
        "Hallucinated is the positive class; probabilities are cross-fitted over grouped folds.",
        [("", spelled(detection_sheet(found, review.detectors)))],
        [PagePicture(embedded(picture), "AUROC on all answers, a colour per evaluation", 760)],
        report_links(review.found, review.beside),
    )


def _banks(review: Review, pictures: Path) -> Section | None:
    banks = banks_of(review.runs)
    if not banks:
        return None
    sheets = {
        "": models_sheet(banks),
        "Statistics over hook points": statistics_sheet(banks),
        "Hook points per quality band": bands_sheet(banks),
        "The studies' targets": targets_sheet(banks),
        "Early against late layers": trends_sheet(banks),
    }
    figures = [PagePicture(embedded(draw_depth(pictures / "depth", banks)), DEPTH)]
    if sum(None not in place_on_front(bank) for bank in banks) > 1:
        drawn = draw_pareto(pictures / "pareto", banks)
        figures.insert(0, PagePicture(embedded(drawn), PARETO, 760))
    if len(banks) <= MOST_MAPS:
        figures += [
            PagePicture(embedded(one), MAPS, 900, is_map=True) for one in heatmaps(banks, pictures)
        ]
    return Section("banks", "SAE banks", CAUTION, _tables(sheets), figures)


def _shapes(review: Review, pictures: Path) -> Section | None:
    """Choose from a grid, where it is one grid with a choice in it."""
    try:
        shapes = shapes_of(banks_of(review.runs))
        best = sweet_spot(shapes)
    except DataError:
        return None
    if len(shapes) < 2:
        return None
    table = spelled(shapes_sheet(shapes, best))
    caption = f"Sweet spot: d_sae={best.d_sae} k={best.k}"
    drawn = embedded(draw_shapes(pictures / "shapes", shapes, best))
    picture = PagePicture(drawn, caption, 620, is_map=True)
    note = (
        f"Of the shapes with explained variance of at least {LEAST_EXPLAINED:g} and a dead fraction"
        f" of at most {MOST_DEAD:g}, the highest explained variance, then the fewest dead."
    )
    return Section("shapes", "Sweet spot", note, [("", table)], [picture])


def _training(logged: dict[str, Logged], pictures: Path) -> Section | None:
    said = {
        "train/fvu_mean": "FVU, mean over hook points",
        "train/dead_frac": "dead fraction",
        "tokens_per_s": "tokens per second",
    }
    panels = {title: _curves(logged, name) for name, title in said.items()}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return None
    whole = PagePicture(embedded(draw_curves(pictures / "training", panels, "step")), "Every run")
    layers = {
        label: [
            (name.removeprefix("train/fvu/"), *one.series(name)) for name in one.names("train/fvu/")
        ]
        for label, one in logged.items()
    }
    layers = dict([(label, curves) for label, curves in layers.items() if curves][:MOST_CURVES])
    figures = [whole]
    if layers:
        drawn = draw_curves(pictures / "layers", layers, "step")
        caption, width = "FVU while training, a panel per run", PANEL * min(3, len(layers))
        figures.append(PagePicture(embedded(drawn), caption, width))
    return Section("training", "Training", "As the loggers wrote it.", (), figures)


def _curves(logged: dict[str, Logged], name: str) -> list[Curve]:
    curves = [(label, *one.series(name)) for label, one in logged.items()]
    return [curve for curve in curves if curve[2]]


def _usage(runs: Sequence[RunRecord], logged: dict[str, Logged]) -> Section | None:
    peaks: list[tuple[Cell, ...]] = [
        (
            label,
            *(run.program, run.seconds),
            *(run.memory_bytes.get(one, 0) / 1e9 or None for one in ("host", "gpu")),
        )
        for label, run in zip(logged, runs, strict=True)
        if run.memory_bytes
    ]
    rows: list[tuple[Cell, ...]] = [
        (label, name, fmean(values), max(values), len(values))
        for label, one in logged.items()
        for name, values in one.used().items()
        if values
    ]
    sheets = {
        "": sheet_of(
            ("run", "program", "seconds", "peak memory, GB", "peak GPU memory, GB"), peaks
        ),
        "While it trained": sheet_of(("run", "quantity", "mean", "max", "measurements"), rows),
    }
    tables = _tables(sheets)
    note = "Peaks are each run's own; `cpu_percent` is of one core."
    return Section("usage", "Memory and time", note, tables) if tables else None
