"""Plain loops over answers in order of their probability, once per draw, that numba compiles.

Arguments of all: `counts` [draw group], how often a draw holds each group; per answer, by falling
probability, `group_of`, `positive` and `ends`, whether a block of ties ends there.
"""
# numba infers types, and takes neither records nor keyword arguments
# ruff: noqa: ANN001, ANN201, PLR0913

from typing import no_type_check

import numpy as np

from ghosttrack.jit import exact


@exact
@no_type_check
def curves(counts, group_of, positive, ends, recall, out):
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
def pairs(counts, group_of, positive, ends, stratum, wins, every):
    """Pairs of a positive and a negative answer of one stratum, per draw and stratum.

    Answers of a stratum (numbered from 0) stand together, and a block of ties ends with it. `wins`
    counts pairs in which the positive one has the greater probability, ties half.
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
            at = stratum[i]
            wins[draw, at] += (in_passed - in_hits) * (hits + 0.5 * in_hits)
            hits += in_hits
            negatives += in_passed - in_hits
            in_hits, in_passed = 0.0, 0.0
            if i + 1 == len(group_of) or stratum[i + 1] != at:
                every[draw, at] = hits * negatives
                hits, negatives = 0.0, 0.0
