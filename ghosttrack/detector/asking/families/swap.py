"""Exchange the first word of the subject's name, the rest, or all of it.

The first copy has the subject itself, then come as many names as are counted of each kind, in the
question's shortest statement or, where it has none, in the question. Whole names share no word with
the subject's. A name of one word has whole swaps alone.
"""

from math import nan

import numpy as np

from ghosttrack.detector.asking.family import (
    Copy,
    CopyContext,
    Echo,
    Finding,
    Rescoring,
    log_mean_exp,
)
from ghosttrack.detector.table import FRACTION, LOG_PROB, POSITIVE, REAL, StatisticSpec, define
from ghosttrack.questions.names import NAME, other_parts, statement, strangers
from ghosttrack.questions.sets import Question

KINDS = {"first": "another first name", "rest": "another last name", "whole": "another name"}


def _specs(kind: str, changed: str) -> tuple[StatisticSpec, ...]:
    return define(
        "swap",
        ("logmean", LOG_PROB, +1, f"log of the answer's mean probability with {changed}"),
        ("max", LOG_PROB, +1, f"greatest lp with {changed}"),
        ("sd", POSITIVE, 0, f"standard deviation of lp with {changed}"),
        ("agree", FRACTION, +1, f"share of swaps to {changed} with the same greedy answer"),
        ("entropy", POSITIVE, 0, f"mean next-token entropy along the answer with {changed}"),
        ("drop", REAL, -1, f"own lp minus the log of that mean probability, {changed}"),
        prefix=f"swap_{kind}_",
    )


SPECS = (
    *(spec for kind, changed in KINDS.items() for spec in _specs(kind, changed)),
    *define("swap", ("swap_interaction", REAL, -1, "drop of both parts less the drops of either")),
)


def copies(question: Question, n_names: int, context: CopyContext) -> tuple[Copy, ...]:
    """Draw the names and put them in the subject's place."""
    text, (names, rng, _) = statement(question), context
    firsts, rests = other_parts(question, names, n_names, rng)
    wholes = strangers(question, names, n_names, rng)
    if not text or not wholes or (firsts and not len(firsts) == len(rests) == len(wholes)):
        return ()
    chosen = zip(KINDS, (firsts, rests if firsts else (), wholes), strict=True)
    swaps = [(kind, name) for kind, drawn in chosen for name in drawn]
    return tuple(
        Copy(text.replace(NAME, name), name, kind=kind)
        for kind, name in [("", question.subject), *swaps]
    )


def reduce(echo: Echo) -> Finding:
    """Sum the names of each kind up, and set both parts against either."""
    kinds, own = np.array([copy.kind for copy in echo.copies]), float(echo.logprobs[0])
    values: list[float] = []
    drops: list[float] = []
    for kind in KINDS:
        rows = kinds == kind
        if not rows.any():
            values += [nan] * 6
            drops.append(nan)
            continue
        lp = echo.logprobs[rows]
        logmean = log_mean_exp(lp)
        drops.append(own - logmean)
        numbers = (lp.max(), lp.std(), echo.agrees[rows].mean(), echo.entropies[rows].mean())
        values += [logmean, *map(float, numbers), drops[-1]]
    first, rest, whole = drops
    return Finding((*values, whole - first - rest))


FAMILY = Rescoring(
    name="swap",
    order=20,
    default=8,
    needs="a subject in its text, and other names of its kind",
    specs=SPECS,
    copies=copies,
    reduce=reduce,
    is_for_siblings=True,
)
