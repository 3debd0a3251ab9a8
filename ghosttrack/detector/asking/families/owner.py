"""Ask about others: an answer that fits somebody else as well is not the subject's own.

The first copy has the subject itself, the others up to as many names of its kind as are counted, in
the question's shortest statement or, where it has none, in the question. Names that share a word
with the subject come first: whom a model confuses with the subject is likeliest among them.
"""

from math import nan

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.asking.family import (
    Copy,
    CopyContext,
    Echo,
    Finding,
    Rescoring,
    log_mean_exp,
)
from ghosttrack.detector.table import FRACTION, REAL, StatisticSpec, define
from ghosttrack.questions.names import NAME, others, statement
from ghosttrack.questions.sets import Question

N_NEAR = 12
"""Names that come first: those likeliest to be confused with the subject."""


def _specs(prefix: str, whom: str) -> tuple[StatisticSpec, ...]:
    return define(
        "owner",
        ("rank", FRACTION, +1, f"share of {whom} names that give the answer more strongly"),
        ("gap", REAL, -1, f"own lp minus the highest lp of {whom} names"),
        ("z", REAL, -1, f"own lp in standard deviations above the mean of {whom} names"),
        ("pmi", REAL, -1, f"own lp minus the log of the mean probability of {whom} names"),
        prefix=prefix,
    )


OWNER_SPECS = _specs("owner_", "other")
NEAR_SPECS = _specs("owner_near_", f"the {N_NEAR} nearest other")


def copies(question: Question, n_names: int, context: CopyContext) -> tuple[Copy, ...]:
    """Draw the others and put them in the subject's place."""
    text, rest = statement(question), others(question, context.names, n_names, context.rng)
    if not text or not rest:
        return ()
    return tuple(Copy(text.replace(NAME, name), name) for name in (question.subject, *rest))


def reduce(echo: Echo) -> Finding:
    """Set the subject's own lp against that of all others, and of the nearest."""
    own, rest = echo.logprobs[0], echo.logprobs[1:]
    values = (*against(own, rest), *against(own, rest[:N_NEAR]))
    return Finding(values, rival=1 + int(rest.argmax()))


def against(own: float, rest: Float[np.ndarray, " name"]) -> tuple[float, ...]:
    """Rank, gap, z and PMI of the subject's own lp among those of other names."""
    sd = rest.std()
    z = (own - rest.mean()) / sd if sd > 0 else nan
    numbers = ((rest > own).mean(), own - rest.max(), z, own - log_mean_exp(rest))
    return tuple(map(float, numbers))


FAMILY = Rescoring(
    name="owner",
    order=30,
    default=32,
    needs="a subject in its text, and other names of its kind",
    specs=OWNER_SPECS + NEAR_SPECS,
    copies=copies,
    reduce=reduce,
    is_for_siblings=True,
)
