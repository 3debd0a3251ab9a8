"""Answers that some model gave elsewhere: scores of given options, or texts and their samples."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.data.documents import json_rows, lines
from ghosttrack.errors import DataError
from ghosttrack.questions.sets import normalised

RESULTS = "_results.jsonl"
METADATA = "metadata_results.json"
LABELS = {"correct": 0, "error": 1}


class OptionScores(NamedTuple):
    """How strongly a model gives each answer to each subject of one relation."""

    relation: str
    ids: tuple[str, ...]
    """Of the facts; unique over all relations."""
    subjects: tuple[str, ...]
    statements: tuple[str, ...]
    """What the options were put into, as far as the folder tells."""
    options: tuple[str, ...]
    scores: Float[np.ndarray, "subject option"]
    """Log-probability of the statement with the option in it, up to a constant per subject."""
    right: Int[np.ndarray, " subject"]
    """Index of the right option."""


class ReadyAnswer(NamedTuple):
    """One answer as it was given."""

    question: str
    response: str
    references: tuple[str, ...]
    """Right answer and its aliases; none where only the label is known."""
    label: int | None
    """1 = hallucinated; None: to be found by comparing with the references."""
    samples: tuple[str, ...]
    """Other answers to the same question, drawn at some temperature."""
    logprobs: tuple[float, ...]
    """Of the response's tokens, nats; none where they were not kept."""
    group: str


def read_option_scores(folder: Path) -> tuple[OptionScores, ...]:
    """Read the folder of results that LM-Pub-Quiz writes: `<relation>_results.jsonl`, a fact a row.

    Of a row `sub_id, sub_label, answer_idx, pll_scores` are read. `metadata_results.json`, where it
    is there, tells the options' names and the statement's wording.

    Raises:
        DataError: There is no such file, or a row is malformed; says which.
    """
    files = sorted(folder.glob(f"*{RESULTS}"))
    if not files:
        raise DataError(f"{folder}: no <relation>{RESULTS} lies there; give LM-Pub-Quiz's folder")
    told = _metadata(folder / METADATA)
    return tuple(_relation(file, told.get(file.name.removesuffix(RESULTS), {})) for file in files)


def read_answered(path: Path) -> tuple[ReadyAnswer, ...]:
    """Read JSON Lines, an answer a row, with `question` and `response`.

    A row further needs `label` (`correct` or `error`) or `answers` (texts), and may have `samples`
    (texts), `token_logprobs` (numbers) and `group`, else the question's words are its group.

    Raises:
        DataError: The file holds no row, or a row is malformed; says which.
    """
    rows = tuple(_given(row, where) for where, row in json_rows(path))
    if not rows:
        raise DataError(f"{path}: holds no answers; write one JSON object a line")
    return rows


def _metadata(path: Path) -> dict[str, dict[str, object]]:
    if not path.is_file():
        return {}
    try:
        told = json.loads("\n".join(line for _, line in lines(path)))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(told, dict) or not all(isinstance(one, dict) for one in told.values()):
        raise DataError(f"{path}: must hold an object per relation")
    return told


def _relation(path: Path, told: Mapping[str, object]) -> OptionScores:
    relation = path.name.removesuffix(RESULTS)
    facts = [_fact(row, where) for where, row in json_rows(path)]
    if not facts:
        raise DataError(f"{path}: holds no facts")
    n_options = len(facts[0].scores)
    for fact in facts:
        if len(fact.scores) != n_options:
            raise DataError(
                f"{fact.where}: {len(fact.scores)} pll_scores where the first row of the relation"
                f" has {n_options}"
            )
    options, template = _wording(path.with_name(METADATA), relation, told)
    if len(options or facts[0].scores) != n_options:
        raise DataError(
            f"{path}: {n_options} pll_scores, but {METADATA} names {len(options)} options"
        )
    return OptionScores(
        relation=relation,
        ids=tuple(f"{relation}/{fact.subject_id}" for fact in facts),
        subjects=tuple(fact.subject for fact in facts),
        statements=tuple(template.replace("[X]", fact.subject) for fact in facts),
        options=options or tuple(f"option {number}" for number in range(n_options)),
        scores=np.array([fact.scores for fact in facts]),
        right=np.array([fact.right for fact in facts], dtype=np.int64),
    )


def _wording(path: Path, relation: str, told: Mapping[str, object]) -> tuple[tuple[str, ...], str]:
    """Find the options' names, none where the folder does not tell them, and the statement."""
    if not told:
        return (), f"{relation} of [X]: [Y]"
    where = f"{path}: {relation}"
    options = _texts(told, "answer_space_labels", where)
    templates, index = _texts(told, "templates", where), told.get("template_index", 0)
    if type(index) is not int or not 0 <= index < len(templates):
        raise DataError(f"{where}: template_index {index!r} names none of {len(templates)}")
    return options, templates[index]


class _Fact(NamedTuple):
    where: str
    subject_id: str
    subject: str
    right: int
    scores: list[float]


def _fact(row: Mapping[str, object], where: str) -> _Fact:
    scores = _numbers(row, "pll_scores", where)
    if len(scores) < 2:
        raise DataError(f"{where}: pll_scores must hold at least 2 scores, got {len(scores)}")
    right = row.get("answer_idx")
    if type(right) is not int or not 0 <= right < len(scores):
        raise DataError(f"{where}: answer_idx must be in 0..{len(scores) - 1}, got {right!r}")
    subject_id, subject = _text(row, "sub_id", where), _text(row, "sub_label", where)
    return _Fact(where, subject_id, subject, right, scores)


def _given(row: Mapping[str, object], where: str) -> ReadyAnswer:
    question = _text(row, "question", where)
    label = row.get("label")
    if label is not None and label not in LABELS:
        raise DataError(f"{where}: label must be correct or error, got {label!r}")
    references = _texts(row, "answers", where)
    if label is None and not references:
        raise DataError(f"{where}: neither `label` nor `answers` tells whether it is right")
    logprobs = _numbers(row, "token_logprobs", where)
    if any(value > 0 for value in logprobs):
        raise DataError(f"{where}: token_logprobs must be at most 0, got {max(logprobs)}")
    return ReadyAnswer(
        question=question,
        response=_text(row, "response", where, empty=True),
        references=references,
        label=None if label is None else LABELS[str(label)],
        samples=_texts(row, "samples", where),
        logprobs=tuple(logprobs),
        group=_text(row, "group", where) if row.get("group") is not None else normalised(question),
    )


def _text(row: Mapping[str, object], column: str, where: str, *, empty: bool = False) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise DataError(f"{where}: {column} must be a text, got {value!r}")
    return value.strip()


def _texts(row: Mapping[str, object], column: str, where: str) -> tuple[str, ...]:
    return tuple(
        _text({column: item}, column, where, empty=True) for item in _list(row, column, where)
    )


def _numbers(row: Mapping[str, object], column: str, where: str) -> list[float]:
    values = []
    for item in _list(row, column, where):
        if isinstance(item, bool) or not isinstance(item, int | float) or not isfinite(item):
            raise DataError(f"{where}: {column} must hold numbers, got {item!r}")
        values.append(float(item))
    return values


def _list(row: Mapping[str, object], column: str, where: str) -> Sequence[object]:
    value = row.get(column)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(f"{where}: {column} must be a list, got {value!r}")
    return value
