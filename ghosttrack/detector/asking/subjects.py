"""Find what a question is about, where nobody says: what the answer hangs on most."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.family import (
    SUBJECTS,
    Copy,
    CopyContext,
    Echo,
    Finding,
    Rescoring,
)
from ghosttrack.detector.asking.interventions import CopyReader
from ghosttrack.models.changes import MASK
from ghosttrack.models.lm import LM
from ghosttrack.questions.sets import Question, QuestionSet
from ghosttrack.questions.spans import (
    N_SPANS,
    about,
    bare_text,
    candidate_spans,
    rarity_of,
    span_names,
)

log = logging.getLogger(__name__)


class FoundSubjects(NamedTuple):
    """Questions with what they were found to be about in the place of what they say."""

    questions: QuestionSet
    forwards: float
    """Passes per answer that this took."""


def with_span_names(questions: QuestionSet, lm: LM) -> QuestionSet:
    """Let the spans of a set's questions stand in for one another, by the slots that they fill."""
    rarity = rarity_of(map(bare_text, questions.questions), lm.tokenizer)
    return replace(questions, names=span_names(questions.questions, rarity))


def find_subjects(lm: LM, questions: QuestionSet, answers: Answers) -> FoundSubjects:
    """Mask the parts of every question that was answered, one at a time, and score the answer.

    `questions` hold that of each answer, by id; their `names` are those of slots.
    """
    by_id = {question.id: question for question in questions.questions}
    asked = [by_id[question_id] for question_id in answers.question_ids]
    rarity = rarity_of(map(bare_text, asked), lm.tokenizer)
    spans = {one.id: candidate_spans(bare_text(one), rarity) for one in asked}

    def masked(question: Question, _: int, __: CopyContext) -> tuple[Copy, ...]:
        bare = Copy(question.prompt, "")
        marked = [bare._replace(change=MASK, marked=one.text) for one in spans[question.id]]
        return (bare, *marked) if marked else ()

    reader = CopyReader(lm, {}, 0)
    family = Rescoring(SUBJECTS, 0, N_SPANS, "", (), masked, _costliest)
    copies = reader.ask(family, N_SPANS, asked, answers.token_ids)
    found = []
    for question, finding in zip(asked, copies.find(reader.run()), strict=True):
        held = spans[question.id]
        bare = replace(question, subject="", kind="", short="")
        found.append(about(bare, held[finding.rival], questions.names) if held else bare)
    _say_agreement(asked, found)
    forwards = copies.n_copies / max(len(answers), 1)
    return FoundSubjects(replace(questions, questions=tuple(found)), forwards)


def _costliest(echo: Echo) -> Finding:
    """Name the span, by its number, without which the answer is least likely."""
    return Finding((), rival=int(echo.logprobs[1:].argmin()))


def _say_agreement(given: Iterable[Question], found: Iterable[Question]) -> None:
    """Say how often what is found is what the set says, or shares a word with it."""
    names = [(one.subject, other.subject) for one, other in zip(given, found, strict=True)]
    known = [(one.casefold(), other.casefold()) for one, other in names if one]
    log.info("found what %d of %d questions are about", sum(bool(b) for _, b in names), len(names))
    if known:
        same = sum(a == b for a, b in known)
        alike = sum(not set(a.split()).isdisjoint(b.split()) for a, b in known)
        log.info(
            "of %d subjects that the set gives, %d are found (%.1f %%), %d share a word (%.1f %%)",
            *(len(known), same, 100 * same / len(known), alike, 100 * alike / len(known)),
        )
