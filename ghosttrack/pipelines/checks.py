"""The model is asked more about its answers: whether they are true, and for others."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.config import DetectProgram
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.sampling import sampling_table
from ghosttrack.detector.answers.self_checks import draw_samples, p_true_table, prior_table
from ghosttrack.detector.table import Table
from ghosttrack.files import read_json, write_json
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage
from ghosttrack.questions.sets import QuestionSet

log = logging.getLogger(__name__)

TITLE = "self-checks"
SCHEMA = 1
"""Version of the files that are written here."""


class SelfChecks(NamedTuple):
    """What the model says of its answers when it is asked more."""

    tables: Mapping[str, Table]
    """`prior`, `p_true` and `sampling`, those that were asked for."""
    forwards: Mapping[str, float]
    """Passes of each table, per answer."""


def checks_stage(
    setup: Setup[DetectProgram], questions: QuestionSet, answers: Stage[Answers]
) -> Stage[SelfChecks]:
    """The model is asked more about each of its answers."""
    config, samples = setup.config, setup.config.asking.samples
    settings = {
        "answers": answers.id,
        "template": config.asking.template,
        "p_true": config.asking.p_true,
        "samples": samples,
        "seed": config.seed if samples else None,
        "schema": SCHEMA,
    }
    write = partial(write_checks, setup, questions, answers)
    name = f"{questions.name}-checks"
    return Stage(setup.outputs, "answers", name, settings, write, read_checks, title=TITLE)


def read_checks(folder: Path) -> SelfChecks:
    """Read what `write_checks` left."""
    forwards = read_json(folder / "forwards.json")
    tables = {name: Table.load(folder / f"{name}.parquet") for name in forwards}
    return SelfChecks(tables, forwards)


def write_checks(
    setup: Setup[DetectProgram], questions: QuestionSet, answered: Stage[Answers], folder: Path
) -> None:
    """Ask whether each answer is true, how likely it is unasked, and for other answers."""
    config, lm, answers = setup.config, setup.lm, answered.get()
    template, asking = config.asking.template, config.asking.p_true
    n_samples = config.asking.samples
    forwards: dict[str, float] = {}

    def keep(name: str, table: Table, passes: float) -> None:
        table.save(folder / f"{name}.parquet")
        forwards[name] = passes

    if (prior := prior_table(lm, answers, template)) is not None:
        keep("prior", prior, 1.0)
    if asking is not None:
        keep("p_true", p_true_table(lm, answers, template, asking), 2.0)
    if n_samples:
        log.info("sampling %d more answers to each of %d questions", n_samples, len(answers))
        rows = draw_samples(lm, questions, answers, n_samples, config.seed)
        texts = pa.array([list(row.samples) for row in rows], pa.list_(pa.string()))
        pq.write_table(pa.table({"samples": texts}), folder / "samples.parquet")
        keep("sampling", sampling_table(rows), float(n_samples))
    write_json(folder / "forwards.json", forwards)
