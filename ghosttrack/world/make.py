"""From a world's spec to a folder with a model that has learned it."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from ghosttrack.files import read_json, write_json
from ghosttrack.world.facts import WORLD_FILE, Recipe, WorldSpec, build
from ghosttrack.world.recipe import Progress, train
from ghosttrack.world.text import make_tokenizer, vocabulary_hash

REPORT_EVERY: Final = 100
"""Steps between two lines of progress."""

log = logging.getLogger(__name__)


def make(
    folder: Path, spec: WorldSpec, recipe: Recipe
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """Train a model of a world and save it in a folder that there is; return it as saved."""
    disable_progress_bar()
    world = build(spec)
    log.info("%d entities, %d facts", len(world.entities), len(world.facts))
    with torch.random.fork_rng(devices=[]):
        model = train(spec, recipe, _Reporter())
    tokenizer = make_tokenizer(spec)
    save_world(folder, spec, recipe, tokenizer, {})
    save_model(folder, model, tokenizer)
    return model.float(), tokenizer


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
