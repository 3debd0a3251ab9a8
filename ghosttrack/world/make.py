"""From a world's spec to a folder with a model that has learned it."""

import logging
import time
from pathlib import Path
from typing import Final

import torch
from transformers.utils.logging import disable_progress_bar

from ghosttrack.models.lm import LM
from ghosttrack.world.facts import GAP, TIERS, WorldSpec, build
from ghosttrack.world.measure import CONFIDENT, Accuracy, accuracy, ask
from ghosttrack.world.questions import question_set
from ghosttrack.world.recipe import Progress, Recipe, train
from ghosttrack.world.store import save_model, save_world
from ghosttrack.world.text import make_tokenizer

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
    _log_accuracy(known)


class _Reporter:
    """Says now and then how far training is."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.step % REPORT_EVERY and progress.step != progress.n_steps:
            return
        spent_s = time.monotonic() - self.started_s
        left_s = spent_s / progress.step * (progress.n_steps - progress.step)
        log.info(
            "step %d/%d  loss %.3f  %.0f s, %.0f s left",
            progress.step,
            progress.n_steps,
            progress.loss,
            spent_s,
            left_s,
        )


def _log_accuracy(known: Accuracy) -> None:
    for group in (*TIERS, GAP):
        log.info("accuracy %-7s%.3f", group, getattr(known, group))
    log.info("right answers that are lucky: %.1f %%", 100 * known.lucky_frac)
    log.info("wrong with p > %.1f: %d of %d", CONFIDENT, known.n_confident_errors, known.n)
