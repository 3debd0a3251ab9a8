"""The model answers the questions, is asked again with one thing changed, and more about them."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.config import DetectProgram
from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.entailment import entailment_table
from ghosttrack.detector.answers.sampling import sampling_table
from ghosttrack.detector.answers.self_checks import (
    CONFIDENCE,
    CONFIDENCE_TOKENS,
    P_TRUE,
    about,
    confidence_table,
    draw_samples,
    eigenscore_table,
    p_true_table,
    prior_table,
)
from ghosttrack.detector.answers.written import written_answers
from ghosttrack.detector.asking import families
from ghosttrack.detector.asking.family import SUBJECTS
from ghosttrack.detector.asking.interventions import Interventions, intervene, untrained_again
from ghosttrack.detector.asking.roster import RESCORED, ROSTER, requested
from ghosttrack.detector.asking.subjects import find_subjects, with_span_names
from ghosttrack.detector.config import SubjectSource
from ghosttrack.detector.table import Table
from ghosttrack.errors import ConfigError
from ghosttrack.files import read_json, write_json
from ghosttrack.models.entailment import Entailment, entailment_folder, entailment_identity
from ghosttrack.models.load import holds_twice
from ghosttrack.pipelines.fingerprint import fingerprint, hashed
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage
from ghosttrack.questions.asking import (
    as_chat,
    as_few_shot,
    chosen_kind,
    fitting,
    part_shots,
    templated,
    user_turn,
)
from ghosttrack.questions.config import (
    AUTO,
    AskingKind,
    FileQuestions,
    QuestionKind,
    WorldQuestions,
)
from ghosttrack.questions.names import known
from ghosttrack.questions.sets import QuestionSet, read_questions
from ghosttrack.world.questions import question_set as world_questions

CHECKS = "self-checks"
UNTRAINED_FILE = "untrained_again.parquet"
ANSWERS_SCHEMA, INTERVENTIONS_SCHEMA, CHECKS_SCHEMA = 1, 2, 1
"""Versions of the files that are written here."""

log = logging.getLogger(__name__)


def question_set(setup: Setup[DetectProgram]) -> QuestionSet:
    """Make or read the questions, and keep those of their names that are to be known.

    Raises:
        ConfigError: They cannot be had, or not be asked as `asking` says.
        DataError: They are faulty, or too long.
    """
    asked, config = _asked(setup), setup.config
    return replace(asked, names=known(asked.names, config.interventions.known_names, config.seed))


def _asked(setup: Setup[DetectProgram]) -> QuestionSet:
    """Make the questions of the world, or read those of a file, as the model is asked them."""
    chosen, asking, seed = setup.config.questions, setup.config.asking, setup.config.seed
    if not isinstance(chosen, FileQuestions):
        assert isinstance(chosen, WorldQuestions), chosen
        if asking.kind in (AskingKind.few_shot, AskingKind.chat):
            raise ConfigError(
                f"asking={asking.kind.name} is not for questions=ghostworld, which are asked in the"
                " words that the model was trained on; drop asking="
            )
        return templated(world_questions(setup.world, chosen.num, seed), asking)
    bare = read_questions(chosen)
    kind = chosen_kind(asking, chosen, setup.tokenizer)
    shots = ()
    if kind is not AskingKind.plain and (asking.shots or asking.shots_path):
        shots, bare = part_shots(bare, asking, seed)
    if kind is AskingKind.few_shot:
        asking = as_few_shot(asking, shots)
    elif kind is AskingKind.chat:
        asking = as_chat(asking, chosen.template, shots, setup.tokenizer)
        bare = replace(bare, turn=user_turn(setup.tokenizer))
    asked = fitting(templated(bare, asking), setup.tokenizer, setup.n_ctx)
    return asked.drawn(chosen.num, seed)


def answers_stage(setup: Setup[DetectProgram], questions: QuestionSet) -> Stage[Answers]:
    """The model's greedy answers, judged; or what others wrote, read by the model."""
    settings = {
        "model": setup.model_identity,
        "questions": dict(questions.identity),
        "reading": fingerprint(question_set),
        "stop": list(questions.stop),
        "max_new_tokens": questions.max_new_tokens,
        **({"seed": setup.config.seed} if questions.written else {}),
        "schema": ANSWERS_SCHEMA,
    }
    write = partial(write_answers, setup, questions)
    return Stage(
        setup.outputs, "answers", questions.name, settings, write, read_answers, title="answer"
    )


def write_answers(setup: Setup[DetectProgram], questions: QuestionSet, folder: Path) -> None:
    """Let the model answer greedily, and judge what it said; or let it read what others wrote."""
    if questions.written:
        log.info("answers that others wrote are judged, not what the model says of its own")
        answers = written_answers(setup.lm, questions, setup.config.seed)
    else:
        answers = answer(setup.lm, questions)
    answers.save(folder / "answers.parquet")


def read_answers(folder: Path) -> Answers:
    """Read the answers that are right or wrong: all that comes after them looks at no others."""
    return read_all_answers(folder).judged()


def read_all_answers(folder: Path) -> Answers:
    """Read what `write_answers` left: echoes and questions without an answer are among them."""
    return Answers.load(folder / "answers.parquet")


def interventions_stage(
    setup: Setup[DetectProgram], questions: QuestionSet, answers: Stage[Answers]
) -> Stage[Interventions]:
    """The answers scored again under every family of interventions but ghosts, the tracker's."""
    chosen = setup.config.interventions
    copies = {
        one.name: [n, hashed(f"{families.__name__}.{one.name}", "FAMILY")]  # found, not imported
        for one, n in requested(chosen.copies).items()
        if one.name in RESCORED
    }
    settings = {
        "answers": answers.id,
        "copies": copies,
        "siblings_again": chosen.siblings_again,
        "known_names": chosen.known_names,
        **({"subjects": "found"} if chosen.subjects is SubjectSource.found else {}),
        "seed": setup.config.seed,
        "schema": INTERVENTIONS_SCHEMA,
    }
    write = partial(write_interventions, setup, questions, answers)
    return Stage(
        *(setup.outputs, "answers", f"{questions.name}-again", settings, write),
        read_interventions,
        title="ask again",
    )


def write_interventions(
    setup: Setup[DetectProgram], questions: QuestionSet, answers: Stage[Answers], folder: Path
) -> None:
    """Ask again with one thing changed at a time."""
    settings, seed = setup.config.interventions, setup.config.seed
    passes: dict[str, float] = {}
    if settings.subjects is SubjectSource.found:
        questions = with_span_names(questions, setup.lm)
        questions, passes[SUBJECTS] = find_subjects(setup.lm, questions, answers.get())
    found = intervene(
        *(setup.lm, questions, answers.get(), requested(settings.copies), seed),
        siblings_again=settings.siblings_again,
    )
    for family in ROSTER:
        if family.name in found.left_out:
            log.info("left out: %s, no question has %s", family.name, family.needs)
    for name, table in found.tables.items():
        table.save(folder / f"{name}.parquet")
    is_world = setup.config.questions.kind is QuestionKind.ghostworld
    if is_world and holds_twice(setup.lm):  # words of real questions may tell, to any model
        blank = untrained_again(
            setup.lm, questions, answers.get(), requested(settings.copies), seed
        )
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


class Asked(NamedTuple):
    """What the model is asked about its answers."""

    p_true: str | None
    verbalised: str | None
    """Texts with `{question}` and `{answer}`; None: not asked."""
    eigenscore: bool
    """Its samples are read."""


def checks_stage(
    setup: Setup[DetectProgram],
    questions: QuestionSet,
    answers: Stage[Answers],
    read: Collection[str],
) -> Stage[SelfChecks]:
    """The model is asked more about each of its answers; `read` is what detectors read."""
    config, samples = setup.config, setup.config.asking.samples
    entailment = config.asking.entailment
    asked = Asked(
        p_true=_about(config, questions, config.asking.p_true, P_TRUE, "p_true" in read),
        verbalised=_about(
            *(config, questions, config.asking.confidence, CONFIDENCE), "verbalised" in read
        ),
        eigenscore=samples > 1 and "eigenscore" in read,
    )
    settings = {
        "answers": answers.id,
        "template": questions.template,
        **asked._asdict(),
        "samples": samples,
        "seed": config.seed if samples else None,
        "entailment": None if entailment is None else entailment_identity(entailment),
        "schema": CHECKS_SCHEMA,
    }
    write = partial(write_checks, setup, questions, answers, asked)
    name = f"{questions.name}-checks"
    return Stage(setup.outputs, "answers", name, settings, write, read_checks, title=CHECKS)


def _about(
    config: DetectProgram, questions: QuestionSet, given: str | None, usual: str, is_read: bool
) -> str | None:
    """Say what is asked about answers: what is given, or where it is `auto` the usual text."""
    if given != AUTO:
        return given
    can_be_asked = config.questions.kind is not QuestionKind.ghostworld
    return questions.turn.replace("{text}", usual) if is_read and can_be_asked else None


def read_checks(folder: Path) -> SelfChecks:
    """Read what `write_checks` left."""
    forwards = read_json(folder / "forwards.json")
    tables = {name: Table.load(folder / f"{name}.parquet") for name in forwards}
    return SelfChecks(tables, forwards)


def write_checks(
    setup: Setup[DetectProgram],
    questions: QuestionSet,
    answered: Stage[Answers],
    asked: Asked,
    folder: Path,
) -> None:
    """Ask whether each answer is true, how likely it is unasked, and for other answers."""
    lm, answers, template = setup.lm, answered.get(), questions.template
    tables: dict[str, tuple[Table, float]] = {}
    if (prior := prior_table(lm, answers, template)) is not None:
        tables["prior"] = prior, 1.0
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
    if setup.config.asking.samples:
        tables |= _sampled(setup, questions, answers, asked, folder)
    for name, (table, _) in tables.items():
        table.save(folder / f"{name}.parquet")
    write_json(folder / "forwards.json", {name: passes for name, (_, passes) in tables.items()})


def _sampled(
    setup: Setup[DetectProgram],
    questions: QuestionSet,
    answers: Answers,
    asked: Asked,
    folder: Path,
) -> dict[str, tuple[Table, float]]:
    """Let the model answer again, and compare what it says; with the passes of each table."""
    config, n_samples = setup.config, setup.config.asking.samples
    log.info("sampling %d more answers to each of %d questions", n_samples, len(answers))
    rows, texts = draw_samples(setup.lm, questions, answers, n_samples, config.seed)
    samples = pa.array([list(row.samples) for row in rows], pa.list_(pa.string()))
    pq.write_table(pa.table({"samples": samples}), folder / "samples.parquet")
    tables = {"sampling": (sampling_table(rows), float(n_samples))}
    if asked.eigenscore:
        tables["eigenscore"] = eigenscore_table(setup.lm, texts, n_samples), 2.0 * n_samples
    if config.asking.entailment is not None:
        model = Entailment(entailment_folder(config.asking.entailment), setup.lm.device)
        tables["entailment"] = entailment_table(model, rows, questions.template), float(n_samples)
    return tables
