"""From a world's spec to a folder with a model that has learned it, and how well it has."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from ghosttrack.files import read_json, write_json
from ghosttrack.models.generate import GenerateSettings, generate
from ghosttrack.models.lm import LM
from ghosttrack.questions.sets import Question, QuestionSet
from ghosttrack.world.facts import GAP, TIERS, WORLD_FILE, Recipe, WorldSpec, build
from ghosttrack.world.questions import question_set
from ghosttrack.world.recipe import Progress, train
from ghosttrack.world.text import make_tokenizer, vocabulary_hash

CONFIDENT: Final = 0.8
REPORT_EVERY: Final = 100
"""Steps between two lines of progress."""

log = logging.getLogger(__name__)


def make(folder: Path, spec: WorldSpec, recipe: Recipe) -> None:
    """Train a model of a world, save it in a folder that there is, and measure what was saved."""
    disable_progress_bar()
    world = build(spec)
    log.info("%d entities, %d facts", len(world.entities), len(world.facts))
    with torch.random.fork_rng(devices=[]):
        model = train(spec, recipe, _Reporter())
    tokenizer = make_tokenizer(spec)
    save_world(folder, spec, recipe, tokenizer, {})
    save_model(folder, model, tokenizer)
    lm = LM(model.float(), tokenizer, prepend_bos=True, identity={})
    known = accuracy(ask(lm, question_set(spec, len(world.facts), spec.seed)))
    save_world(folder, spec, recipe, tokenizer, known._asdict())
    for group in (*TIERS, GAP):
        log.info("accuracy %-7s%.3f", group, getattr(known, group))
    log.info("right answers that are lucky: %.1f %%", 100 * known.lucky_frac)
    log.info("wrong with p > %.1f: %d of %d", CONFIDENT, known.n_confident_errors, known.n)


class _Reporter:
    """Says now and then how far training is."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.step % REPORT_EVERY and progress.step != progress.n_steps:
            return
        spent_s = time.monotonic() - self.started_s
        left_s = spent_s / progress.step * (progress.n_steps - progress.step)
        log.info("step %d/%d  loss %.3f  %.0f s, %.0f s left", *progress, spent_s, left_s)


def save_model(folder: Path, model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write model and tokenizer as `AutoModelForCausalLM` and `AutoTokenizer` read them.

    The weights rest in half precision, to which the model is rounded here: that changes next to no
    answer and halves the package. The configuration asks readers to compute in single precision.
    """
    model.half().save_pretrained(folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "dtype": "float32"})
    tokenizer.save_pretrained(folder)


def save_world(
    folder: Path,
    spec: WorldSpec,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    measured: Mapping[str, float],
) -> None:
    """Write `world.json`: what the model was made from, and how well it learned it.

    With nothing measured it marks a folder whose other files are still being written.
    """
    write_json(
        folder / WORLD_FILE,
        {
            "spec": spec.to_json(),
            "recipe": recipe.to_json(),
            "tokenizer": vocabulary_hash(tokenizer),
            "measured": dict(measured),
        },
    )


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
