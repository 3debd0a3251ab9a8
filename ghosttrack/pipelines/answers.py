"""The model answers the questions, is asked again with one thing changed, and more about them."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.entailment import entailment_table
from ghosttrack.detector.answers.sampling import sampling_table
from ghosttrack.detector.answers.self_checks import (
    CONFIDENCE_TOKENS,
    UNASKED,
    about,
    confidence_table,
    draw_samples,
    eigenscore_table,
    p_true_table,
)
from ghosttrack.detector.answers.teacher_forced import written_answers
from ghosttrack.detector.asking.family import SUBJECTS
from ghosttrack.detector.asking.interventions import Interventions, intervene, untrained_again
from ghosttrack.detector.asking.roster import ROSTER, requested
from ghosttrack.detector.asking.subjects import find_subjects, with_span_names
from ghosttrack.detector.config import SubjectSource
from ghosttrack.detector.table import Table
from ghosttrack.files import read_json, write_json
from ghosttrack.models.entailment import Entailment, entailment_folder
from ghosttrack.models.load import holds_twice
from ghosttrack.questions.config import QuestionKind

if TYPE_CHECKING:
    from ghosttrack.pipelines.detect import Detection

UNTRAINED_FILE = "untrained_again.parquet"

log = logging.getLogger(__name__)


def write_answers(stages: "Detection", folder: Path) -> None:
    """Let the model answer greedily, and judge what it said; or let it read what others wrote."""
    setup, questions = stages.setup, stages.questions
    if questions.written:
        log.info("answers that others wrote are judged, not what the model says of its own")
        answers = written_answers(setup.lm, questions, setup.config.seed)
    else:
        answers = answer(setup.lm, questions)
    answers.save(folder / "answers.parquet")


def read_answers(folder: Path) -> Answers:
    """Read the answers that are right or wrong: all that comes after them looks at no others."""
    return read_all_answers(folder).judged()


@lru_cache(maxsize=1)
def read_all_answers(folder: Path) -> Answers:
    """Read what `write_answers` left: echoes and questions without an answer are among them."""
    return Answers.load(folder / "answers.parquet")


def write_interventions(stages: "Detection", folder: Path) -> None:
    """Ask again with one thing changed at a time."""
    setup, questions, answers = stages.setup, stages.questions, stages.answers.get()
    settings, seed = setup.config.interventions, setup.config.seed
    passes: dict[str, float] = {}
    if settings.subjects is SubjectSource.found:
        questions = with_span_names(questions, setup.lm)
        questions, passes[SUBJECTS] = find_subjects(setup.lm, questions, answers)
    found = intervene(
        *(setup.lm, questions, answers, requested(settings.copies), seed),
        siblings_again=settings.siblings_again,
    )
    for family in ROSTER:
        if family.name in found.left_out:
            log.info("left out: %s, no question has %s", family.name, family.needs)
    for name, table in found.tables.items():
        table.save(folder / f"{name}.parquet")
    is_world = setup.config.questions.kind is QuestionKind.ghostworld
    if is_world and holds_twice(setup.lm):  # words of real questions may tell, to any model
        blank = untrained_again(setup.lm, questions, answers, requested(settings.copies), seed)
        if blank is not None:
            blank.save(folder / UNTRAINED_FILE)
    pq.write_table(pa.table({"rival": pa.array(found.rivals)}), folder / "rivals.parquet")
    facts = {
        "forwards": {**found.forwards, **passes},
        "seconds": found.seconds,
        "left_out": list(found.left_out),
    }
    write_json(folder / "interventions.json", facts)


def read_interventions(folder: Path) -> Interventions:
    """Read what `write_interventions` left."""
    facts = read_json(folder / "interventions.json")
    rivals = pq.read_table(folder / "rivals.parquet")["rival"].to_pylist()
    return Interventions(
        tables={
            name: Table.load(folder / f"{name}.parquet")
            for name in facts["forwards"]
            if name != SUBJECTS
        },
        forwards=facts["forwards"],
        seconds=facts["seconds"],
        rivals=tuple(rivals),
        left_out=tuple(facts["left_out"]),
        untrained=Table.load(blank) if (blank := folder / UNTRAINED_FILE).exists() else None,
    )


class SelfChecks(NamedTuple):
    """What the model says of its answers when it is asked more."""

    tables: Mapping[str, Table]
    """`prior`, `p_true`, `verbalised`, `sampling`, `entailment` and `eigenscore`, those that were
    asked for."""
    forwards: Mapping[str, float]
    """Passes of each table, per answer."""


def read_checks(folder: Path) -> SelfChecks:
    """Read what `write_checks` left."""
    forwards = read_json(folder / "forwards.json")
    tables = {name: Table.load(folder / f"{name}.parquet") for name in forwards}
    return SelfChecks(tables, forwards)


def write_checks(stages: "Detection", folder: Path) -> None:
    """Ask whether each answer is true, how likely it is unasked, and for other answers."""
    lm, answers, asked = stages.setup.lm, stages.answers.get(), stages.asked
    template = stages.questions.template
    tables: dict[str, tuple[Table, float]] = {}
    for name in asked.unasked:
        make, passes = UNASKED[name]
        if (table := make(lm, answers, template)) is not None:
            tables[name] = table, passes
    for name, asking, make, passes in (
        ("p_true", asked.p_true, p_true_table, 2.0),
        ("verbalised", asked.verbalised, confidence_table, 1.0),
    ):
        if asking is None:
            continue
        longest = max(map(len, about(lm, answers, template, asking)), default=0)
        if longest + CONFIDENCE_TOKENS > lm.n_ctx:
            log.warning("left out: %s, a text of %d tokens does not fit the model", name, longest)
        else:
            tables[name] = make(lm, answers, template, asking), passes
    if stages.setup.config.asking.samples:
        tables |= _sampled(stages, folder)
    for name, (table, _) in tables.items():
        table.save(folder / f"{name}.parquet")
    write_json(folder / "forwards.json", {name: passes for name, (_, passes) in tables.items()})


def _sampled(stages: "Detection", folder: Path) -> dict[str, tuple[Table, float]]:
    """Let the model answer again, and compare what it says; with the passes of each table."""
    setup, questions, answers = stages.setup, stages.questions, stages.answers.get()
    config, n_samples = setup.config, setup.config.asking.samples
    log.info("sampling %d more answers to each of %d questions", n_samples, len(answers))
    rows, texts = draw_samples(setup.lm, questions, answers, n_samples, config.seed)
    samples = pa.array([list(row.samples) for row in rows], pa.list_(pa.string()))
    pq.write_table(pa.table({"samples": samples}), folder / "samples.parquet")
    tables = {"sampling": (sampling_table(rows), float(n_samples))}
    if stages.asked.eigenscore:
        tables["eigenscore"] = eigenscore_table(setup.lm, texts, n_samples), 2.0 * n_samples
    if config.asking.entailment is not None:
        model = Entailment(entailment_folder(config.asking.entailment), setup.lm.device)
        tables["entailment"] = entailment_table(model, rows, questions.template), float(n_samples)
    return tables
