"""Judge all that was measured of the answers, and report it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.artifacts import Artifact
from ghosttrack.data.config import Coverage, WorldText
from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.asking.families.ghosts import ghost_specs
from ghosttrack.detector.catalogue import SPECS
from ghosttrack.detector.config import Association, Position
from ghosttrack.detector.learners.baselines import exposure_table
from ghosttrack.detector.learners.fitted import TOKEN_RISKS, FittedDetector, load
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import spoken_tokens
from ghosttrack.evaluation.data import EvaluationData, n_judged_tokens
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.evaluation.roster import NULL
from ghosttrack.pipelines.answers import read_all_answers
from ghosttrack.pipelines.evaluation_files import protocol_facts, write_findings
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.states import AnswerStates
from ghosttrack.pipelines.track_files import AnswerTracks, read_view
from ghosttrack.pipelines.train import bank_metrics
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.report.contents import (
    GENERAL_LIMITS,
    WRITTEN_LIMITS,
    Owners,
    ReportContents,
    TrackView,
)
from ghosttrack.report.first import leader, thin
from ghosttrack.report.viewer import choose
from ghosttrack.tracking.candidates import UNRELATED_SHARE
from ghosttrack.world.text import covered_groups

if TYPE_CHECKING:
    from ghosttrack.pipelines.detect import Detection

WRITTEN = "written by others, a right and a wrong one to each question; not the model's own"


def write_evaluation(sources: "Detection", folder: Path) -> None:
    """Judge every detector, and write tables, figures and the page."""
    setup = sources.setup
    config, fitted = setup.config, sources.detectors.make().path
    with setup.run.stage("evaluate"):
        judging = config.evaluation
        evaluation = evaluate(evaluation_data(sources), judging)
    with setup.run.stage("report"):
        explainer = next(one for one in load(fitted) if not one.parts)
        contents = _contents(sources, evaluation, explainer)
        write_findings(folder, setup.run, config, contents, setup.lm.decode)


def evaluation_data(sources: "Detection") -> EvaluationData:
    """Collect what the evaluation looks at."""
    answers, found, checks = sources.answers.get(), sources.again.get(), sources.checks.get()
    exposure, layers = exposure_table(answers.exposures), tuple(sources.setup.layers)
    specs = (*SPECS, *ghost_specs(layers))
    data = EvaluationData(
        answers=answers,
        tables={
            "output": answers.output,
            **found.tables,
            **checks.tables,
            **({"exposure": exposure} if exposure is not None else {}),
            **({"untrained_again": found.untrained} if found.untrained is not None else {}),
        },
        forwards={**found.forwards, **checks.forwards},
        layers=layers,
        directions={spec.name: spec.direction for spec in specs},
        families={spec.name: spec.family for spec in SPECS},
        parts=_parts(sources),
        has_bank=sources.bank is not None,
        is_real=sources.setup.config.questions.kind is not QuestionKind.ghostworld,
        said=read_all_answers(sources.answers.make().path),
    )
    if sources.states is not None:
        data = _with_states(data, sources.states.get(), sources.setup.config.detector.position)
    if sources.tracks is not None:
        data = _with_tracks(data, sources.tracks.get())
    if sources.bank is not None and "encoders" in sources.read:
        data = data._replace(encoders=sources.bank.get().encoders())
    return data


def _parts(sources: "Detection") -> dict[str, Bool[np.ndarray, " sample"]]:
    """Part answers that are judged by themselves, too: by whether the bank read of their entity."""
    config = sources.setup.config
    is_world, corpus = config.questions.kind is QuestionKind.ghostworld, config.corpus
    is_part = isinstance(corpus, WorldText) and corpus.coverage is Coverage.held_out
    if not (is_world and is_part):
        return {}
    groups = covered_groups(sources.setup.world)
    saw = np.array([group in groups for group in sources.answers.get().groups])
    return {"bank saw the entity": saw, "bank never saw it": ~saw}


def _with_states(data: EvaluationData, read: AnswerStates, position: Position) -> EvaluationData:
    own = position is Position.prompt_last and not data.answers.are_written
    probes = read.states["prompt_last"] if own else data.probes
    tables = {**data.tables, **read.tables}
    return data._replace(states=read.states, grams=read.grams, probes=probes, tables=tables)


def _with_tracks(data: EvaluationData, tracked: AnswerTracks) -> EvaluationData:
    output = data.tables["output"]
    return data._replace(
        tables={"output": output, **tracked.tables, **data.tables},
        probes=tracked.probes,
        latents=tracked.latents,
        forwards={**data.forwards, **tracked.forwards},
        persistence=tracked.persistence,
        causal=tracked.causal,
        tokens=tracked.tokens,
        subject_latents=tracked.subject_latents,
    )


def _contents(
    sources: "Detection", evaluation: Evaluation, fitted: FittedDetector
) -> ReportContents:
    setup = sources.setup
    answers, found, checks = sources.answers.get(), sources.again.get(), sources.checks.get()
    tracked = None if sources.tracks is None else sources.tracks.get()
    bank = None if sources.bank is None else sources.bank.make()
    read = {} if sources.states is None else sources.states.get().tables
    tables = {**read, **(tracked.tables if tracked else {})}
    said = {name: tables[name] for name in ("lens", "tracks", "subject") if name in tables}
    passes = {**(tracked.forwards if tracked else {}), **found.forwards, **checks.forwards}
    asked = {name: n for name, n in passes.items() if n and not name.startswith(NULL)}
    shown = choose(answers.categories, evaluation.scores[leader(evaluation)])
    return ReportContents(
        evaluation=evaluation,
        answers=answers,
        statistics={
            "output": answers.output,
            **said,
            **found.tables,
            **({"ghosts": tables["ghosts"]} if "ghosts" in tables else {}),
            **checks.tables,
        },
        specs=(*SPECS, *ghost_specs(setup.layers)),
        view=_view(sources, shown),
        owners=Owners(found.rivals, found.gaps),
        hooks=bank_metrics(bank)["hooks"] if bank else (),
        facts=_facts(setup, evaluation, bank),
        seconds=setup.run.seconds,
        duration=time.monotonic() - setup.run.started,
        fitted=fitted,
        limits=WRITTEN_LIMITS if answers.are_written else GENERAL_LIMITS,
        cautions=(*thin(answers.labels), *_cautions(setup.config, setup.layers, tracked)),
        passes={"answer": 1.0, **asked},
        token_risks=_token_risks(sources),
    )


def _token_risks(sources: "Detection") -> list[Float[np.ndarray, " token"]]:
    """Part the risks of all answers' first tokens by answer; none where tokens are not judged."""
    file = sources.detectors.make().path / TOKEN_RISKS
    if not file.is_file():
        return []
    ends = np.cumsum(n_judged_tokens(sources.answers.get()))
    return np.split(Table.load(file).values[:, 0], ends[:-1])


def _view(sources: "Detection", answers: Sequence[int]) -> TrackView | None:
    """Read the tracks of these answers."""
    if sources.tracks is None or sources.bank is None:
        return None
    view = read_view(sources.tracks.make().path, sources.setup.layers, answers)
    words = spoken_tokens(sources.setup.lm, sources.bank.get(), view.observations)
    return view._replace(words=words)


def _cautions(
    config: DetectProgram, layers: Sequence[int], tracked: AnswerTracks | None
) -> tuple[str, ...]:
    """Say what a reader must know before the numbers."""
    detector = config.detector
    if tracked is None or detector.association is Association.identity:
        return ()
    by_chance = UNRELATED_SHARE if detector.gate is None else 0.0
    said = tracked.links.caution(layers, by_chance=by_chance)
    return (said,) if said else ()


def _facts(
    setup: Setup[DetectProgram], evaluation: Evaluation, bank: Artifact | None
) -> dict[str, str]:
    """Say what was run, for the head of the page."""
    config, detector, asked = setup.config, setup.config.detector, setup.config.questions
    is_file = isinstance(asked, FileQuestions)
    is_written = is_file and asked.answers is AnswerSource.written
    source = Path(asked.path).name if is_file and asked.name == "file" else asked.name
    through = f"{bank.path.name}, {len(setup.layers)} hook points" if bank else "none"
    tracker = {
        "tracker": f"{detector.name}: top_k {detector.top_k}, gate "
        f"{'of each pair of layers' if detector.gate is None else detector.gate}, "
        f"{detector.association.name}, statistics at {detector.position.name}"
    }
    return {
        "model": f"{config.model.name}, {setup.lm.n_layers} layers, d_model {setup.lm.d_model}",
        "SAE bank": through,
        "questions": f"{source}, {evaluation.n_judged:,} answers of {evaluation.n_groups:,} groups",
        **({"answers": WRITTEN} if is_written else {}),
        **(tracker if bank else {}),
        **protocol_facts(config),
    }
