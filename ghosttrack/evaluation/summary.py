"""From cross-fitted probabilities to rows with intervals; free of torch, as workers import it."""

from collections.abc import Iterable, Mapping
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from ghosttrack.detector.learners.calibration import log_odds_ratio, shifted
from ghosttrack.evaluation.bootstrap import Resamples, interval, once, unbiased
from ghosttrack.evaluation.crossfit import CrossFit
from ghosttrack.evaluation.result import UNDEFINED, Interval, Pair, Reliability, Row
from ghosttrack.evaluation.scores import Scores, resampled_auroc, score, smooth_ece, tabulate

ENOUGH = 500
"""Answers of each label below which an interval is read with caution (Hanley and McNeil 1982:
at 500 of each an AUROC of 0.75 is known to 0.03)."""
TWICE = sqrt(2)
"""Where nothing tells anything, what the answers of one fold say by chance of those of another is
said the other way round as well: each pair of answers counts twice, which doubles the variance."""

FEW_GROUPS = 30
"""Groups below which resampled intervals are too narrow (Cameron, Gelbach and Miller 2008)."""
PREVALENCES = (0.1, 0.5)
"""Shares of hallucinated answers at which reliability is told."""


class Subset(NamedTuple):
    """Answers that a row is about.

    With `relation`, its AUROC is over pairs of answers of one relation: that some relations are
    harder than others cannot raise it. Its interval is by the same draws as every other. No other
    number is defined there.
    """

    name: str
    mask: Bool[np.ndarray, " sample"]
    relation: Int[np.ndarray, " sample"] | None = None
    """Of every answer, where only answers of the same one are compared."""


class Entry(NamedTuple):
    """One detector as it enters the table."""

    detector: str
    forwards: float
    fit: CrossFit


class Summary(NamedTuple):
    """A row and the AUROC of every resample behind it, for paired differences."""

    row: Row
    aurocs: Float[np.ndarray, " resample"]


def summarise(
    entry: Entry,
    labels: Int[np.ndarray, " sample"],
    chosen: tuple[Subset, ...],
    resamples: Resamples,
) -> list[Summary]:
    """Score one detector on every subset."""
    with threadpool_limits(1):
        return [_summary(entry, subset, labels, resamples) for subset in chosen]


def canary_result(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    strata: Int[np.ndarray, " sample"],
    resamples: Resamples,
    n_tests: int,
) -> tuple[float, Interval]:
    """AUROC of a canary on pairs of answers of one stratum, on all where there is but one.

    Its interval is to hold together with those of all `n_tests`. It is wider by `TWICE` than the
    draws, which take scores as given.
    """
    with threadpool_limits(1):
        auroc, drawn = resampled_auroc(labels, prob, resamples, strata)
        low, high = interval(drawn, n_tests)
        ends = auroc + TWICE * (np.array([low, high]) - auroc)
        return auroc, Interval(*ends.clip(0.0, 1.0).tolist())


def difference(a: Summary, b: Summary, n_tests: int = 1) -> Pair:
    """Difference in AUROC on the same resamples; `n_tests` intervals are to hold at once."""
    assert a.row.subset == b.row.subset, "a difference between subsets means nothing"
    defined = isfinite(a.row.auroc_ci.low) and isfinite(b.row.auroc_ci.low)
    return Pair(
        a=a.row.detector,
        b=b.row.detector,
        subset=a.row.subset,
        delta=a.row.auroc - b.row.auroc,
        ci=interval(a.aurocs - b.aurocs, n_tests) if defined else UNDEFINED,
    )


def reliability(
    probs: Mapping[str, Float[np.ndarray, " sample"]],
    labels: Int[np.ndarray, " sample"],
    prevalences: Iterable[float],
) -> tuple[Reliability, ...]:
    """Judge calibrated probabilities where other shares are hallucinated, as they are and shifted.

    Right and hallucinated answers are weighted to these shares: they are the same answers, only as
    many more or fewer of them.
    """
    base = float(labels.mean())
    found = []
    for name, prob in probs.items():
        for share in sorted({*prevalences}):
            weights = np.where(labels == 1, share / base, (1 - share) / (1 - base))
            moved = shifted(prob, log_odds_ratio(base, share))
            errors = (smooth_ece(labels, one, weights) for one in (prob, moved))
            found.append(Reliability(name, share, *errors))
    return tuple(found)


def _summary(
    entry: Entry, subset: Subset, labels: Int[np.ndarray, " sample"], resamples: Resamples
) -> Summary:
    mask = subset.mask
    kept, drawn = labels[mask], resamples.subset(mask)
    n_groups = drawn.n_groups
    point = dict.fromkeys(Scores._fields, np.nan)
    intervals = dict.fromkeys(Scores._fields, UNDEFINED)
    aurocs = np.full(len(resamples.counts), np.nan)
    calibration = {"ece_unbiased": np.nan, "smooth_ece": np.nan}
    if subset.relation is not None:
        point["auroc"], aurocs = resampled_auroc(
            kept, entry.fit.prob[mask], drawn, subset.relation[mask]
        )
        intervals["auroc"] = interval(aurocs)
    elif len(kept):
        tabulated = tabulate(kept, entry.fit.prob[mask], entry.fit.flagged[mask])
        whole = score(tabulated, once(len(kept)))
        point = {name: float(values[0]) for name, values in whole._asdict().items()}
        if n_groups > 1:
            draws = score(tabulated, drawn)
            intervals = {name: interval(values) for name, values in draws._asdict().items()}
            calibration["ece_unbiased"], of_ece = unbiased(point["ece"], draws.ece)
            intervals |= {"ece": UNDEFINED, "ece_unbiased": of_ece}
            aurocs = draws.auroc
        calibration["smooth_ece"] = smooth_ece(kept, entry.fit.prob[mask])
    row = Row(
        detector=entry.detector,
        subset=subset.name,
        n=len(kept),
        n_groups=n_groups,
        **point,
        **calibration,
        auroc_ci=intervals["auroc"],
        intervals=intervals,
        forwards=entry.forwards,
        note=_note(kept, n_groups, intervals["auroc"]),
    )
    return Summary(row, aurocs)


def _note(labels: Int[np.ndarray, " sample"], n_groups: int, ci: Interval) -> str:
    """Say what is undefined or thin."""
    rarer = int(min(labels.sum(), len(labels) - labels.sum()))
    if not len(labels):
        return "no answers"
    if not rarer:
        return f"{'hallucinated' if labels[0] else 'right'} answers only: AUROC is not defined"
    if n_groups < 2:
        return "one group: no interval"
    if not isfinite(ci.low):
        return f"{rarer} answers of the rarer label: too many resamples hold one label only"
    if n_groups < FEW_GROUPS:
        return f"caution: {n_groups} groups are drawn; intervals of so few are too narrow"
    if rarer < ENOUGH:
        return f"caution: {rarer} answers of the rarer label, below {ENOUGH}"
    return ""
