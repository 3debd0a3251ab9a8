"""How an answer is written, whatever it says."""

import re

import numpy as np

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.table import Table
from ghosttrack.questions.labels import words

COLUMNS = (
    *("characters", "words", "mean_word", "shared_words", "shared_share"),
    *("marks", "capitals", "digits", "denials"),
)
MARK, CAPITAL, DIGIT = re.compile(r"[^\w\s]"), re.compile(r"[A-Z]"), re.compile(r"\d")
DENIALS = frozenset({"no", "not", "never", "nothing", "nobody", "none"})


def surface_table(answers: Answers) -> Table:
    """Count what shows without understanding: length, marks, words shared with the question."""
    pairs = zip(answers.texts, answers.prompts, strict=True)
    values = [_counts(text, frozenset(words(prompt))) for text, prompt in pairs]
    return Table(COLUMNS, np.array(values, dtype=np.float64).reshape(-1, len(COLUMNS)))


def _counts(text: str, asked: frozenset[str]) -> tuple[int | float, ...]:
    said = words(text)
    shared = sum(word in asked for word in said)
    n_words = max(len(said), 1)
    return (
        *(len(text), len(said), sum(map(len, said)) / n_words, shared, shared / n_words),
        *(len(pattern.findall(text)) for pattern in (MARK, CAPITAL, DIGIT)),
        sum(word in DENIALS for word in said),
    )
