"""Which answers a detector is judged on, beside all of them."""

from typing import NamedTuple

import numpy as np

from ghosttrack.detector.answers import Answers
from ghosttrack.evaluation.rows import Subset

ALL = "all"
CONFIDENT = {"p>0.5": 0.5, "p>0.8": 0.8}
"""Name to the answer probability that must be exceeded."""
WITHIN = "within relation"
LEAST_OF_EACH = 11
"""Answers of each label from which on a relation has an AUROC of its own: below, one answer more
or less moves it by a tenth."""


class Subsets(NamedTuple):
    """Those that the answers have, and why they have not the others."""

    present: tuple[Subset, ...]
    left_out: dict[str, str]


def subsets(answers: Answers) -> Subsets:
    """Find the subsets that these answers have."""
    present = [Subset(ALL, np.ones(len(answers), dtype=bool))]
    left_out = {}
    for name, least in CONFIDENT.items():
        if np.isnan(answers.prob).all():
            left_out[name] = "the answers' probabilities are not known"
        else:
            present.append(Subset(name, answers.prob > least))
    _, relation = np.unique(answers.relations, return_inverse=True)
    wrong = np.bincount(relation, answers.labels)
    right = np.bincount(relation) - wrong
    judged = np.minimum(wrong, right) >= LEAST_OF_EACH
    if len(judged) > 1 and judged.any():
        present.append(Subset(WITHIN, judged[relation], relation))
    elif len(judged) > 1:
        left_out[WITHIN] = f"no relation holds {LEAST_OF_EACH} answers of each label"
    return Subsets(tuple(present), left_out)
