"""Residual streams at the answers, read through the bank, linked into tracks and their nulls.

`detector.position` moves the statistics of tracks and of null tracks, persistence, probes and raw
latents (under `max_pool` these two stay). The logit lens, ghosts and the tracks that reports draw
stay at the last token of the prompt, which predicts the answer.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ghosttrack.artifacts import Artifact
from ghosttrack.config import DetectProgram
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.families.ghosts import ghost_copies
from ghosttrack.detector.asking.roster import ghost_counts
from ghosttrack.detector.config import (
    Association,
    DetectorConfig,
    Null,
    Position,
)
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import (
    answer_reader,
    promote,
    promoted_tokens,
)
from ghosttrack.detector.tracks.causal import COLUMNS as CAUSAL_COLUMNS
from ghosttrack.detector.tracks.causal import Reader, causal_links, passages
from ghosttrack.detector.tracks.ghosts import Ghosts, Original, find_ghosts
from ghosttrack.detector.tracks.knownness import SUBJECT_STATISTICS, look_at_subjects
from ghosttrack.detector.tracks.lens import trajectory
from ghosttrack.detector.tracks.life_cycle import fit_length_null
from ghosttrack.detector.tracks.observe import raw_latents
from ghosttrack.detector.tracks.positions import Points, points
from ghosttrack.detector.tracks.statistics import (
    TRACK_STATISTICS,
    lens_statistics,
    track_statistics,
)
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.files import write_json
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import Readings
from ghosttrack.pipelines.answers import Answered
from ghosttrack.pipelines.follow import (
    Followed,
    Glass,
    follow,
    null_tables,
    token_table,
    track_nulls,
    untrained_table,
)
from ghosttrack.pipelines.instruments import (
    TEXT_TOKENS,
    Fitted,
    fit_instruments,
    save_arrays,
    save_instruments,
)
from ghosttrack.pipelines.kept_tracks import (
    SUBJECT_LATENTS,
    TOKENS,
    Tracked,
    load_tracked,
    save_latents,
    save_persistence,
    save_tables,
)
from ghosttrack.pipelines.setup import Study
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import HYPOTHESES

CAUSAL_WINDOWS, CAUSAL_TOKENS, CAUSAL_LEAST = 300, 64, 4
"""Held-out windows on which links are tried by ablation, the most tokens that are read of each, and
the least that stand before the position that is looked at."""

log = logging.getLogger(__name__)


def track_answers(
    study: Study,
    config: DetectProgram,
    bank: Artifact,
    questions: QuestionSet,
    answered: Answered,
) -> Tracked:
    """Follow hypotheses through every answer's prompt, and through its copies where asked."""
    identity = tracks_identity(config, bank.id, answered.artifact.id)

    def write(folder: Path) -> None:
        write_tracks(folder, study, config, Bank.load(bank.path), questions, answered.answers)

    with study.run.stage("track"):
        artifact = study.build("tracks", config.detector.name, identity, write)
        return load_tracked(artifact, study.layers)


def tracks_identity(config: DetectProgram, bank_id: str, answers_id: str) -> dict[str, object]:
    """What determines the tracks of these answers."""
    detector = config.detector
    return {
        "bank": bank_id,
        "answers": answers_id,
        **_position(detector.position),
        "top_k": detector.top_k,
        "gate": detector.gate,
        "max_misses": detector.max_misses,
        "confirm_hits": detector.confirm_hits,
        "association": detector.association.name,
        **(
            {"hypotheses": detector.hypotheses or HYPOTHESES}
            if detector.association is Association.murty
            else {}
        ),
        "clues": sorted(clue.name for clue in detector.clues),
        "statistics": [spec.name for spec in (*TRACK_STATISTICS, *SUBJECT_STATISTICS)],
        "nulls": [null.name for null in detector.nulls],
        **_ghost_settings(config.interventions.copies),
        "text_tokens": TEXT_TOKENS,
        "seed": config.seed,
    }


def _hypotheses(detector: DetectorConfig) -> dict[str, object]:
    is_murty = detector.association is Association.murty
    return {"hypotheses": detector.hypotheses or HYPOTHESES} if is_murty else {}


def _position(position: Position) -> dict[str, object]:
    return {} if position is Position.prompt_last else {"position": position.name}


def _ghost_settings(copies: Mapping[str, int | None]) -> dict[str, object]:
    wordings, names = ghost_counts(copies)
    return {"ghosts": [wordings, names]} if names else {}


def write_tracks(
    folder: Path,
    study: Study,
    config: DetectProgram,
    bank: Bank,
    questions: QuestionSet,
    answers: Answers,
) -> None:
    """Read, observe, track, compute statistics, and do the same under every null."""
    lm, position = study.lm, config.detector.position
    read_at = points(lm, answers, position)
    bank = bank.to(lm.device)
    n_floats = 2 * len(study.layers) * len(read_at.texts) * lm.d_model  # with and without subject
    log.info(
        "tracking: %s answers, %.2f GB of residual streams in memory, half of it on the disk",
        *(f"{len(answers):,}", 4 * n_floats / 1e9),
    )
    instruments = fit_instruments(study, config, bank)
    glass = Glass(study.layers, config.detector, instruments)
    before = follow(lm, glass, answers, points(lm, answers, Position.prompt_last))
    seen = before
    if position is not Position.prompt_last:
        seen = follow(lm, glass, answers, read_at, pooled=position is Position.max_pool)
    nulls = track_nulls(glass, seen.evidence.observed.observations, config.seed)
    reference = fit_length_null(nulls[Null.shuffled.name].tracks)
    save_instruments(folder, instruments, reference)
    by_point = {"tracks": track_statistics(seen.evidence, seen.tracks, reference)}
    by_point |= null_tables(seen.evidence, nulls, reference)
    by_point |= untrained_table(lm, glass, answers, read_at, reference, config.seed)
    tables = {
        "lens": lens_statistics(before.readings),
        "lens_trajectory": trajectory(before.readings.lens),
        **{name: read_at.table(table, position) for name, table in by_point.items()},
    }
    masked = float(np.mean([bool(subject) for subject in answers.subjects]))
    forwards = dict.fromkeys(by_point, masked)
    tools = Instruments(
        *(bank, tuple(study.layers), *instruments[1:4], reference),
        config.detector.top_k,
    )
    if not answers.are_written:
        token_table(lm, glass, answers, before, reference).save(folder / TOKENS)
    tables |= _subject_table(folder, lm, tools, answers)
    original = Original(before.evidence, before.tracks, answer_reader(lm, before.readings))
    ghosts = _ghosts(study, config, tools, original, (questions, answers))
    if ghosts is not None:
        tables["ghosts"], forwards["ghosts"] = ghosts.table, ghosts.forwards
    save_tables(folder, tables, forwards)
    kinds = {"tracks": seen.tracks, **{f"null:{name}": one.tracks for name, one in nulls.items()}}
    save_persistence(folder, kinds, read_at, study.layers)
    _causal(study, config, instruments).save(folder / "causal.parquet")
    _save_view(folder, lm, before, ghosts)
    _save_residuals(folder, bank, seen.readings, read_at)


def _subject_table(folder: Path, lm: LM, tools: Instruments, answers: Answers) -> dict[str, Table]:
    """Look at the subjects, if there are any, and keep their latents."""
    found = look_at_subjects(lm, tools, answers)
    if found is None:
        return {}
    save_latents(folder / SUBJECT_LATENTS, found.latents)
    return {"subject": found.table}


def _save_residuals(folder: Path, bank: Bank, readings: Readings, read_at: Points) -> None:
    """Write the mean residual stream of each answer's points, and of its latents."""
    probes = read_at.mean(readings.residuals.swapaxes(0, 1)).swapaxes(0, 1)
    save_arrays(folder / "probes.safetensors", {"probes": probes})
    latents = [read_at.weights @ layer for layer in raw_latents(bank, readings.residuals)]
    save_latents(folder / "latents.safetensors", latents)


def _save_view(folder: Path, lm: LM, before: Followed, ghosts: Ghosts | None) -> None:
    """Write the tracks that reports draw, and what each argues for."""
    readings, evidence, tracks = before
    promotion = promote(tracks, evidence.attribution)
    words = promoted_tokens(promotion, tracks, readings.candidates, lm.decode)
    write_json(folder / "promotes.json", words)
    observations = evidence.observed.observations
    arrays = {**tracks.arrays(), **observations._asdict(), "push": promotion.logits}
    if ghosts is not None:
        arrays |= {f"stay.{kind}": shares for kind, shares in ghosts.stay.items()}
    save_arrays(folder / "tracks.safetensors", arrays)


def _ghosts(
    study: Study,
    config: DetectProgram,
    instruments: Instruments,
    original: Original,
    asked: tuple[QuestionSet, Answers],
) -> Ghosts | None:
    """Look for the tracks in paraphrases and swaps; None where that is not asked for."""
    questions, answers = asked
    counts = ghost_counts(config.interventions.copies)
    if not counts[1]:
        return None
    by_id = {question.id: question for question in questions.questions}
    copies = [
        ghost_copies(by_id[question_id], questions.names, counts, config.seed)
        for question_id in answers.question_ids
    ]
    return find_ghosts(study.lm, instruments, original, copies)


def _causal(study: Study, config: DetectProgram, instruments: Fitted) -> Table:
    """Try links on text that neither the bank nor the tracker was fitted on."""
    bank, standard, tracker = instruments.bank, instruments.standard, instruments.tracker
    reader = Reader(study.lm, study.layers, bank, standard, config.detector.top_k, tracker)
    heldout = study.corpus.heldout
    windows = heldout.read(np.arange(min(CAUSAL_WINDOWS, len(heldout.lengths))))
    if not len(windows.lengths):
        return Table(CAUSAL_COLUMNS, np.empty((0, len(CAUSAL_COLUMNS))))
    ids = windows.padded(0, len(windows.lengths)).ids[:, :CAUSAL_TOKENS]
    lengths = np.minimum(windows.lengths, CAUSAL_TOKENS)
    return causal_links(reader, passages(ids, lengths, CAUSAL_LEAST, config.seed), config.seed)
