"""The model answers the questions, and is asked again with one thing changed."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.artifacts import Artifact, read_json, write_json
from ghosttrack.config import DetectProgram
from ghosttrack.data.questions import QuestionSet
from ghosttrack.detector.answers import Answers, answer
from ghosttrack.detector.families import families
from ghosttrack.detector.interventions import Interventions, intervene
from ghosttrack.detector.table import Table
from ghosttrack.pipelines.study import Study

log = logging.getLogger(__name__)

TABLE = "interventions.parquet"


class Answered(NamedTuple):
    """The answers, and the artefact that holds them."""

    artifact: Artifact
    answers: Answers


class Intervened(NamedTuple):
    """What the interventions found, and the artefact that holds it."""

    artifact: Artifact
    interventions: Interventions


def answer_questions(study: Study, questions: QuestionSet) -> Answered:
    """Let the model answer greedily, and judge what it said."""
    identity = {
        "model": study.model_identity,
        "questions": dict(questions.identity),
        "stop": list(questions.stop),
        "max_new_tokens": questions.max_new_tokens,
    }

    def write(folder: Path) -> None:
        answer(study.lm, questions).save(folder / "answers.parquet")

    with study.run.stage("answer"):
        artifact = study.build("answers", questions.name, identity, write)
        answers = Answers.load(artifact.path / "answers.parquet")
    return Answered(artifact, answers)


def ask_again(
    study: Study, config: DetectProgram, questions: QuestionSet, answered: Answered
) -> Intervened:
    """Score the answers again under every family of interventions."""
    detector = config.detector
    identity = {
        "answers": answered.artifact.id,
        "paraphrases": detector.paraphrases,
        "owner_names": detector.owner_names,
        "seed": config.seed,
    }

    def write(folder: Path) -> None:
        asked = families(detector)
        _save(folder, intervene(study.lm, questions, answered.answers, asked, config.seed))

    with study.run.stage("ask again"):
        artifact = study.build("answers", f"{questions.name}-again", identity, write)
        interventions = _load(artifact.path)
    for family in interventions.left_out:
        log.info("left out: %s, no question has the subject or the wordings it needs", family)
    return Intervened(artifact, interventions)


def _save(folder: Path, found: Interventions) -> None:
    if found.table.names:  # none where no question has what any family needs
        found.table.save(folder / TABLE)
    pq.write_table(pa.table({"rival": pa.array(found.rivals)}), folder / "rivals.parquet")
    facts = {
        "forwards": found.forwards,
        "seconds": found.seconds,
        "left_out": list(found.left_out),
    }
    write_json(folder / "interventions.json", facts)


def _load(folder: Path) -> Interventions:
    facts = read_json(folder / "interventions.json")
    rivals = pq.read_table(folder / "rivals.parquet")["rival"].to_pylist()
    path = folder / TABLE
    return Interventions(
        table=Table.load(path) if path.is_file() else Table((), np.empty((len(rivals), 0))),
        forwards=facts["forwards"],
        seconds=facts["seconds"],
        rivals=tuple(rivals),
        left_out=tuple(facts["left_out"]),
    )
