"""Scores of a detector under draws of groups: the plain sample is the case of one draw of all.

Ties are blocks: answers of one probability pass a threshold together. Hallucinated is positive.
"""

from typing import NamedTuple, cast, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import brentq
from scipy.special import digamma

from ghosttrack.evaluation.bootstrap import Resamples, once
from ghosttrack.jit import exact

N_BINS = 10
"""Calibration bins; at 3,000 answers the error of a perfect detector is then about 0.01."""
GRID = 1000
"""Places on [0, 1] at which the smooth calibration error is computed."""
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
    prr: Float[np.ndarray, " resample"]


class Tabulated(NamedTuple):
    """A detector's answers, worked up once so that every draw is cheap."""

    order: Int[np.ndarray, " sample"]
    """By falling probability."""
    ends: Bool[np.ndarray, " sample"]
    """Whether a block of ties ends there, in that order."""
    positive: Bool[np.ndarray, " sample"]
    """In that order, too."""
    columns: Float[np.ndarray, "sample column"]
    """What the scores that are sums over answers add up, see `tabulate`."""


def tabulate(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    flagged: Bool[np.ndarray, " sample"],
) -> Tabulated:
    """Sort and tabulate at least one answer.

    `flagged` are those called hallucinated, by thresholds that were chosen elsewhere.
    """
    positive = labels == 1
    outcomes = [flagged & positive, ~flagged & positive, flagged & ~positive, ~flagged & ~positive]
    gap = (prob - labels)[:, None]
    in_bin = bin_of(prob)[:, None] == np.arange(N_BINS)
    ranked = _rank(labels, prob, np.zeros_like(labels))
    return Tabulated(*ranked, np.column_stack([*outcomes, gap**2, in_bin * gap]))


def score(tabulated: Tabulated, draws: Resamples) -> Scores:
    """Compute every score under every draw."""
    with np.errstate(divide="ignore", invalid="ignore"):
        curves, sums = _curve_scores(tabulated, draws), draws.sums(tabulated.columns)
        prr = rejection_ratio(curves["aurc"], *sums[:, :4].reshape(-1, 2, 2).sum(axis=2).T)
        return Scores(**curves, **_sum_scores(sums), prr=prr)


def rejection_ratio(
    aurc: Float[np.ndarray, " resample"],
    n_wrong: Float[np.ndarray, " resample"],
    n_right: Float[np.ndarray, " resample"],
) -> Float[np.ndarray, " resample"]:
    """Say what share of the gain that a perfect ranking has over a random one is reached.

    PRR = (E - AURC) / (E - AURC of a perfect ranking), E the share of wrong answers.

    Source: Malinin 2021; LM-Polygraph's PRR, of answers that are right or wrong, up to the last.
    """
    n = n_wrong + n_right
    perfect = (n_wrong - n_right * (digamma(n + 1) - digamma(n_right + 1))) / n
    return (n_wrong / n - aurc) / (n_wrong / n - perfect)


def plain_auroc(labels: Int[np.ndarray, " sample"], prob: Float[np.ndarray, " sample"]) -> float:
    """Compute the chance that a hallucinated answer scores above a right one, ties counting half.

    >>> plain_auroc(np.array([1, 0, 1]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    return float(paired_auroc(labels, prob, once(len(labels)))[0])


def paired_auroc(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    draws: Resamples,
    strata: Int[np.ndarray, " sample"] | None = None,
) -> Float[np.ndarray, " resample"]:
    """Compute the AUROC over those pairs that share a stratum, if any; NaN where there are none.

    Every pair counts as much: a stratum in which few answers are of the rarer label, whose own
    AUROC is luck, weighs little.

    >>> labels, prob = np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.1, 0.2])
    >>> paired_auroc(labels, prob, once(4), np.array([0, 0, 0, 5])).tolist()
    [1.0]
    """
    strata = np.zeros(len(labels), dtype=np.int64) if strata is None else strata
    order, ends, positive = _rank(labels, prob, strata)
    wins, pairs = np.zeros((2, len(draws.counts)))
    _pairs(draws.counts, draws.group_of[order], positive, ends, strata[order], wins, pairs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return wins / pairs


class Resampled(NamedTuple):
    """An AUROC, and what it is under every draw."""

    point: float
    drawn: Float[np.ndarray, " resample"]


def resampled_auroc(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    draws: Resamples,
    strata: Int[np.ndarray, " sample"] | None = None,
) -> Resampled:
    """Compute `paired_auroc` of the answers as they are, and under every draw."""
    point = paired_auroc(labels, prob, once(len(labels)), strata)
    return Resampled(float(point[0]), paired_auroc(labels, prob, draws, strata))


def smooth_ece(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    weights: Float[np.ndarray, " sample"] | float = 1.0,
) -> float:
    """Compute the smooth calibration error: no bins, no choice of their number.

    Residuals are smoothed over the probability by a reflected Gaussian kernel; the error is the
    mean absolute residual at the width that equals it. Weights have the mean 1.

    Source: Blasiok and Nakkiran 2023, smECE.

    >>> labels = np.array([0, 1] * 500)
    >>> bool(smooth_ece(labels, np.full(1000, 0.5)) < 0.01)
    True
    >>> round(smooth_ece(labels, np.full(1000, 0.9)), 2)
    0.4
    """
    place = np.minimum((prob * GRID).astype(np.int64), GRID - 1)
    residuals = np.bincount(place, weights * (labels - prob), GRID) / max(len(prob), 1)

    def error(width: float) -> float:
        return float(np.abs(gaussian_filter1d(residuals, width * GRID, mode="reflect")).sum())

    finest = error(1 / GRID)
    if finest <= 1 / GRID:
        return finest
    return cast("float", brentq(lambda width: error(width) - width, 1 / GRID, 1.0, xtol=1e-4))


def bin_of(prob: Float[np.ndarray, " sample"], n_bins: int = N_BINS) -> Int[np.ndarray, " sample"]:
    """Put answers into bins of equal mass; answers of one probability share a bin.

    >>> bin_of(np.array([0.1, 0.9, 0.2, 0.9]), n_bins=2).tolist()
    [0, 1, 0, 1]
    """
    lowest_place = np.searchsorted(np.sort(prob), prob, side="left")
    return np.minimum(lowest_place * n_bins // max(len(prob), 1), n_bins - 1)


def _rank(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    strata: Int[np.ndarray, " sample"],
) -> tuple[Int[np.ndarray, " sample"], Bool[np.ndarray, " sample"], Bool[np.ndarray, " sample"]]:
    """Sort strata apart, each by falling probability: order, ends of ties, hallucinated ones."""
    order = np.lexsort((-prob, strata))
    is_new = (np.diff(prob[order]) != 0) | (np.diff(strata[order]) != 0)
    return order, np.append(is_new, True), labels[order] == 1


def _curve_scores(
    tabulated: Tabulated, draws: Resamples
) -> dict[str, Float[np.ndarray, " resample"]]:
    """Scores that need the whole order."""
    order, ends, positive, _ = tabulated
    names = ("auroc", "fpr95", "auprc", "auprc_correct", "aurc")
    found = np.empty((len(names), len(draws.counts)))
    group_of = draws.group_of[order]
    _curves(draws.counts, group_of, positive, ends, RECALL_OF_FPR95, found)
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


# Plain loops over answers by falling probability, once per draw, that numba compiles: it infers
# types, and takes neither records nor keyword arguments. `counts` [draw group] is how often a draw
# holds each group; `group_of`, `positive` and `ends` (of a block of ties) are per answer.


@exact
@no_type_check
def _curves(counts, group_of, positive, ends, recall, out):  # noqa: ANN001, ANN202
    """Scores that need the whole order, per draw.

    Of the ROC curve: area, and false alarms from the first point on where `recall` is reached.
    Then average precision of positive and of negative answers, and the area under risk over
    coverage, where the answers of lowest probability are trusted first.
    """
    for draw in range(len(counts)):
        weights = counts[draw]
        n, n_positive = 0.0, 0.0
        for i in range(len(group_of)):
            weight = weights[group_of[i]]
            n += weight
            if positive[i]:
                n_positive += weight
        n_negative = n - n_positive
        hits, passed, in_hits, in_passed = 0.0, 0.0, 0.0, 0.0
        wins, precision, trusted, right, alarms = 0.0, 0.0, 0.0, 0.0, -1.0
        for i in range(len(group_of)):
            weight = weights[group_of[i]]
            in_passed += weight
            if positive[i]:
                in_hits += weight
            if not ends[i] or in_passed == 0.0:
                continue
            risk = (n_positive - hits) / (n - passed)  # of trusting this block and all below
            trusted += in_passed * risk
            right += (in_passed - in_hits) * risk
            wins += (in_passed - in_hits) * (hits + 0.5 * in_hits)
            hits += in_hits
            passed += in_passed
            precision += in_hits * hits / passed
            if alarms < 0.0 and hits >= recall * n_positive:
                alarms = passed - hits
            in_hits, in_passed = 0.0, 0.0
        is_mixed = n_positive > 0.0 and n_negative > 0.0
        out[0, draw] = wins / (n_positive * n_negative) if is_mixed else np.nan
        out[1, draw] = alarms / n_negative if is_mixed else np.nan
        out[2, draw] = precision / n_positive if n_positive > 0.0 else np.nan
        out[3, draw] = (n_negative - right) / n_negative if n_negative > 0.0 else np.nan
        out[4, draw] = trusted / n if n > 0.0 else np.nan


@exact
@no_type_check
def _pairs(counts, group_of, positive, ends, stratum, wins, every):  # noqa: ANN001, ANN202, PLR0913
    """Pairs of a positive and a negative answer of one stratum, per draw.

    Answers of a stratum stand together, and a block of ties ends with it. `wins` counts pairs in
    which the positive one has the greater probability, ties half.
    """
    for draw in range(len(counts)):
        weights = counts[draw]
        hits, negatives, in_hits, in_passed = 0.0, 0.0, 0.0, 0.0
        for i in range(len(group_of)):
            weight = weights[group_of[i]]
            in_passed += weight
            if positive[i]:
                in_hits += weight
            if not ends[i]:
                continue
            wins[draw] += (in_passed - in_hits) * (hits + 0.5 * in_hits)
            hits += in_hits
            negatives += in_passed - in_hits
            in_hits, in_passed = 0.0, 0.0
            if i + 1 == len(group_of) or stratum[i + 1] != stratum[i]:
                every[draw] += hits * negatives
                hits, negatives = 0.0, 0.0
