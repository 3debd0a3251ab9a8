"""Say what a referee would ask of anybody's scores.

    ghosttrack audit scores.csv --out audit/

A .csv has the columns `question, answer, label` (1 or `error`: hallucinated), and `score:<name>`
each, higher where hallucinated; `samples.read_samples` says what else is read.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from ghosttrack.analysis.samples import SCORE, Samples, read_samples
from ghosttrack.command import make_folder, say
from ghosttrack.detector.learners.baselines import Words
from ghosttrack.detector.learners.classifiers import SAME_RHO
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import interval, resample
from ghosttrack.evaluation.result import Interval
from ghosttrack.evaluation.scores import Resampled, resampled_auroc
from ghosttrack.evaluation.splits import grouped_folds
from ghosttrack.files import write_json
from ghosttrack.questions.categories import RIGHT, categorise, says_nothing
from ghosttrack.questions.sets import Question, normalised
from ghosttrack.report.tables import number, with_interval, write_csv

N_RESAMPLES, N_FOLDS = 1000, 5
SHOWN = 3
QUESTION_ONLY, ANSWER_ONLY = "question's words", "answer's words"
LENGTH, ROW = "answer's length", "row number"
TRIVIAL = (LENGTH, ROW, QUESTION_ONLY, ANSWER_ONLY)
"""Scores of what knows no model; their intervals are to hold at once."""


class AuditRow(NamedTuple):
    """How well one score does on one part."""

    score: str
    split: str
    """`all`, or the name of one."""
    n: int
    rarer: int
    """Rows of the rarer label."""
    auroc: float
    ci: Interval
    needed: int
    """Rows of the rarer label for the precision that is claimed."""
    beyond_question: float
    """AUROC minus that of a model of the question's words, on the same rows."""
    beyond_ci: Interval


def audit(path: Path, precision: float, out: Path | None) -> None:
    """Read scores, and say and write what there is to say.

    Raises:
        DataError: They cannot be read, or the precision is none of an AUROC.
    """
    if not 0 < precision < 0.5:
        raise DataError(f"--precision must be above 0 and below 0.5, got {precision:g}")
    samples = read_samples(path)
    rows = judge(samples, precision)
    findings = {
        "texts across splits": across_splits(samples),
        "columns": same_columns(samples),
        "direction": turned(rows),
        "perfect": perfect(rows),
        "labels": label_noise(samples),
        "precision": imprecise(rows, precision),
        "question-only skill": question_skill(rows),
    }
    lines = [account(samples), *(_line(row) for row in rows)]
    for name, found in findings.items():
        lines += ["", f"{name}:", *(f"  {one}" for one in found or ["nothing found"])]
    for line in lines:
        say(line)
    if out is not None:
        folder = make_folder(out)
        write_json(folder / "audit.json", {"account": account(samples), **findings})
        header = [*AuditRow._fields[:5], "low", "high", "needed", "beyond_question"]
        cells = [
            [*row[:5], *row.ci, row.needed, row.beyond_question, *row.beyond_ci] for row in rows
        ]
        write_csv(folder / "audit.csv", [*header, "beyond_low", "beyond_high"], cells)
        (folder / "audit.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def account(samples: Samples) -> str:
    """Say what there is."""
    n, wrong = len(samples.labels), int(samples.labels.sum())
    splits = ", ".join(f"{name} {count}" for name, count in Counter(samples.splits).items() if name)
    return (
        f"{n} answers to {len(set(map(normalised, samples.questions)))} questions in"
        f" {len(set(samples.groups))} groups, {wrong} hallucinated; splits: {splits or 'none'};"
        f" {len(samples.scores)} scores"
    )


def across_splits(samples: Samples) -> list[str]:
    """Name questions and groups of several splits, and answers that stand there twice."""
    texts = tuple(map(normalised, samples.questions))
    whole = [f"{q} | {normalised(a)}" for q, a in zip(texts, samples.answers, strict=True)]
    found = []
    for what, keys in (("question", texts), ("group", samples.groups)):
        seen: dict[str, set[str]] = {}
        for key, split in zip(keys, samples.splits, strict=True):
            seen.setdefault(key, set()).add(split)
        torn = [key for key, splits in seen.items() if len(splits) > 1]
        if torn:
            found.append(f"{_count(torn, what)} in several splits: {_some(torn)}")
    twice = [key for key, count in Counter(whole).items() if count > 1]
    if twice:
        found.append(f"{_count(twice, 'question-and-answer pair')} more than once: {_some(twice)}")
    if not any(samples.splits) and len(set(texts)) < len(texts):
        found.append("questions repeat and no split is told: only a split by question is sound")
    return found


def same_columns(samples: Samples) -> list[str]:
    """Name scores that say nothing, or rank answers as an earlier one does."""
    found = [] if samples.scores else [f"no column {SCORE}<name>: only texts and order are judged"]
    kept = dict[str, np.ndarray]()
    for name, column in samples.scores.items():
        unknown = np.isnan(column)
        if unknown.any():
            n, wrong = int(unknown.sum()), int(samples.labels[unknown].sum())
            found.append(f"{name} is not a number in {n} rows, {wrong} of them hallucinated")
        if np.unique(column[~unknown]).size < 2:
            found.append(f"{name} is constant")
            continue
        one = _ranked(column)
        twin = next((a for a, b in kept.items() if abs(np.corrcoef(one, b)[0, 1]) > SAME_RHO), None)
        if twin is not None:
            found.append(f"{name} is {twin} again (|rho| of ranks > {SAME_RHO})")
        else:
            kept[name] = one
    return found


def label_noise(samples: Samples) -> list[str]:
    """Name answers that count as right and say nothing beyond their question."""
    found = {"echo the question": list[str](), "say nothing": list[str]()}
    for question, answer, label in zip(*samples[:3], strict=True):
        if label == 0 and says_nothing(answer):
            found["say nothing"].append(answer)
        elif label == 0 and question:
            asked = Question("", question, (answer,), "")
            if categorise(asked, answer).category not in RIGHT:
                found["echo the question"].append(answer)
    n_right = int((samples.labels == 0).sum())
    return [
        f"{len(held)} of {n_right} answers that count as right {what}: {_some(held)}"
        for what, held in found.items()
        if held
    ]


def judge(samples: Samples, precision: float) -> list[AuditRow]:
    """Judge every score on all rows and on each split, beside what texts and order tell alone."""
    columns = {**samples.scores, **alone(samples)}
    splits = np.array(samples.splits)
    parts = {"all": np.ones(len(splits), dtype=bool)}
    parts |= {name: splits == name for name in dict.fromkeys(samples.splits) if name}
    return [
        _judged(samples, columns, name, split, mask, precision)
        for split, mask in parts.items()
        for name in columns
        if len(set(samples.labels[mask].tolist())) > 1
    ]


def _judged(
    samples: Samples,
    columns: Mapping[str, Float[np.ndarray, " sample"]],
    name: str,
    split: str,
    mask: Bool[np.ndarray, " sample"],
    precision: float,
) -> AuditRow:
    labels = samples.labels[mask]
    draws = resample([samples.groups[row] for row in np.flatnonzero(mask)], N_RESAMPLES, 0)
    aurocs = {
        key: resampled_auroc(labels, _ranked(columns[key][mask]), draws)
        for key in {name, QUESTION_ONLY} & {*columns}
    }
    auroc, drawn = aurocs[name]
    base = aurocs.get(QUESTION_ONLY, Resampled(np.nan, np.full(N_RESAMPLES, np.nan)))
    rarer = int(min(labels.sum(), len(labels) - labels.sum()))
    if draws.n_groups < 2:  # every draw is the same
        drawn = np.full(N_RESAMPLES, np.nan)
    ci = interval(drawn, len(TRIVIAL) if name in TRIVIAL else 1)
    half = (ci.high - ci.low) / 2
    needed = ceil(rarer * (half / precision) ** 2) if isfinite(half) else 0
    return AuditRow(
        *(name, split, len(labels), rarer, auroc, ci, needed),
        *(auroc - base.point, interval(drawn - base.drawn)),
    )


def _ranked(column: Float[np.ndarray, " sample"]) -> Float[np.ndarray, " sample"]:
    """Replace numbers by their ranks; what is not a number stands in the middle."""
    known = ~np.isnan(column)
    ranks = np.full(len(column), (known.sum() + 1) / 2)
    ranks[known] = rankdata(column[known])
    return ranks


def alone(samples: Samples) -> dict[str, Float[np.ndarray, " sample"]]:
    """Score every answer by what knows no model: its question's and own words, length, order.

    Words are learned in folds that keep groups together.
    """
    n = len(samples.labels)
    found = {
        LENGTH: np.array([len(text) for text in samples.answers], dtype=np.float64),
        ROW: np.arange(n, dtype=np.float64),
    }
    try:
        folds = grouped_folds(samples.labels, samples.groups, samples.groups, N_FOLDS, 0)
    except DataError:
        return found
    for name, texts in ((QUESTION_ONLY, samples.questions), (ANSWER_ONLY, samples.answers)):
        if len(set(texts)) < 2:
            continue
        learner, scores = Words(texts, "word"), np.empty(n)
        for fold in range(N_FOLDS):
            train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            (option,) = learner.options()
            scores[test] = learner.fit_predict(option, samples.labels, train, test, 0)
        found[name] = scores
    return found


def imprecise(rows: Sequence[AuditRow], precision: float) -> list[str]:
    """Say of each part how well scores are known there, where less well than is claimed."""
    found = []
    for split in dict.fromkeys(row.split for row in rows):
        here = [row for row in rows if row.split == split and row.score not in TRIVIAL]
        short = [row for row in here if row.needed > row.rarer]
        halves = [number((row.ci.high - row.ci.low) / 2) for row in short]
        needed = [f"{row.needed:,}" for row in sorted(short, key=lambda row: row.needed)]
        if not all(isfinite(row.ci.low) for row in here):
            found.append(f"{split}: {here[0].rarer} rows of the rarer label give no interval")
        elif short:
            found.append(
                f"{split}: {here[0].rarer} rows of the rarer label give"
                f" ±{_from_to(sorted(halves))}; ±{precision:g} takes about {_from_to(needed)}"
            )
    return found


def _from_to(sorted_texts: Sequence[str]) -> str:
    first, last = sorted_texts[0], sorted_texts[-1]
    return first if first == last else f"{first} to {last}"


def turned(rows: Sequence[AuditRow]) -> list[str]:
    """Name scores that are lower where hallucinated."""
    return [
        f"{row.score} is lower where hallucinated, AUROC {with_interval(row.auroc, row.ci)}:"
        " is its sign turned?"
        for row in rows
        if row.split == "all" and row.score not in TRIVIAL and row.ci.high < 0.5
    ]


def perfect(rows: Sequence[AuditRow]) -> list[str]:
    """Name scores that make no error, as only labels do."""
    return [
        f"{row.score} makes no error on {row.split}: does it know the labels?"
        for row in rows
        if row.auroc in (0.0, 1.0) and row.score not in TRIVIAL and isfinite(row.ci.low)
    ]


def question_skill(rows: Sequence[AuditRow]) -> list[str]:
    """Name scores that do no better than the question's words, and what tells by itself."""
    told = [row for row in rows if row.split == "all"]
    found = [
        f"{row.score} alone tells: AUROC {with_interval(row.auroc, row.ci)}"
        for row in told
        if row.score in TRIVIAL and not row.ci.low <= 0.5 <= row.ci.high and isfinite(row.ci.low)
    ]
    return found + [
        f"{row.score} is not better than the question's words:"
        f" {with_interval(row.beyond_question, row.beyond_ci)}"
        for row in told
        if row.score not in TRIVIAL and row.beyond_ci.low <= 0
    ]


def _line(row: AuditRow) -> str:
    return f"{row.score} on {row.split} (n = {row.n}): AUROC {with_interval(row.auroc, row.ci)}"


def _count(found: Sequence[str], what: str) -> str:
    return f"{len(found)} {what}{'s' if len(found) > 1 else ''}"


def _some(texts: Sequence[str]) -> str:
    each = list(dict.fromkeys(texts))
    shown = ", ".join(json.dumps(text, ensure_ascii=False) for text in each[:SHOWN])
    return shown + (", ..." if len(each) > SHOWN else "")
