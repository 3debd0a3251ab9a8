"""Scores of a detector under draws of groups: the plain sample is the case of one draw of all.

Ties are blocks: answers of one probability pass a threshold together. Hallucinated is positive.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.evaluation import kernels
from ghosttrack.evaluation.bootstrap import Resamples, once

N_BINS = 10
"""Calibration bins; at 3,000 answers the error of a perfect detector is then about 0.01."""
RECALL_OF_FPR95 = 0.95


class Scores(NamedTuple):
    """One value per set of weights; NaN where a score is not defined."""

    auroc: Float[np.ndarray, " resample"]
    auprc: Float[np.ndarray, " resample"]
    auprc_correct: Float[np.ndarray, " resample"]
    accuracy: Float[np.ndarray, " resample"]
    balanced_accuracy: Float[np.ndarray, " resample"]
    precision: Float[np.ndarray, " resample"]
    recall: Float[np.ndarray, " resample"]
    f1: Float[np.ndarray, " resample"]
    ece: Float[np.ndarray, " resample"]
    brier: Float[np.ndarray, " resample"]
    fpr95: Float[np.ndarray, " resample"]
    aurc: Float[np.ndarray, " resample"]


class Ranked(NamedTuple):
    """Answers sorted by falling probability."""

    order: Int[np.ndarray, " sample"]
    ends: Bool[np.ndarray, " sample"]
    """Whether a block of ties ends there, in sorted order."""
    positive: Bool[np.ndarray, " sample"]
    """In sorted order."""


class Tabulated(NamedTuple):
    """A detector's answers, worked up once so that every draw is cheap."""

    ranked: Ranked
    columns: Float[np.ndarray, "sample column"]
    """What the scores that are sums over answers add up, see `tabulate`."""


def tabulate(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    flagged: Bool[np.ndarray, " sample"],
) -> Tabulated:
    """Sort and tabulate at least one answer.

    Args:
        labels: 1 = hallucinated.
        prob: Probability of hallucination, in [0, 1].
        flagged: Called hallucinated, by thresholds that were chosen elsewhere.
    """
    positive = labels == 1
    outcomes = [flagged & positive, ~flagged & positive, flagged & ~positive, ~flagged & ~positive]
    gap = (prob - labels)[:, None]
    in_bin = bin_of(prob)[:, None] == np.arange(N_BINS)
    ranked = _rank(labels, prob, np.zeros_like(labels))
    return Tabulated(ranked, np.column_stack([*outcomes, gap**2, in_bin * gap]))


def score(tabulated: Tabulated, draws: Resamples) -> Scores:
    """Compute every score under every draw."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Scores(
            **_curve_scores(tabulated.ranked, draws), **_sum_scores(draws.sums(tabulated.columns))
        )


def plain_auroc(labels: Int[np.ndarray, " sample"], prob: Float[np.ndarray, " sample"]) -> float:
    """Compute the chance that a hallucinated answer scores above a right one, ties counting half.

    >>> plain_auroc(np.array([1, 0, 1]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    return float(mean_auroc(labels, prob, np.zeros_like(labels), once(len(labels)))[0])


def mean_auroc(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    strata: Int[np.ndarray, " sample"],
    draws: Resamples,
) -> Float[np.ndarray, " resample"]:
    """Compute the AUROC inside every stratum and take the plain mean over strata.

    >>> labels, prob = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.1, 0.2])
    >>> mean_auroc(labels, prob, np.array([0, 0, 5, 5]), once(4)).tolist()
    [0.5]
    """
    won = _within(labels, prob, strata, draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (won.wins / won.pairs).mean(axis=1)


def paired_auroc(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    strata: Int[np.ndarray, " sample"],
    draws: Resamples,
) -> Float[np.ndarray, " resample"]:
    """Compute the AUROC over those pairs that share a stratum; NaN where there are none.

    >>> labels, prob = np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.1, 0.2])
    >>> paired_auroc(labels, prob, np.array([0, 0, 0, 5]), once(4)).tolist()
    [1.0]
    """
    won = _within(labels, prob, strata, draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        return won.wins.sum(axis=1) / won.pairs.sum(axis=1)


def bin_of(prob: Float[np.ndarray, " sample"], n_bins: int = N_BINS) -> Int[np.ndarray, " sample"]:
    """Put answers into bins of equal mass; answers of one probability share a bin.

    >>> bin_of(np.array([0.1, 0.9, 0.2, 0.9]), n_bins=2).tolist()
    [0, 1, 0, 1]
    """
    lowest_place = np.searchsorted(np.sort(prob), prob, side="left")
    return np.minimum(lowest_place * n_bins // max(len(prob), 1), n_bins - 1)


class Won(NamedTuple):
    """Pairs of a hallucinated and a right answer of one stratum, by weight."""

    wins: Float[np.ndarray, "resample stratum"]
    """Those in which the hallucinated one scores higher, ties counting half."""
    pairs: Float[np.ndarray, "resample stratum"]


def _rank(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    strata: Int[np.ndarray, " sample"],
) -> Ranked:
    """Sort strata apart, and each by falling probability; every draw reuses the order."""
    order = np.lexsort((-prob, strata))
    is_new = (np.diff(prob[order]) != 0) | (np.diff(strata[order]) != 0)
    return Ranked(order, np.append(is_new, True), labels[order] == 1)


def _within(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    strata: Int[np.ndarray, " sample"],
    draws: Resamples,
) -> Won:
    _, stratum = np.unique(strata, return_inverse=True)
    order, ends, positive = _rank(labels, prob, stratum)
    shape = len(draws.counts), int(stratum.max()) + 1
    won = Won(np.zeros(shape), np.zeros(shape))
    kernels.pairs(draws.counts, draws.group_of[order], positive, ends, stratum[order], *won)
    return won


def _curve_scores(ranked: Ranked, draws: Resamples) -> dict[str, Float[np.ndarray, " resample"]]:
    """Scores that need the whole order."""
    order, ends, positive = ranked
    names = ("auroc", "fpr95", "auprc", "auprc_correct", "aurc")
    found = np.empty((len(names), len(draws.counts)))
    group_of = draws.group_of[order]
    kernels.curves(draws.counts, group_of, positive, ends, RECALL_OF_FPR95, found)
    return dict(zip(names, found, strict=True))


def _sum_scores(
    sums: Float[np.ndarray, "resample column"],
) -> dict[str, Float[np.ndarray, " resample"]]:
    """Scores that are sums over answers."""
    tp, fn, fp, tn, squares = sums[:, :5].T
    total = tp + fn + fp + tn
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    return {
        "accuracy": (tp + tn) / total,
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": tp / (tp + fp),
        "recall": recall,
        "f1": np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
        "ece": np.abs(sums[:, 5:]).sum(axis=1) / total,
        "brier": squares / total,
    }
