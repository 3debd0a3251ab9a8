"""Residual streams of the answers at few places, from one pass over each; they need no bank."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.attention import attention_tables
from ghosttrack.detector.answers.teacher_forced import reading_points
from ghosttrack.detector.learners.kernel_ridge import Gram
from ghosttrack.detector.learners.ridge import inner_products
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.lens import lens_tables
from ghosttrack.evaluation.spec import ATTENTION_TABLES, LENS_TABLES, MASKED
from ghosttrack.models.readings import STATES, masked_last, read_states
from ghosttrack.pipelines.instruments import save_arrays

if TYPE_CHECKING:
    from ghosttrack.pipelines.detect import Detection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerStates:
    """What one pass over every prompt and its answer left."""

    states: Mapping[str, Float[np.ndarray, "layer answer d_model"]]
    """Residual streams of the setup's layers, by the names of `readings.STATES`, and `MASKED`."""
    tables: Mapping[str, Table]
    """`LENS_TABLES` where they are wanted and nothing tracks the answers, which leaves them too;
    `ATTENTION_TABLES`."""

    @cached_property
    def grams(self) -> dict[str, Gram]:
        """Inner products of the residual streams, by place: once for all that is fitted."""
        return {place: inner_products(held) for place, held in self.states.items()}


def write_states(stages: "Detection", folder: Path) -> None:
    """Read every prompt with its answer, once."""
    setup, also, answers = stages.setup, stages.also, stages.answers.get()
    lm = setup.lm
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    size = 4 * len(STATES) * len(setup.layers) * len(answers) * lm.d_model / 1e9
    log.info("reading %s answers, %.2f GB of residual streams", f"{len(answers):,}", size)
    before, _ = reading_points(lm, answers)
    lens_at = [len(text) - 1 for text in before] if also.lens else None
    n_tokens = sum(map(len, (*prompts, *answers.token_ids)))
    asked, tables = (prompts, answers.token_ids), dict[str, Table]()
    with Meter("answers read", n_tokens * (1 + also.attention + also.masked)) as meter:
        found = read_states(lm, *asked, setup.layers, lens_at, meter.advance)
        streams = dict(found.streams)
        if also.masked:
            streams[MASKED] = masked_last(lm, *asked, setup.layers, meter.advance)
        if also.attention:
            tables = attention_tables(lm, answers, meter.advance)
    save_arrays(folder / "states.safetensors", streams)
    if found.lens is not None:
        tables |= lens_tables(found.lens, lm.d_vocab)
    for name, table in tables.items():
        table.save(folder / f"{name}.parquet")


def read_kept(folder: Path) -> AnswerStates:
    """Read what `write_states` left."""
    kept = [
        name for name in (*LENS_TABLES, *ATTENTION_TABLES) if (folder / f"{name}.parquet").is_file()
    ]
    tables = {name: Table.load(folder / f"{name}.parquet") for name in kept}
    return AnswerStates(load_file(folder / "states.safetensors"), tables)
