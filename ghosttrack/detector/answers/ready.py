"""Answers that a model gave elsewhere, judged and set in the form that answers have here."""

from collections.abc import Sequence

import numpy as np

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.output_scores import logprob_scores
from ghosttrack.questions.labels import is_match
from ghosttrack.questions.ready_answers import ReadyAnswer


def given_answers(rows: Sequence[ReadyAnswer]) -> Answers:
    """Judge given answers: by their label where they have one, else by their references.

    The probability of an answer without token log-probabilities is NaN.
    """
    labels = np.array([_label(row) for row in rows], dtype=np.int64)
    empty, none = ("",) * len(rows), ((),) * len(rows)
    output = logprob_scores([row.logprobs for row in rows])
    return Answers(
        question_ids=tuple(map(str, range(len(rows)))),
        groups=tuple(row.group for row in rows),
        prompts=tuple(row.question for row in rows),
        subjects=empty,
        relations=empty,
        tiers=empty,
        exposures=np.full(len(rows), -1),
        texts=tuple(row.response for row in rows),
        references=tuple(row.references for row in rows),
        labels=labels,
        categories=tuple("wrong" if label else "correct" for label in labels),
        prob=np.exp(output.column("answer_logprob")),
        token_ids=none,
        logprobs=none,
        entropies=none,
        margins=none,
        output=output,
    )


def _label(row: ReadyAnswer) -> int:
    if row.label is not None:
        return row.label
    return 0 if is_match(row.response, row.references) else 1
