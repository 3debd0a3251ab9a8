"""Family H, knownness: what happens at the last token of the subject's name.

What happens there precedes the question's words that follow, and the answer.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.config import Position
from ghosttrack.detector.table import FRACTION, REAL, Table, define
from ghosttrack.detector.tracks.novelty import written_lengths
from ghosttrack.detector.tracks.observe import Slots, observe, raw_latents
from ghosttrack.detector.tracks.positions import find_points
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.detector.tracks.track_table import layers_within, ratio
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import last_residuals


class AtSubjects(NamedTuple):
    """What was found, in the answers' order."""

    table: Table
    """NaN where the prompt does not hold its subject."""
    latents: list[csr_array]
    """SAE activations of each layer, none where the prompt does not hold its subject."""


SUBJECT_STATISTICS = define(
    "knownness",
    ("subject_energy", REAL, -1, "mean z, on text, of what early layers (depth to 0.4) write"),
    ("subject_dominance", FRACTION, -1, "mean share of the strongest observation, depth 1/3-2/3"),
)
"""Columns of the table `subject`, read at the last token of the subject's name."""


def look_at_subjects(lm: LM, instruments: Instruments, answers: Answers) -> AtSubjects | None:
    """Compute the family's columns, and read the latents; None where no prompt has a subject."""
    points = find_points(lm, answers, Position.subject_last)
    if not points.texts:
        return None
    bank, layers, standard, usual = instruments[:4]
    residuals = last_residuals(lm, points.texts, layers)
    strengths = observe(bank, residuals, instruments.top_k, standard).strengths
    depths = (np.array(layers) + 1) / lm.n_layers
    mean, deviation = usual.written
    written = (written_lengths(residuals) - mean) / deviation
    columns = {
        "subject_energy": written[:, layers_within(depths, 0.0, 0.4)].mean(axis=1),
        "subject_dominance": _dominance(strengths[:, layers_within(depths, 1 / 3, 2 / 3)]),
    }
    table = Table.of(SUBJECT_STATISTICS, columns)
    latents = [points.weights @ layer for layer in raw_latents(bank, residuals)]
    return AtSubjects(Table(table.names, points.mean(table.values)), latents)


def _dominance(strengths: Slots) -> Float[np.ndarray, " sample"]:
    share = ratio(strengths.max(axis=2), strengths.sum(axis=2))
    return share.mean(axis=1)
