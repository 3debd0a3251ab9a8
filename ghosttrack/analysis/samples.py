"""Anybody's scored answers, in every form that is read."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.analysis.evaluations import TEXTS, read_scores, scored
from ghosttrack.analysis.runs import newest
from ghosttrack.errors import DataError
from ghosttrack.questions.records import check_header
from ghosttrack.questions.sets import normalised

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


def read_samples(path: Path) -> Samples:
    """Read a .csv, a .json, a folder of evaluations, or a model's newest.

    A .csv (UTF-8) has the columns `question, answer, label`, where there are some `id, group,
    split`, and `score:<name>` each; .json holds a list of samples with `is_factual`, whose other
    numbers are scores.

    Raises:
        DataError: It is none of them, or a row is malformed; says which.
    """
    if path.is_dir():
        return _evaluation(newest(path, "evaluations"))
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a .csv, a .json or a folder of evaluations")
    if path.suffix == ".json":
        return _factual(path)
    rows = _table(path)
    held = list(rows[0]) if rows else []
    missing = [name for name in ("question", "answer", "label") if name not in held]
    if missing:
        raise DataError(
            f"{path}: no rows with a column {', '.join(missing)}; its columns, cut at commas, are"
            f" {', '.join(held) or 'none'}"
        )
    names = [name for name in rows[0] if name.startswith(SCORE)]
    scores = {name.removeprefix(SCORE): [_real(row[name]) for row in rows] for name in names}
    return _samples(path, rows, [_label(path, at, row) for at, row in enumerate(rows)], scores)


def _table(path: Path) -> list[dict[str, str]]:
    """Read rows; names of columns but scores are small."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            check_header(str(path), (name.strip().lower() for name in rows.fieldnames or ()))
            found = []
            for row in rows:
                if None in row:
                    raise DataError(
                        f"{path}, line {rows.line_num}: more cells than the first line has names;"
                        ' a text that holds a comma stands in "quotes"'
                    )
                found.append({_small(name): value or "" for name, value in row.items()})
            return found
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no .csv of UTF-8 text ({error})") from error


def _small(name: str) -> str:
    return name if name.startswith(SCORE) else name.strip().lower()


def _evaluation(folder: Path) -> Samples:
    file = folder / "tables" / "scores.csv"
    if not file.is_file():
        raise DataError(
            f"{folder}: no tables/scores.csv, so no evaluation; `ghosttrack list` names those"
        )
    table = read_scores(folder)
    texts = table.filter(items=TEXTS).astype(str)
    rows = [dict(zip(texts.columns, row, strict=True)) for row in texts.to_numpy().tolist()]
    scores = {name: table[name].tolist() for name in scored(table)}
    return _samples(file, rows, table["wrong"].tolist(), scores)


def _factual(path: Path) -> Samples:
    """Read the samples of a file of results: what is no text, id or label is a score."""
    try:
        rows = next(_lists(json.loads(path.read_text(encoding="utf-8"))), None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
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
