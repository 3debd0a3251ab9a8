"""Take the subject away: an answer that stays was not read off the subject.

The copies: the question as it is, then at most three more: without the subject, without the first
word of its name, without the rest (the first word again, where there is no rest).
"""

from math import nan

from ghosttrack.detector.asking.family import Copy, CopyContext, Echo, Finding, Rescoring
from ghosttrack.detector.table import FRACTION, REAL, define
from ghosttrack.models.changes import MASK
from ghosttrack.questions.names import parts
from ghosttrack.questions.sets import Question

SPECS = define(
    "ablate",
    ("drop", REAL, -1, "own lp minus lp with the mean embedding in the subject's place"),
    ("first_drop", REAL, -1, "the same for the first word of the subject's name"),
    ("rest_drop", REAL, -1, "the same for the rest of the subject's name"),
    ("agree", FRACTION, +1, "share of the three with the same greedy answer"),
    prefix="ablate_",
)


def copies(question: Question, n_copies: int, _: CopyContext) -> tuple[Copy, ...]:
    """Mask the subject and its parts."""
    if not question.subject:
        return ()
    first, rest = parts(question.subject)
    bare = Copy(question.prompt, question.subject)
    marks = (question.subject, first, rest or first)[:n_copies]
    return (bare, *(bare._replace(change=MASK, marked=mark) for mark in marks))


def reduce(echo: Echo) -> Finding:
    """Tell what each mask costs."""
    drops = [float(echo.logprobs[0] - lp) for lp in echo.logprobs[1:]]
    drops += [nan] * (3 - len(drops))
    return Finding((*drops, float(echo.agrees[1:].mean())))


FAMILY = Rescoring(
    name="ablate", order=50, default=3, needs="a subject", specs=SPECS, copies=copies, reduce=reduce
)
