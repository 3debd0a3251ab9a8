"""Answers that others wrote, a right and a wrong one to each question, read as own ones are.

The model says nothing here. What is written to be wrong differs from what is written to be right in
length and words: a detector has to be better than `surface_table`.
"""

import re
from collections.abc import Sequence

import numpy as np

from ghosttrack.detector.answers.answers import Answers, Response, assemble
from ghosttrack.detector.table import Table
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score
from ghosttrack.questions.categories import Label
from ghosttrack.questions.labels import words
from ghosttrack.questions.sets import Question, QuestionSet

SURFACE = (
    *("characters", "words", "mean_word", "shared_words", "shared_share"),
    *("marks", "capitals", "digits", "denials"),
)
MARK, CAPITAL, DIGIT = re.compile(r"[^\w\s]"), re.compile(r"[A-Z]"), re.compile(r"\d")
DENIALS = frozenset({"no", "not", "never", "nothing", "nobody", "none"})


def written_answers(lm: LM, questions: QuestionSet, seed: int) -> Answers:
    """Score the best right and the likeliest wrong answer of every question, teacher-forced.

    The seed is that of the order of the two, which must tell nothing.
    """
    asked = [question for question in questions.questions for _ in range(2)]
    first = np.random.default_rng(seed).integers(2, size=len(questions.questions))
    is_wrong = np.column_stack([first, 1 - first]).ravel() == 1
    pairs = zip(asked, is_wrong, strict=True)
    texts = [question.wrong[0] if wrong else question.answers[0] for question, wrong in pairs]
    prompts = [lm.encode(question.prompt) for question in asked]
    spoken = [_continue(lm, question, text) for question, text in zip(asked, texts, strict=True)]
    categories = np.where(is_wrong, "written_wrong", "written_right").tolist()
    labels = [Label.certain(one) for one in categories]
    given = map(Response, texts, map(tuple, spoken), score(lm, prompts, spoken), labels)
    return assemble(asked, list(given))


def reading_points(lm: LM, answers: Answers) -> tuple[list[list[int]], list[tuple[int, ...]]]:
    """List the tokens that are read before each answer, and the answer's tokens from there on.

    Own answers are read at the last token of the question, before the model commits itself;
    written ones just before their last token, as the question alone is the same for right and
    wrong.
    """
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    if not answers.are_written:
        return prompts, list(answers.token_ids)
    pairs = zip(prompts, answers.token_ids, strict=True)
    return [[*prompt, *ids[:-1]] for prompt, ids in pairs], [ids[-1:] for ids in answers.token_ids]


def _continue(lm: LM, question: Question, text: str) -> Sequence[int]:
    """Spell an answer as what follows its prompt."""
    before = lm.encode(question.prompt)
    space = "" if question.prompt[-1:].isspace() else " "
    whole = lm.encode(question.prompt + space + text)
    if whole[: len(before)] == before and len(whole) > len(before):
        return whole[len(before) :]
    return lm.encode(space + text, prefix=False)  # the tokenizer joins what stands at the seam


def surface_table(answers: Answers) -> Table:
    """Count what shows without understanding: length, marks, words shared with the question."""
    pairs = zip(answers.texts, answers.prompts, strict=True)
    values = [_counts(text, frozenset(words(prompt))) for text, prompt in pairs]
    return Table(SURFACE, np.array(values, dtype=np.float64).reshape(-1, len(SURFACE)))


def _counts(text: str, asked: frozenset[str]) -> tuple[int | float, ...]:
    said = words(text)
    shared = sum(word in asked for word in said)
    n_words = max(len(said), 1)
    return (
        *(len(text), len(said), sum(map(len, said)) / n_words, shared, shared / n_words),
        *(len(pattern.findall(text)) for pattern in (MARK, CAPITAL, DIGIT)),
        sum(word in DENIALS for word in said),
    )
