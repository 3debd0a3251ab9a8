"""The model answers the questions, and is asked again with one thing changed."""

import logging
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.artifacts import Artifact
from ghosttrack.config import DetectProgram
from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.pairs import written_answers
from ghosttrack.detector.asking.interventions import Interventions, intervene
from ghosttrack.detector.asking.roster import RESCORED, ROSTER, requested
from ghosttrack.detector.table import Table
from ghosttrack.files import read_json, write_json
from ghosttrack.pipelines.setup import Study
from ghosttrack.questions.sets import QuestionSet

log = logging.getLogger(__name__)


class Answered(NamedTuple):
    """The answers, and the artefact that holds them."""

    artifact: Artifact
    answers: Answers


class Intervened(NamedTuple):
    """What the interventions found, and the artefact that holds it."""

    artifact: Artifact
    interventions: Interventions


def answer_questions(study: Study, questions: QuestionSet) -> Answered:
    """Let the model answer greedily, and judge what it said; or let it read what others wrote."""

    def write(folder: Path) -> None:
        written = questions.written
        seed = study.config.seed
        answers = (
            written_answers(study.lm, questions, seed) if written else answer(study.lm, questions)
        )
        answers.save(folder / "answers.parquet")

    if questions.written:
        log.info("answers that others wrote are judged, not what the model says of its own")
    with study.run.stage("answer"):
        artifact = study.build("answers", questions.name, answers_identity(study, questions), write)
        answers = Answers.load(artifact.path / "answers.parquet")
    return Answered(artifact, answers)


def answers_identity(study: Study, questions: QuestionSet) -> dict[str, object]:
    """What determines the answers."""
    return {
        "model": study.model_identity,
        "questions": dict(questions.identity),
        "stop": list(questions.stop),
        "max_new_tokens": questions.max_new_tokens,
        **({"seed": study.config.seed} if questions.written else {}),
    }


def again_name(questions: QuestionSet) -> str:
    """Name what the model says when it is asked again."""
    return f"{questions.name}-again"


def again_identity(config: DetectProgram, answers_id: str) -> dict[str, object]:
    """What determines the interventions on answers of this id; ghosts are the tracker's."""
    settings = config.interventions
    copies = {one.name: n for one, n in requested(settings.copies).items() if one.name in RESCORED}
    return {
        "answers": answers_id,
        "copies": copies,
        "siblings_again": settings.siblings_again,
        "seed": config.seed,
    }


def ask_again(
    study: Study, config: DetectProgram, questions: QuestionSet, answered: Answered
) -> Intervened:
    """Score the answers again under every family of interventions."""
    identity = again_identity(config, answered.artifact.id)

    def write(folder: Path) -> None:
        settings = config.interventions
        found = intervene(
            *(study.lm, questions, answered.answers, requested(settings.copies), config.seed),
            siblings_again=settings.siblings_again,
        )
        _save(folder, found)

    with study.run.stage("ask again"):
        artifact = study.build("answers", again_name(questions), identity, write)
        interventions = _load(artifact.path)
    for family in ROSTER:
        if family.name in interventions.left_out:
            log.info("left out: %s, no question has %s", family.name, family.needs)
    return Intervened(artifact, interventions)


def _save(folder: Path, found: Interventions) -> None:
    for name, table in found.tables.items():
        table.save(folder / f"{name}.parquet")
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
    return Interventions(
        tables={name: Table.load(folder / f"{name}.parquet") for name in facts["forwards"]},
        forwards=facts["forwards"],
        seconds=facts["seconds"],
        rivals=tuple(rivals),
        left_out=tuple(facts["left_out"]),
    )
