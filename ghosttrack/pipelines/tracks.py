"""Residual streams at the answers, read through the bank, linked into tracks and their nulls.

`detector.position` moves the statistics of tracks and of null tracks, persistence, probes and raw
latents (under `max_pool` these two stay). The logit lens, ghosts and the tracks that reports draw
stay at the last token of the prompt, which predicts the answer.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.families.ghosts import ghost_copies
from ghosttrack.detector.asking.roster import ghost_counts
from ghosttrack.detector.config import Null, Position
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import (
    answer_reader,
    promote,
    promoted_tokens,
)
from ghosttrack.detector.tracks.causal import COLUMNS as CAUSAL_COLUMNS
from ghosttrack.detector.tracks.causal import Reader, causal_links, passages
from ghosttrack.detector.tracks.ghosts import Ghosts, Original, find_ghosts
from ghosttrack.detector.tracks.knownness import look_at_subjects
from ghosttrack.detector.tracks.lens import lens_tables
from ghosttrack.detector.tracks.life_cycle import LengthNull, fit_length_null
from ghosttrack.detector.tracks.observe import raw_latents
from ghosttrack.detector.tracks.positions import Points, points
from ghosttrack.detector.tracks.statistics import track_statistics
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.files import write_json
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import Readings
from ghosttrack.pipelines.detect import FIT, TRY
from ghosttrack.pipelines.instruments import (
    FittedInstruments,
    fit_instruments,
    save_arrays,
    save_instruments,
)
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.track_files import (
    LATENTS,
    LINKS,
    PROBES,
    PROMOTES,
    SUBJECT_LATENTS,
    TOKENS,
    VIEW,
    Links,
    block_folders,
    chance_lengths,
    finish,
    is_finished,
    join_blocks,
    reopen,
    save_latents,
    save_persistence,
    save_tables,
)
from ghosttrack.pipelines.track_points import (
    TrackedPoints,
    TrackingSetup,
    null_tables,
    token_table,
    track_nulls,
    track_points,
    untrained_table,
)
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.sae.bank import Bank

if TYPE_CHECKING:
    from ghosttrack.pipelines.detect import Detection

MOST_TRACKED = 4096
"""Answers tracked at once, which bounds memory."""
CAUSAL_WINDOWS, CAUSAL_TOKENS, CAUSAL_LEAST = 300, 64, 4
"""Held-out windows on which links are tried by ablation, the most tokens that are read of each, and
the least that stand before the position that is looked at."""

log = logging.getLogger(__name__)


def write_tracks(stages: "Detection", folder: Path) -> None:
    """Read, observe, track, compute statistics, and do the same under every null.

    Of more than `MOST_TRACKED` answers blocks are tracked by turns, and each draws its nulls; what
    lengths chance gives is that of the first. Blocks that were finished before a kill stay.
    """
    setup, answers = stages.setup, stages.answers.get()
    assert stages.bank is not None
    weights = Bank.load(stages.bank.make().path).to(setup.lm.device)
    with setup.run.stage(FIT):
        instruments = fit_instruments(setup, weights)
    tracking = TrackingSetup(setup.layers, setup.config.detector, instruments)
    # at subjects at once: a block may hold none
    is_whole = setup.config.detector.position is Position.subject_last
    n_blocks = 1 if is_whole else -(-len(answers) // MOST_TRACKED)
    parts = np.array_split(np.arange(len(answers)), n_blocks)
    places = [folder] if len(parts) == 1 else block_folders(folder, len(parts))
    reference = None
    for place, rows in zip(places, parts, strict=True):
        if not is_finished(place):
            place.mkdir(exist_ok=True)
            mine = answers if len(parts) == 1 else answers.take(rows)
            finish(place, _write_block(stages, tracking, mine, reference, place))
        reference = reference or chance_lengths(place)
    assert reference is not None
    save_instruments(folder, instruments, reference)
    with setup.run.stage(TRY):
        _causal(setup, instruments).save(folder / "causal.parquet")
    reopen(places)
    if len(parts) > 1:
        join_blocks(folder, places, len(setup.layers))


def _write_block(
    stages: "Detection",
    tracking: TrackingSetup,
    answers: Answers,
    reference: LengthNull | None,
    folder: Path,
) -> LengthNull:
    """Track some answers; give what lengths chance gives, which is measured where it is None."""
    setup, instruments = stages.setup, tracking.instruments
    lm, seed = setup.lm, setup.config.seed
    read_at = points(lm, answers, setup.config.detector.position)
    _say_memory(setup, len(answers), len(read_at.texts))
    at_prompt = points(lm, answers, Position.prompt_last)
    prompts = track_points(lm, tracking, answers, at_prompt, lens=True)
    seen = _at_position(lm, tracking, answers, read_at, prompts)
    nulls = track_nulls(tracking, seen.evidence.observed.observations, seed)
    reference = reference or fit_length_null(nulls[Null.shuffled.name].tracks)
    by_point = {"tracks": track_statistics(seen.evidence, seen.tracks, reference)}
    asked = {null.name: nulls[null.name] for null in tracking.detector.nulls}
    by_point |= null_tables(seen.evidence, asked, reference)
    by_point |= untrained_table(lm, tracking, answers, read_at, reference, seed)
    tables = _prompt_tables(prompts.readings)
    tables |= {
        name: read_at.table(held, tracking.detector.position) for name, held in by_point.items()
    }
    masked = float(np.mean([bool(subject) for subject in answers.subjects]))
    forwards = dict.fromkeys(by_point, masked)
    if not answers.are_written:
        token_table(lm, tracking, answers, prompts, reference).save(folder / TOKENS)
    tools = _live_instruments(tracking, reference)
    tables |= _subject_table(folder, lm, tools, answers)
    original = Original(prompts.evidence, prompts.tracks, answer_reader(lm, prompts.readings))
    ghosts = _ghosts(setup, tools, original, (stages.questions, answers))
    if ghosts is not None:
        tables["ghosts"], forwards["ghosts"] = ghosts.table, ghosts.forwards
    save_tables(folder, tables, forwards)
    kinds = {"tracks": seen.tracks, **{f"null:{name}": one.tracks for name, one in nulls.items()}}
    save_persistence(folder, kinds, read_at, setup.layers)
    write_json(folder / LINKS, _links(instruments, seen)._asdict())
    _save_view(folder, lm, prompts, ghosts)
    _save_residuals(folder, instruments.bank, seen.readings, read_at)
    return reference


def _say_memory(setup: Setup[DetectProgram], n_answers: int, n_texts: int) -> None:
    n_floats = 2 * len(setup.layers) * n_texts * setup.lm.d_model  # with and without subject
    log.info(
        "tracking: %s answers, %.2f GB of residual streams in memory, half of it on the disk",
        *(f"{n_answers:,}", 4 * n_floats / 1e9),
    )


def _at_position(
    lm: LM, tracking: TrackingSetup, answers: Answers, read_at: Points, prompts: TrackedPoints
) -> TrackedPoints:
    """Track where the settings say; `prompts` are the tracks at the prompts' last tokens."""
    position = tracking.detector.position
    if position is Position.prompt_last:
        return prompts
    return track_points(lm, tracking, answers, read_at, pooled=position is Position.max_pool)


def _prompt_tables(readings: Readings) -> dict[str, Table]:
    """Compute what the logit lens says at the prompts' last tokens."""
    assert readings.lens is not None, "prompts are read with the lens"
    return lens_tables(readings.lens, readings.d_vocab)


def _live_instruments(tracking: TrackingSetup, reference: LengthNull) -> Instruments:
    """Take of the instruments what new prompts are tracked with."""
    fitted = tracking.instruments
    return Instruments(
        fitted.bank,
        tuple(tracking.layers),
        *(fitted.standard, fitted.usual, fitted.tracker, reference),
        tracking.detector.top_k,
    )


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
    save_arrays(folder / PROBES, {"probes": probes})
    latents = [read_at.weights @ layer for layer in raw_latents(bank, readings.residuals)]
    save_latents(folder / LATENTS, latents)


def _links(instruments: FittedInstruments, seen: TrackedPoints) -> Links:
    """Measure how much of one layer goes on at the next."""
    graph, settings = instruments.tracker
    gates = (
        np.full(graph.n_layers, settings.gate)
        if settings.gate is not None
        else np.nan_to_num(graph.gates)
    )
    longest = int(seen.tracks.lengths().max(initial=0))
    gates = tuple(gates[: max(graph.n_layers - 1, 0)].tolist())
    return Links(graph.partners(settings), longest, gates)


def _save_view(folder: Path, lm: LM, prompts: TrackedPoints, ghosts: Ghosts | None) -> None:
    """Write the tracks that reports draw, and what each argues for."""
    readings, evidence, tracks = prompts
    promotion = promote(tracks, evidence.attribution)
    words = promoted_tokens(promotion, tracks, readings.candidates, lm.decode)
    write_json(folder / PROMOTES, words)
    observations = evidence.observed.observations
    arrays = {**tracks.arrays(), **observations._asdict(), "push": promotion.logits}
    if ghosts is not None:
        arrays |= {f"stay.{kind}": shares for kind, shares in ghosts.stay.items()}
    save_arrays(folder / VIEW, arrays)


def _ghosts(
    setup: Setup[DetectProgram],
    instruments: Instruments,
    original: Original,
    asked: tuple[QuestionSet, Answers],
) -> Ghosts | None:
    """Look for the tracks in paraphrases and swaps; None where that is not asked for."""
    questions, answers = asked
    counts = ghost_counts(setup.config.interventions.copies)
    if not counts[1]:
        return None
    by_id = {question.id: question for question in questions.questions}
    copies = [
        ghost_copies(by_id[question_id], questions.names, counts, setup.config.seed)
        for question_id in answers.question_ids
    ]
    return find_ghosts(setup.lm, instruments, original, copies)


def _causal(setup: Setup[DetectProgram], instruments: FittedInstruments) -> Table:
    """Try links on text that neither the bank nor the tracker was fitted on."""
    config = setup.config
    bank, standard, tracker = instruments.bank, instruments.standard, instruments.tracker
    reader = Reader(setup.lm, setup.layers, bank, standard, config.detector.top_k, tracker)
    heldout = setup.corpus.heldout
    windows = heldout.read(np.arange(min(CAUSAL_WINDOWS, len(heldout.lengths))))
    if not len(windows.lengths):
        return Table(CAUSAL_COLUMNS, np.empty((0, len(CAUSAL_COLUMNS))))
    ids = windows.padded(0, len(windows.lengths)).ids[:, :CAUSAL_TOKENS]
    lengths = np.minimum(windows.lengths, CAUSAL_TOKENS)
    return causal_links(reader, passages(ids, lengths, CAUSAL_LEAST, config.seed), config.seed)
