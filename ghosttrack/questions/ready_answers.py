"""Answers that some model gave elsewhere: texts with what is known of them."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ghosttrack.data.documents import json_rows
from ghosttrack.errors import DataError
from ghosttrack.questions.columns import Row, listed, numbers, text, texts
from ghosttrack.questions.sets import normalised

LABELS = {"correct": 0, "error": 1}
ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "question": ("prompt", "prompts", "input", "query", "doc"),
    "response": ("responses", "filtered_resps", "resps", "generation", "completion", "output"),
    "answers": ("target", "targets", "reference", "ground_truth"),
    "samples": ("sampled_responses",),
    "token_logprobs": ("logprobs", "logprob"),
}
"""What other tools (uqlm, lm-evaluation-harness) call the columns that are read here."""

log = logging.getLogger(__name__)


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
    where, first = next(json_rows(path))
    if unread := _renamed(first):
        log.warning("%s: not read under these names; rename %s", where, unread)
    return rows


def _given(row: Row, where: str) -> ReadyAnswer:
    for column in ("question", "response"):
        if column not in row:
            raise DataError(f"{where}: no `{column}`; {_found(row)}")
    question = text(row, "question", where)
    label = _label(row, where)
    references = texts(row, "answers", where)
    if label is None and not references:
        raise DataError(
            f"{where}: neither `label` nor `answers` tells whether it is right; {_found(row)}"
        )
    logprobs = numbers(row, "token_logprobs", where)
    if any(value > 0 for value in logprobs):
        raise DataError(f"{where}: token_logprobs must be at most 0, got {max(logprobs)}")
    return ReadyAnswer(
        question=question,
        response=text(row, "response", where, empty=True),
        references=references,
        label=label,
        samples=texts(row, "samples", where),
        logprobs=tuple(logprobs),
        group=text(row, "group", where) if row.get("group") is not None else normalised(question),
    )


def _label(row: Row, where: str) -> int | None:
    label = row.get("label")
    if label is None or (isinstance(label, str) and label in LABELS):
        return None if label is None else LABELS[label]
    why = "; which of the two a number means, it does not say" if label in (0, 1, "0", "1") else ""
    raise DataError(f"{where}: label must be correct or error, got {label!r}{why}")


def _found(row: Row) -> str:
    known = _renamed(row)
    return f"found {listed(row)}" + (f"; rename {known}" if known else "")


def _renamed(row: Row) -> str:
    """Say which of a row's columns another tool names otherwise than they are read here."""
    return ", ".join(
        f"{name} to {column}"
        for column, names in ELSEWHERE.items()
        for name in names
        if name in row and column not in row
    )
