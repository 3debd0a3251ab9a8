"""How well a world's model has learned it."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ghosttrack.models.generate import GenerateSettings, generate
from ghosttrack.models.lm import LM
from ghosttrack.questions.sets import Question, QuestionSet
from ghosttrack.world.facts import GAP, TIERS, Recipe, WorldSpec, build
from ghosttrack.world.make import make, save_world
from ghosttrack.world.questions import question_set

CONFIDENT: Final = 0.8

log = logging.getLogger(__name__)


def make_measured(folder: Path, spec: WorldSpec, recipe: Recipe) -> None:
    """Train a model of a world, save it in a folder that there is, and measure what was saved."""
    model, tokenizer = make(folder, spec, recipe)
    lm = LM(model, tokenizer, prepend_bos=True, identity={})
    known = accuracy(ask(lm, question_set(spec, len(build(spec).facts), spec.seed)))
    save_world(folder, spec, recipe, tokenizer, known._asdict())
    for group in (*TIERS, GAP):
        log.info("accuracy %-7s%.3f", group, getattr(known, group))
    log.info("right answers that are lucky: %.1f %%", 100 * known.lucky_frac)
    log.info("wrong with p > %.1f: %d of %d", CONFIDENT, known.n_confident_errors, known.n)


class Verdict(NamedTuple):
    """A question and what the model said to it."""

    question: Question
    text: str
    is_right: bool
    prob: float
    """Probability of the whole answer."""


class Accuracy(NamedTuple):
    """Right answers by what the model could know."""

    head: float
    """Stated facts of the most frequent entities; the next two likewise."""
    mid: float
    rare: float
    unseen: float
    gap: float
    """Facts never stated of entities that the text names."""
    lucky_frac: float
    """Share of the right answers whose fact was never stated."""
    n_confident_errors: int
    """Wrong answers with a probability above 0.8."""
    n: int


def ask(lm: LM, questions: QuestionSet) -> list[Verdict]:
    """Ask every question once and compare the answer with the truth, word for word."""
    settings = GenerateSettings(questions.max_new_tokens, questions.stop)
    prompts = [lm.encode(question.prompt) for question in questions.questions]
    said = generate(lm, prompts, settings)
    return [
        Verdict(
            question,
            answer.text,
            is_right=answer.text.lower() in (right.lower() for right in question.answers),
            prob=math.exp(sum(answer.logprobs)),
        )
        for question, answer in zip(questions.questions, said, strict=True)
    ]


def accuracy(verdicts: Sequence[Verdict]) -> Accuracy:
    """Count right answers; a group without questions has accuracy 0."""
    right = {group: [] for group in (*TIERS, GAP)}
    for verdict in verdicts:
        right[verdict.question.tier].append(verdict.is_right)
    n_right = sum(verdict.is_right for verdict in verdicts)
    n_lucky = sum(v.is_right and v.question.exposure == 0 for v in verdicts)
    return Accuracy(
        **{group: sum(of_group) / max(1, len(of_group)) for group, of_group in right.items()},
        lucky_frac=n_lucky / max(1, n_right),
        n_confident_errors=sum(not v.is_right and v.prob > CONFIDENT for v in verdicts),
        n=len(verdicts),
    )
