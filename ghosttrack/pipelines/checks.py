"""The model is asked more about its answers: whether they are true, and for others."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.artifacts import Artifact
from ghosttrack.config import DetectProgram
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.sampling import sampling_table
from ghosttrack.detector.answers.self_checks import draw_samples, p_true_table, prior_table
from ghosttrack.detector.table import Table
from ghosttrack.files import read_json, write_json
from ghosttrack.models.lm import LM
from ghosttrack.pipelines.answers import Answered
from ghosttrack.pipelines.setup import Study
from ghosttrack.questions.sets import QuestionSet

log = logging.getLogger(__name__)

STAGE = "self-checks"


class Checked(NamedTuple):
    """What the checks say, and the artefact that holds it."""

    artifact: Artifact
    tables: Mapping[str, Table]
    """`prior`, `p_true` and `sampling`, those that were asked for."""
    forwards: Mapping[str, float]
    """Passes of each table, per answer."""


def check_answers(
    study: Study, config: DetectProgram, questions: QuestionSet, answered: Answered
) -> Checked:
    """Ask the model more about each of its answers."""
    identity = checks_identity(config, answered.artifact.id)

    def write(folder: Path) -> None:
        _write(folder, study.lm, config, questions, answered.answers)

    with study.run.stage(STAGE):
        artifact = study.build("answers", checks_name(questions), identity, write)
        forwards = read_json(artifact.path / "forwards.json")
        tables = {name: Table.load(artifact.path / f"{name}.parquet") for name in forwards}
    return Checked(artifact, tables, forwards)


def checks_name(questions: QuestionSet) -> str:
    """Name what the model says when it is asked more."""
    return f"{questions.name}-checks"


def checks_identity(config: DetectProgram, answers_id: str) -> dict[str, object]:
    """What determines the checks of answers of this id."""
    samples = config.asking.samples
    return {
        "answers": answers_id,
        "template": config.asking.template,
        "p_true": config.asking.p_true,
        "samples": samples,
        "seed": config.seed if samples else None,
    }


def _write(
    folder: Path, lm: LM, config: DetectProgram, questions: QuestionSet, answers: Answers
) -> None:
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
