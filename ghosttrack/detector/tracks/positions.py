"""Where the statistics of an answer's tracks are taken.

    prompt_last   before the answer's first token; of written answers, before their last
    subject_last  at the last token of the subject's name in the prompt
    answer_first  at the answer's first token
    answer_each   before each of the answer's tokens; the mean of what is found there
    answer_span   at each of the answer's tokens; the mean, and as columns of their own the greatest
    max_pool      every latent where it is strongest in prompt and answer, as if it stood at
                  prompt_last; what the answer rests on without the subject is not defined

Nothing that follows a point is known there. Tracks argue for the token that comes next, at the
subject for the answer's first; after the answer's last token that is the model's own choice.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.teacher_forced import reading_points
from ghosttrack.detector.config import Position
from ghosttrack.detector.table import StatisticSpec, Table
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS
from ghosttrack.errors import DataError
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import find_subject

PEAK = "peak_"
PEAK_STATISTICS: tuple[StatisticSpec, ...] = tuple(
    spec._replace(name=PEAK + spec.name, definition=f"greatest over the tokens: {spec.definition}")
    for spec in TRACK_STATISTICS
)
"""Columns that `answer_span` adds to the table `tracks`."""


class Points(NamedTuple):
    """Texts that are read at their last token, those of one answer after those of the one before.

    An answer may have none.
    """

    texts: list[list[int]]
    """Token ids, prefix included."""
    spoken: list[tuple[int, ...]]
    """What is said from there on; empty after an answer's last token."""
    subjects: list[str]
    answer: Int[np.ndarray, " point"]
    """Number of the answer that each is about."""
    n_answers: int

    def take(self, rows: Int[np.ndarray, " row"]) -> "Points":
        """Keep these points, in this order."""
        texts, spoken, subjects = ([held[row] for row in rows] for held in self[:3])
        return Points(texts, spoken, subjects, self.answer[rows], self.n_answers)

    @property
    def weights(self) -> csr_array:
        """Matrix `[answer point]` that takes the mean of each answer's points."""
        share = 1 / np.bincount(self.answer, minlength=self.n_answers)[self.answer]
        place = (self.answer.astype(np.int32), np.arange(len(share), dtype=np.int32))
        entries = (share.astype(np.float32), place)  # scikit-learn takes no wider indices
        return csr_array(entries, shape=(self.n_answers, len(share)))

    def mean(
        self, values: Float[np.ndarray, "point *column"]
    ) -> Float[np.ndarray, "answer *column"]:
        """Take the mean of each answer's points; NaN where it has none."""
        total = np.zeros((self.n_answers, *values.shape[1:]), values.dtype)
        np.add.at(total, self.answer, values)
        n = np.bincount(self.answer, minlength=self.n_answers).astype(values.dtype)
        n = n.reshape(-1, *[1] * (values.ndim - 1))
        return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(values.dtype)

    def table(self, table: Table, position: Position) -> Table:
        """Turn a table of points into one of answers."""
        means = Table(table.names, self.mean(table.values))
        if position is not Position.answer_span:
            return means
        greatest = np.full(means.values.shape, -np.inf)
        np.maximum.at(greatest, self.answer, table.values)
        greatest[np.isneginf(greatest)] = np.nan
        return means.concat(Table(tuple(PEAK + name for name in table.names), greatest))


def points(lm: LM, answers: Answers, position: Position) -> Points:
    """List where each answer is read.

    Raises:
        DataError: `subject_last`, and no prompt holds its subject.
    """
    found = find_points(lm, answers, position)
    if not found.texts:
        raise DataError(
            f"detector.position={position.name}: no prompt holds the subject of its question;"
            " give the questions a column `subject`, or set detector.position=prompt_last"
        )
    return found


def find_points(lm: LM, answers: Answers, position: Position) -> Points:
    """List where each answer is read; nowhere, if it is read at a subject that nobody finds."""
    if position in (Position.prompt_last, Position.max_pool):
        texts, spoken = reading_points(lm, answers)
        numbers = np.arange(len(answers))
        return Points(texts, spoken, list(answers.subjects), numbers, len(answers))
    texts, spoken, numbers = [], [], []
    asked = zip(answers.prompts, answers.token_ids, answers.subjects, strict=True)
    for number, (text, ids, subject) in enumerate(asked):
        prompt = lm.encode(text)
        for n_read, n_said in _ends(lm, prompt, len(ids), subject, position):
            texts.append([*prompt, *ids][:n_read])
            spoken.append(ids[n_said:])
            numbers.append(number)
    subjects = [answers.subjects[number] for number in numbers]
    return Points(texts, spoken, subjects, np.array(numbers, dtype=np.int64), len(answers))


def _ends(
    lm: LM, prompt: list[int], n_tokens: int, subject: str, position: Position
) -> list[tuple[int, int]]:
    """Count, per point, the tokens that are read and those of the answer that were said."""
    n = len(prompt)
    if position is Position.subject_last:
        named = np.flatnonzero(find_subject(lm, prompt, subject))
        return [(int(named[-1]) + 1, 0)] if len(named) else []
    if position is Position.answer_first:
        return [(n + 1, 1)]
    first = 0 if position is Position.answer_each else 1
    return [(n + said, said) for said in range(first, n_tokens + first)]
