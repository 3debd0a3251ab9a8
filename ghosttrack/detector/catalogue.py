"""The one table of statistics: what each is, its range, and what was expected of it.

    python -m ghosttrack.detector.catalogue

prints it as Markdown. Those of ghosts come per layer too, as far as a bank has layers.
"""

import sys
from collections.abc import Sequence
from math import inf

from ghosttrack.detector.answers.attention import RAUQ_SPECS
from ghosttrack.detector.answers.entailment import ENTAILMENT_SPECS
from ghosttrack.detector.answers.output_scores import OUTPUT_SCORES
from ghosttrack.detector.answers.sampling import SAMPLING_SCORES
from ghosttrack.detector.answers.self_checks import (
    CONFIDENCE_SPECS,
    EIGENSCORE_SPECS,
    P_TRUE_SPECS,
    PRIOR_SPECS,
    REVERSE_SPECS,
)
from ghosttrack.detector.asking.families.ghosts import ghost_specs
from ghosttrack.detector.asking.roster import intervention_specs
from ghosttrack.detector.table import REAL, StatisticSpec, define
from ghosttrack.detector.tracks.knownness import SUBJECT_STATISTICS
from ghosttrack.detector.tracks.lens import LENS_STATISTICS
from ghosttrack.detector.tracks.positions import PEAK_STATISTICS
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS

(SUBJECT_KNOWN,) = define(
    "knownness",
    ("subject_known", REAL, -1, "mean z of latents at the subject that tell right from wrong"),
)
"""Learned in every fold, and so a detector by itself, which turns it."""
SPECS = (
    *(score.spec for score in OUTPUT_SCORES),
    *LENS_STATISTICS,
    *TRACK_STATISTICS,
    SUBJECT_KNOWN,
    *SUBJECT_STATISTICS,
    *intervention_specs(),
    *RAUQ_SPECS,
    *PRIOR_SPECS,
    *REVERSE_SPECS,
    *P_TRUE_SPECS,
    *CONFIDENCE_SPECS,
    *EIGENSCORE_SPECS,
    *ENTAILMENT_SPECS,
    *(score.spec for score in SAMPLING_SCORES),
    *PEAK_STATISTICS,
)
"""Every statistic that a report may name, but those of ghosts."""
ARROWS = {1: "↑", -1: "↓", 0: "·"}


def bounds(spec: StatisticSpec) -> str:
    """Write a range as an interval, open where it has no end.

    >>> bounds(StatisticSpec("x", "", "", 0.0, inf, 1))
    '[0, ∞)'
    """
    low = "(-∞" if spec.low == -inf else f"[{spec.low:g}"
    return f"{low}, {'∞)' if spec.high == inf else f'{spec.high:g}]'}"


def markdown(specs: Sequence[StatisticSpec]) -> str:
    """Lay the table out."""
    rows = [
        f"| `{one.name}` | {one.family} | {one.definition.replace('|', '/')} | {bounds(one)} "
        f"| {ARROWS[one.direction]} |"
        for one in specs
    ]
    head = ["| statistic | family | definition | range | hallucinated |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


if __name__ == "__main__":
    own, peaks = SPECS[: -len(PEAK_STATISTICS)], PEAK_STATISTICS
    sys.stdout.write(markdown((*own, *ghost_specs(()), *peaks)) + "\n")
