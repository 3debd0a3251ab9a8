"""One self-contained page: no network, no other file, every text from model or data escaped."""

from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from markupsafe import Markup

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.catalogue import ARROWS, bounds
from ghosttrack.detector.table import StatisticSpec
from ghosttrack.evaluation.canaries import kind
from ghosttrack.evaluation.result import Evaluation, Pair, PartGain, Reliability, Row
from ghosttrack.evaluation.roster import COLORS, TITLES
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.subsets import UNAMBIGUOUS
from ghosttrack.report.contents import ReportContents
from ghosttrack.report.first import answered, choices, key_numbers, leader, verdict
from ghosttrack.report.html import D3, SCRIPTS, asset, embedded, environment, json_in_html, script
from ghosttrack.report.tables import account, category_counts, with_interval
from ghosttrack.report.viewer import N_ANSWERS, packed, viewer_data

CAPTIONS = {
    "overview": "Each dot a detector with its 95 % interval: the higher the better, the further "
    "left the cheaper; grey: not named here, null, or control; thin grey lines: canaries, with "
    "intervals that hold for all at once",
    "overview_narrow": "The same for narrow pages",
    "roc": "ROC of cross-fitted probabilities, all answers",
    "pr": "Precision against recall; dotted: share of hallucinated answers",
    "calibration": "Stated probability against what came true",
    "risk_coverage": "Share hallucinated among the answers given, if the riskiest are held back; "
    "bands: 95 %, answers taken for independent",
    "auroc": "AUROC with interval of every detector; grey: controls, nulls, references",
    "subsets": "AUROC with interval on every set of answers",
    "pairs": "Differences of AUROC on the same resamples; grey: 0 lies within",
    "tracks": "How long tracks last, how many latents go on, how many links pass when their upper "
    "latent is taken out, each beside what means nothing",
    "bank": "Held-out text, a dot per hook point; bands name the quality by FVU",
}
ANSWERS = "answers.parquet"
"""Beside a page that shows a sample: every answer."""
WORLD_LIMITS = (
    "This run examines a small language model trained on a generated world. Where no canary sings "
    "it is controlled evidence on frequency, confidence and association. It does not show that the "
    "same numbers hold in pretrained language models.",
    "The owner test fits this world's failure mode: a wrong answer is often borrowed from a "
    "namesake. Read the detectors that use it with that in mind.",
)


def write_page(
    path: Path,
    contents: ReportContents,
    figures: Sequence[Path],
    decode: Callable[[Sequence[int]], str],
) -> None:
    """Write the report page.

    Args:
        path: The HTML file.
        contents: What is shown.
        figures: SVG files to embed, named as in `CAPTIONS`.
        decode: Spells token ids.
    """
    evaluation, answers = contents.evaluation, contents.answers
    risk_name = leader(evaluation)
    viewer, details = packed(viewer_data(contents, risk_name, decode))
    template = environment().get_template("report.html")
    text = template.render(
        contents._asdict(),
        css=asset("report.css"),
        d3=asset(D3),
        js=script(*SCRIPTS),
        verdict=verdict(evaluation, risk_name),
        numbers=key_numbers(evaluation, risk_name),
        questions=answered(evaluation, risk_name, contents.facts, contents.duration),
        captions=CAPTIONS,
        viewer=json_in_html(viewer),
        details=json_in_html(details),
        n_shown=len(viewer["answers"]),
        summary=summarise(evaluation),
        subsets=evaluation.subsets,
        sizes={row.subset: row.n for row in evaluation.rows},
        headline=COLORS,
        titles=TITLES,
        canaries={name: kind(name).sees for name in evaluation.canaries},
        detectors=_detectors(evaluation),
        choices=choices(evaluation),
        notes=_notes(evaluation),
        paired=_pairs(evaluation.paired),
        parts=_parts(evaluation.parts),
        reliability=_by_prevalence(evaluation.reliability),
        figures={figure.stem: embedded(figure) for figure in figures},
        ambiguity=ambiguity(evaluation, risk_name),
        tiers=category_counts(answers.tiers, answers.labels) if any(answers.tiers) else [],
        confidence=_confidence(answers.prob, answers.labels),
        has_tracks=contents.view is not None,
        has_token_risks=bool(contents.token_risks),
        has_ghosts=bool(contents.view and contents.view.stay),
        written=answers.are_written,
        statistics=_statistics(contents),
        dropped=[(one, ", ".join(gone)) for one, gone in evaluation.dropped.items() if gone],
        risk_name=risk_name,
        flagged_from=flagged_from(evaluation, risk_name),
        explainer=contents.fitted.name if contents.fitted else "",
        limits=(*(WORLD_LIMITS if any(answers.tiers) else ()), *contents.limits),
        seconds={name: took for name, took in contents.seconds.items() if took >= 0.05},
    )
    path.write_text(text, encoding="utf-8")
    _write_all(path.parent, answers, evaluation.scores[risk_name])


def _write_all(folder: Path, answers: Answers, risk: Float[np.ndarray, " sample"]) -> None:
    """Leave all answers beside a page that shows some."""
    if len(answers) <= N_ANSWERS:
        return
    columns = {"question": answers.asked, "answer": answers.texts, "category": answers.categories}
    right = [list(one) for one in answers.references]
    columns |= {"right": right, "own_probability": answers.prob, "risk": risk}
    pd.DataFrame(columns).to_parquet(folder / ANSWERS)


def flagged_from(evaluation: Evaluation, detector: str) -> str:
    """Say from which risk on answers are flagged, by what inner folds chose."""
    prob, flagged = evaluation.scores[detector], evaluation.flagged[detector]
    cuts = [
        float(prob[rows].min())
        for fold in np.unique(evaluation.folds)
        if (rows := flagged & (evaluation.folds == fold)).any()
    ]
    if not cuts:
        return "none"
    low, high = f"{100 * min(cuts):.0f}", f"{100 * max(cuts):.0f}"
    return f"from {low} % on" if low == high else f"from {low} to {high} % on, by fold"


def summarise(evaluation: Evaluation) -> str:
    """Say in one sentence what was judged."""
    n = evaluation.n_judged
    said = f"{account(evaluation.n, n, evaluation.categories)}. " if n < evaluation.n else ""
    return (
        f"{said}{n:,} answers about {evaluation.n_groups:,} groups, "
        f"{100 * evaluation.hallucinated_frac:.0f} % hallucinated."
    )


def ambiguity(evaluation: Evaluation, detector: str) -> str:
    """Say how many labels are doubtful, and what a detector's AUROC is without them."""
    if not evaluation.disagreements:
        return ""
    counts = ", ".join(f"{name} {n}" for name, n in evaluation.disagreements.items())
    said = (
        f"{evaluation.n_ambiguous} of {evaluation.n_judged} labels are ambiguous: right to one eye "
        f"and not to the other (of all answers: {counts.replace('_', ' ')})."
    )
    if UNAMBIGUOUS not in evaluation.subsets:
        return said
    row = evaluation.row(detector, UNAMBIGUOUS)
    return f"{said} {detector} without them: AUROC {with_interval(row.auroc, row.auroc_ci)}."


def sketch(
    values: Float[np.ndarray, " sample"], labels: Int[np.ndarray, " sample"], bins: int = 24
) -> Markup:
    """Draw two histograms on one axis, as inline SVG: light = right, dark = hallucinated."""
    low, high = np.quantile(values, [0.005, 0.995])
    if not high > low:
        return Markup("")
    clipped = np.clip(values, low, high)
    counts = [
        np.histogram(clipped[labels == label], bins=bins, range=(low, high), density=True)[0]
        for label in (0, 1)
    ]
    top = max(count.max() for count in counts)
    areas = []
    for count, style in zip(counts, ("fill-opacity='0.25'", "fill-opacity='0.6'"), strict=True):
        heights = 22 - 20 * count / top
        points = " ".join(f"{5 * i},{y:.1f} {5 * i + 5},{y:.1f}" for i, y in enumerate(heights))
        areas.append(f"<polygon points='0,22 {points} {5 * bins},22' fill='currentColor' {style}/>")
    # Only numbers formatted here enter the markup.
    return Markup(f"<svg width='{5 * bins}' height='22' aria-hidden='true'>{''.join(areas)}</svg>")


def _detectors(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Row]]]:
    """Group rows by detector, the headline first."""
    rows: dict[str, dict[str, Row]] = {}
    for row in evaluation.rows:
        rows.setdefault(row.detector, {})[row.subset] = row
    first = [name for name in COLORS if name in rows]
    return [(name, rows[name]) for name in [*first, *(n for n in rows if n not in first)]]


def _notes(evaluation: Evaluation) -> list[str]:
    """Say each caution once per subset."""
    return sorted({f"{row.subset}: {row.note}" for row in evaluation.rows if row.note})


def _pairs(pairs: Sequence[Pair]) -> list[tuple[str, str, Mapping[str, Pair]]]:
    grouped: dict[tuple[str, str], dict[str, Pair]] = {}
    for pair in pairs:
        grouped.setdefault((pair.a, pair.b), {})[pair.subset] = pair
    return [(a, b, subsets) for (a, b), subsets in grouped.items()]


def _parts(parts: Sequence[PartGain]) -> list[tuple[str, Mapping[str, PartGain]]]:
    grouped: dict[str, dict[str, PartGain]] = {}
    for part in parts:
        grouped.setdefault(part.part, {})[part.subset] = part
    return list(grouped.items())


def _by_prevalence(found: Sequence[Reliability]) -> dict[str, dict[float, Reliability]]:
    grouped: dict[str, dict[float, Reliability]] = {}
    for one in found:
        grouped.setdefault(one.detector, {})[one.prevalence] = one
    return grouped


def _confidence(
    prob: Float[np.ndarray, " sample"], labels: Int[np.ndarray, " sample"]
) -> list[tuple[str, int, int]]:
    """Count answers and wrong ones by the model's own certainty, as far as it is known."""
    if np.isnan(prob).all():
        return []
    bands = (
        ("sure: p > 0.8", prob > 0.8),
        ("fairly sure: 0.5 < p ≤ 0.8", (prob > 0.5) & (prob <= 0.8)),
    )
    bands = (*bands, ("unsure: p ≤ 0.5", prob <= 0.5))
    return [(name, int(band.sum()), int(labels[band].sum())) for name, band in bands]


def _statistics(contents: ReportContents) -> list[dict[str, object]]:
    """Show every statistic, and what became of its expected direction."""
    specs = {spec.name: spec for spec in contents.specs}
    expected = {one.statistic: one for one in contents.evaluation.expectations}
    labels = contents.answers.labels
    rows = []
    for table in contents.statistics.values():
        for name, values in zip(table.names, table.values.T, strict=True):
            known = np.isfinite(values)
            row = _statistic(specs[name], values[known], labels[known])
            rows.append({**row, "held": expected.get(name)})
    return rows


def _statistic(
    spec: StatisticSpec,
    values: Float[np.ndarray, " sample"],
    labels: Int[np.ndarray, " sample"],
) -> dict[str, object]:
    both = 0 < labels.sum() < len(labels)
    return {
        "name": spec.name,
        "n": len(values),
        "family": spec.family,
        "definition": spec.definition,
        "range": bounds(spec),
        "expected": ARROWS[spec.direction],
        "auroc": plain_auroc(labels, values) if both else nan,
        "sketch": sketch(values, labels) if both else Markup(""),
    }
