"""Say what a referee would ask of anybody's scores.

    ghosttrack audit scores.csv --out audit/

Read are a .csv with the columns `question, answer, label` (1 or `error`: hallucinated), where there
are some `id, group, split`, and `score:<name>` each, higher where hallucinated; a folder of
`evaluations`; or .json, a list of samples with `is_factual` and numbers, which are scores.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import ceil, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.command import make_folder, say
from ghosttrack.detector.learners.baselines import Words
from ghosttrack.detector.learners.classifiers import SAME_RHO, moments, z
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import interval, once, resample
from ghosttrack.evaluation.result import Interval
from ghosttrack.evaluation.scores import paired_auroc
from ghosttrack.evaluation.splits import grouped_folds
from ghosttrack.files import read_json, write_json
from ghosttrack.questions.categories import RIGHT, categorise, says_nothing
from ghosttrack.questions.sets import Question, normalised
from ghosttrack.report.tables import number, with_interval, write_csv

SCORE = "score:"
HALLUCINATED = {"1": 1, "1.0": 1, "true": 1, "error": 1, "hallucinated": 1, "wrong": 1}
LABELS = {**HALLUCINATED, **dict.fromkeys(("0", "0.0", "false", "correct", "right"), 0)}
NAMES = {
    "question": ("question", "prompt", "query"),
    "answer": ("answer", "response", "text", "completion", "output"),
    "id": ("id", "sample_id"),
    "group": ("group", "question_id", "entity"),
    "split": ("split", "fold"),
}
"""Under which names a sample of .json may hold what a column of .csv is."""
N_RESAMPLES, N_FOLDS = 1000, 5
SHOWN = 3
QUESTION_ONLY, ANSWER_ONLY = "question's words", "answer's words"


class Samples(NamedTuple):
    """Scored answers, in a file's order."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    labels: Int[np.ndarray, " sample"]
    """1 = hallucinated."""
    groups: tuple[str, ...]
    """Of a row that has none, its question."""
    splits: tuple[str, ...]
    """"" where a file knows none."""
    scores: Mapping[str, Float[np.ndarray, " sample"]]


class Judged(NamedTuple):
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
    """Read scores, and say and write what there is to say."""
    samples = read_samples(path)
    rows = judge(samples, precision)
    findings = {
        "texts across splits": across_splits(samples),
        "columns": same_columns(samples.scores),
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
        header = [*Judged._fields[:5], "low", "high", "needed", "beyond_question"]
        cells = [
            [*row[:5], *row.ci, row.needed, row.beyond_question, *row.beyond_ci] for row in rows
        ]
        write_csv(folder / "audit.csv", [*header, "beyond_low", "beyond_high"], cells)
        (folder / "audit.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_samples(path: Path) -> Samples:
    """Read any of the forms that the module names.

    Raises:
        DataError: It is none of them, or a row is malformed; says which.
    """
    if path.is_dir():
        return _evaluation(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a .csv, a .json or a folder of evaluations")
    if path.suffix == ".json":
        return _factual(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in ("question", "answer", "label") if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{path}: no rows with a column {', '.join(missing)}")
    names = [name for name in rows[0] if name.startswith(SCORE)]
    scores = {name.removeprefix(SCORE): [_real(row[name]) for row in rows] for name in names}
    return _samples(path, rows, [_label(path, at, row) for at, row in enumerate(rows)], scores)


def _evaluation(folder: Path) -> Samples:
    file = folder / "tables" / "scores.csv"
    if not file.is_file():
        raise DataError(f"{folder}: holds no tables/scores.csv, so is no folder of evaluations")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    texts = ("question", "answer", "category")
    scores = {name: [_real(row[name]) for row in rows] for name in rows[0] if name not in texts}
    return _samples(file, rows, [int(row["category"] not in RIGHT) for row in rows], scores)


def _factual(path: Path) -> Samples:
    """Read the samples of a file of results: what is no text, id or label is a score."""
    rows = next(_lists(read_json(path)), None)
    if rows is None:
        raise DataError(f"{path}: holds no list of samples with is_factual")
    known = {"is_factual", *chain.from_iterable(NAMES.values())}
    names = dict.fromkeys(
        name for row in rows for name, value in row.items()
        if name not in known and isinstance(value, int | float)
    )  # fmt: skip
    scores = {name: [_real(row.get(name)) for row in rows] for name in names}
    labels = [int(not row["is_factual"]) for row in rows]
    return _samples(path, rows, labels, scores)


def _lists(value: Any) -> Iterator[list[dict[str, Any]]]:  # noqa: ANN401 - JSON
    """Find lists of samples, however deep."""
    is_list = isinstance(value, list) and len(value) > 0
    if is_list and all(isinstance(one, dict) and "is_factual" in one for one in value):
        yield value
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _lists(one)


def _samples(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[int],
    scores: Mapping[str, Sequence[float]],
) -> Samples:
    if len(set(labels)) < 2:
        raise DataError(f"{path}: every label is the same; nothing can be judged")
    held = {
        name: tuple(
            str(next((row[one] for one in names if row.get(one) not in (None, "")), ""))
            for row in rows
        )
        for name, names in NAMES.items()
    }
    pairs = zip(held["group"], held["question"], strict=True)
    groups = tuple(group or normalised(question) for group, question in pairs)
    columns = {name: np.array(column, dtype=np.float64) for name, column in scores.items()}
    return Samples(
        *(held["question"], held["answer"], np.array(labels, dtype=np.int64), groups),
        *(held["split"], columns),
    )


def _label(path: Path, at: int, row: Mapping[str, str]) -> int:
    label = LABELS.get(str(row["label"]).strip().lower())
    if label is None:
        raise DataError(f"{path}, row {at + 1}: label must be 0, 1, correct or error")
    return label


def _real(value: object) -> float:
    try:
        return float(str(value)) if not isinstance(value, bool) else float(value)
    except ValueError:
        return float("nan")


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


def same_columns(scores: Mapping[str, Float[np.ndarray, " sample"]]) -> list[str]:
    """Name scores that say nothing, or what an earlier one says."""
    found, kept = [], dict[str, np.ndarray]()
    for name, column in scores.items():
        known = column[np.isfinite(column)]
        if len(known) < len(column):
            found.append(f"{name} is not a number in {len(column) - len(known)} rows")
        if not len(known) or np.ptp(known) == 0:
            found.append(f"{name} is constant")
            continue
        one = z(column[:, None], *moments(column[:, None]))[:, 0]
        twin = next((a for a, b in kept.items() if abs(np.corrcoef(one, b)[0, 1]) > SAME_RHO), None)
        if twin is not None:
            found.append(f"{name} is {twin} again (|rho| > {SAME_RHO})")
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


def judge(samples: Samples, precision: float) -> list[Judged]:
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
) -> Judged:
    labels, flat = samples.labels[mask], np.zeros(int(mask.sum()), dtype=np.int64)
    draws = resample([samples.groups[row] for row in np.flatnonzero(mask)], N_RESAMPLES, 0)
    aurocs = {
        key: [
            paired_auroc(labels, _ranked(columns[key][mask]), flat, one)
            for one in (once(len(labels)), draws)
        ]
        for key in {name, QUESTION_ONLY} & {*columns}
    }
    point, drawn = aurocs[name]
    base = aurocs.get(QUESTION_ONLY, [np.full(1, np.nan), np.full(N_RESAMPLES, np.nan)])
    auroc, rarer = float(point[0]), int(min(labels.sum(), len(labels) - labels.sum()))
    ci = interval(drawn)
    half = (ci.high - ci.low) / 2
    needed = ceil(rarer * (half / precision) ** 2) if isfinite(half) else 0
    return Judged(
        *(name, split, len(labels), rarer, auroc, ci, needed),
        *(auroc - float(base[0][0]), interval(drawn - base[1])),
    )


def _ranked(column: Float[np.ndarray, " sample"]) -> Float[np.ndarray, " sample"]:
    """Put what is not a number in the middle."""
    known = column[np.isfinite(column)]
    return np.where(np.isfinite(column), column, np.median(known) if len(known) else 0.0)


def alone(samples: Samples) -> dict[str, Float[np.ndarray, " sample"]]:
    """Score every answer by what knows no model: its question's and own words, length, order.

    Words are learned in folds that keep groups together.
    """
    n = len(samples.labels)
    found = {
        "answer's length": np.array([len(text) for text in samples.answers], dtype=np.float64),
        "row number": np.arange(n, dtype=np.float64),
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


def imprecise(rows: Sequence[Judged], precision: float) -> list[str]:
    """Name what is known less well than it is claimed to be."""
    return [
        f"{row.score} on {row.split}: {row.rarer} rows of the rarer label give"
        f" ±{number((row.ci.high - row.ci.low) / 2)}; ±{precision:g} takes about {row.needed:,}"
        if row.needed
        else f"{row.score} on {row.split}: {row.rarer} rows of the rarer label give no interval"
        for row in rows
        if row.needed > row.rarer or not row.needed
    ]


def question_skill(rows: Sequence[Judged]) -> list[str]:
    """Name scores that do no better than the question's words, and what tells by itself."""
    told = [row for row in rows if row.split == "all"]
    trivial = {QUESTION_ONLY, ANSWER_ONLY, "answer's length", "row number"}
    found = [
        f"{row.score} alone tells: AUROC {with_interval(row.auroc, row.ci)}"
        for row in told
        if row.score in trivial and not row.ci.low <= 0.5 <= row.ci.high and isfinite(row.ci.low)
    ]
    return found + [
        f"{row.score} is not better than the question's words:"
        f" {with_interval(row.beyond_question, row.beyond_ci)}"
        for row in told
        if row.score not in trivial and row.beyond_ci.low <= 0
    ]


def _line(row: Judged) -> str:
    return f"{row.score} on {row.split} (n = {row.n}): AUROC {with_interval(row.auroc, row.ci)}"


def _count(found: Sequence[str], what: str) -> str:
    return f"{len(found)} {what}{'s' if len(found) > 1 else ''}"


def _some(texts: Sequence[str]) -> str:
    shown = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts[:SHOWN])
    return shown + (", ..." if len(texts) > SHOWN else "")
