"""What an evaluation found, in the form that reports and `evaluation.json` read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

ALL = "all"
CONFIDENT = {"p>0.5": 0.5, "p>0.8": 0.8}
"""Name to the answer probability that must be exceeded."""
WITHIN = "within relation"
SHUFFLE = "label_shuffle"
"""Canary of a detector whose labels are shuffled."""


class Interval(NamedTuple):
    """95 % cluster-bootstrap interval; NaN at both ends where it is not defined."""

    low: float
    high: float


UNDEFINED = Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class Row:
    """One detector on one subset of the answers; hallucinated is the positive class.

    A number that is not defined there is NaN (`null` in JSON) and `note` says why.
    """

    detector: str
    subset: str
    """all | p>0.5 | p>0.8, by the probability of the whole answer | within relation."""
    n: int
    n_groups: int
    """Units that the bootstrap draws from: questions or entities, or what else is held out."""
    auroc: float
    auprc: float
    """Average precision for hallucinated answers."""
    auprc_correct: float
    """Average precision for right answers."""
    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    f1: float
    ece: float
    """Expected calibration error over `scores.N_BINS` bins of equal mass; noise raises it, draws
    once more: it has no interval."""
    ece_unbiased: float
    """The same less its bias (`bootstrap.unbiased`)."""
    smooth_ece: float
    """Without bins (`scores.smooth_ece`)."""
    brier: float
    fpr95: float
    """Share of right answers flagged where 95 % of the hallucinated are."""
    aurc: float
    """Area under the risk-coverage curve; lower is better."""
    prr: float
    """Prediction rejection ratio (`scores.rejection_ratio`): 1 if perfect, 0 by chance."""
    auroc_ci: Interval
    intervals: Mapping[str, Interval]
    """Interval of the numbers above, by their names."""
    forwards: float
    """Forward passes per answer that the detector needs."""
    note: str = ""


@dataclass(frozen=True)
class Pair:
    """AUROC of detector `a` minus that of `b`, on the same resamples.

    Where `b` is a null, 95 % of the intervals hold for all nulls at once (Bonferroni).
    """

    a: str
    b: str
    subset: str
    delta: float
    ci: Interval


@dataclass(frozen=True)
class PartGain:
    """AUROC of one part of a detector fused late with `base`, minus that of `base`."""

    part: str
    base: str
    delta: float
    ci: Interval
    subset: str
    """all | within relation."""


@dataclass(frozen=True)
class NullComparison:
    """How long tracks last under real links and under one null's."""

    measure: str
    """What is averaged over answers; `data.EvaluationData.persistence` names it."""
    null: str
    n: int
    """Answers for which the measure is defined under real links."""
    mean: float
    mean_ci: Interval
    null_mean: float
    difference: float
    ci: Interval


@dataclass(frozen=True)
class CausalRate:
    """Share of links whose deeper latent drops, by what blocks do, as no matched one does."""

    layers: str
    """Blocks of the upper and the deeper latent, or `all`."""
    n: int
    rate: float
    ci: Interval
    """Over windows of text, as every interval here."""
    chance: float
    """The same of pairs that no link joins."""
    chance_ci: Interval
    net: float
    """Rate less chance."""
    net_ci: Interval
    drop: float
    """Mean share of the deeper latent's pre-activation that is lost with the upper latent."""
    carried: float
    """Mean share that is lost where no block runs."""


@dataclass(frozen=True)
class Reliability:
    """How far a detector's risks can be believed where another share is hallucinated."""

    detector: str
    prevalence: float
    error: float
    """Smooth calibration error of its probabilities as they are."""
    shifted_error: float
    """Of those probabilities, shifted on the log-odds scale to that share."""


@dataclass(frozen=True)
class Expectation:
    """Whether a statistic by itself lies on the side that was expected of it."""

    table: str
    statistic: str
    n: int
    """Answers for which it is defined."""
    auroc: float
    """Above 0.5 where higher means hallucinated."""
    ci: Interval
    q: float
    """Share of false ones among all statistics that are as surely not at 0.5."""
    verdict: str
    """holds | fails | not shown."""


@dataclass(frozen=True)
class Evaluation:
    """Every detector under one protocol: grouped folds, inner choices, cluster bootstrap."""

    n: int
    """Of all answers."""
    n_judged: int
    """Of those that are right or wrong: every other number is about them."""
    n_ambiguous: int
    """Of those that are judged and right to one eye, wrong to the other."""
    categories: Mapping[str, int]
    """What became of all answers, with their numbers."""
    disagreements: Mapping[str, int]
    """Categories and what the same answers are to the other eye, where it differs, with their
    numbers."""
    n_groups: int
    hallucinated_frac: float
    rows: tuple[Row, ...]
    paired: tuple[Pair, ...]
    canaries: Mapping[str, float]
    """Name to AUROC."""
    canaries_ci: Mapping[str, Interval]
    """Their intervals, 95 % of which hold for all canaries at once (Bonferroni)."""
    tracking: tuple[NullComparison, ...]
    causal: tuple[CausalRate, ...]
    scores: Mapping[str, Float[np.ndarray, " sample"]]
    """Cross-fitted calibrated probability of hallucination per detector, in the answers' order."""
    flagged: Mapping[str, np.ndarray]
    """Whether the probability passes the threshold chosen in the answer's inner folds."""
    folds: Int[np.ndarray, " sample"]
    """Outer fold in which each answer was held out."""
    chosen: Mapping[str, tuple[str, ...]]
    """What the inner folds chose (classifier, layer, strength), per outer fold."""
    dropped: Mapping[str, tuple[str, ...]]
    """Columns that a detector did not get, each with its reason and number of folds."""
    effective_rank: Mapping[str, float]
    """Of each table: in how many directions its columns vary, at most their number."""
    left_out: Mapping[str, str]
    """Detectors, canaries and subsets that the data cannot feed, with the reason."""
    claim: str
    """Whether tracking helps, with the numbers that decide it."""
    singing: Mapping[str, str] = field(default_factory=dict)
    """Canaries whose interval lies above chance, with what leaks."""
    signals: Mapping[str, str] = field(default_factory=dict)
    """Those that are above it for what such answers may really be told by, and what that is."""
    parts: tuple[PartGain, ...] = ()
    """What each part that was measured contributes."""
    reliability: tuple[Reliability, ...] = ()
    """Of detectors that may be recommended."""
    expectations: tuple[Expectation, ...] = ()
    """Of every statistic that has an expected direction."""
    recommended: Mapping[str, str] = field(default_factory=dict)
    """Detector that the inner folds of all outer folds together rank first, by the name of the row
    that makes this choice in every outer fold anew."""

    @property
    def subsets(self) -> tuple[str, ...]:
        """Those that rows are about, all answers first."""
        return tuple(dict.fromkeys(row.subset for row in self.rows))

    def row(self, detector: str, subset: str = "all") -> Row:
        """Look up one row.

        Raises:
            KeyError: No such detector or subset.
        """
        return {(row.detector, row.subset): row for row in self.rows}[detector, subset]

    def pair(self, a: str, b: str, subset: str = "all") -> Pair | None:
        """Look up one paired difference; None where a detector was left out."""
        return {(pair.a, pair.b, pair.subset): pair for pair in self.paired}.get((a, b, subset))

    def to_json(self) -> dict[str, object]:
        """Give the contents of `evaluation.json`; per-answer arrays stay out."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("scores", "flagged", "folds")
        }


def _plain(value: object) -> object:
    """Turn records into JSON's own kinds; numbers that are not finite become null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    assert isinstance(value, str | int), f"{type(value)} has no place in evaluation.json"
    return value
