"""What tracks are followed with: fitted on unlabelled text, kept, read again for new prompts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.config import DetectorConfig
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.novelty import Usual, fit_usual
from ghosttrack.detector.tracks.observe import Standard, fit_standard, observe
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.pipelines.activations import stream_source
from ghosttrack.pipelines.setup import Setup
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.graph import AssociationGraph
from ghosttrack.tracking.observations import HYPOTHESES, Directions, Observations, TrackerSettings
from ghosttrack.tracking.tracker import Tracker, fit_tracker

TEXT_TOKENS = 8192
"""Unlabelled tokens on which strengths are standardised and the tracker's graph is fitted."""
INSTRUMENTS = "instruments.safetensors"
USUAL = "usual."


class FittedInstruments(NamedTuple):
    """The bank and what unlabelled text says of it, the text's own observations included."""

    bank: Bank
    standard: Standard
    usual: Usual
    tracker: Tracker
    directions: Directions
    text: Observations


def fit_instruments(setup: Setup[DetectProgram], bank: Bank) -> FittedInstruments:
    """Standardise strengths and fit the tracker on unlabelled text; no label, no question."""
    detector = setup.config.detector
    text = stream_source(setup, TEXT_TOKENS).sample(TEXT_TOKENS).cpu().numpy()
    standard = fit_standard(bank, text, detector.top_k)
    observations = observe(bank, text, detector.top_k, standard).observations
    directions = tuple(bank.directions.float().cpu().numpy())
    tracker = fit_tracker(directions, observations, tracker_settings(detector))
    usual = fit_usual(bank, text, observations.latents)
    return FittedInstruments(bank, standard, usual, tracker, directions, observations)


def tracker_settings(detector: DetectorConfig) -> TrackerSettings:
    """Take what is set by hand."""
    return TrackerSettings(
        detector.gate,
        detector.max_misses,
        detector.confirm_hits,
        detector.association.value,
        detector.hypotheses or HYPOTHESES,
        frozenset(clue.value for clue in detector.clues),
    )


def read_instruments(
    folder: Path, bank: Bank, layers: Sequence[int], detector: DetectorConfig
) -> Instruments:
    """Read what `write_tracks` left of its instruments; the settings must be those it had."""
    arrays = load_file(folder / INSTRUMENTS)
    return Instruments(
        bank,
        tuple(layers),
        Standard(arrays["mean"], arrays["sd"]),
        Usual(*(arrays[USUAL + name] for name in Usual._fields)),
        Tracker(AssociationGraph.from_arrays(arrays), tracker_settings(detector)),
        LengthNull(*arrays["lengths"].tolist()),
        detector.top_k,
    )


def save_instruments(folder: Path, fitted: FittedInstruments, lengths: LengthNull) -> None:
    """Keep what a new prompt needs to be followed, the bank aside."""
    usual = {USUAL + name: held for name, held in fitted.usual._asdict().items()}
    arrays = {**fitted.tracker.graph.arrays(), **fitted.standard._asdict(), **usual}
    arrays["lengths"] = np.array(lengths)
    save_arrays(folder / INSTRUMENTS, arrays)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays in C order, as safetensors wants them."""
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
