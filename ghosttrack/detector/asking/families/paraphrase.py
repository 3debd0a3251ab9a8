"""Ask in other wordings: what the model knows does not hang on the words of the question."""

from ghosttrack.detector.asking.family import (
    Copy,
    CopyContext,
    Echo,
    Finding,
    Rescoring,
    log_mean_exp,
)
from ghosttrack.detector.table import FRACTION, LOG_PROB, POSITIVE, define
from ghosttrack.questions.sets import Question

SPECS = define(
    "paraphrase",
    ("logmean", LOG_PROB, -1, "log of the answer's mean probability over other wordings"),
    ("min", LOG_PROB, -1, "least lp over other wordings"),
    ("max", LOG_PROB, -1, "greatest lp over other wordings"),
    ("sd", POSITIVE, +1, "standard deviation of lp over other wordings"),
    ("agree", FRACTION, -1, "share of other wordings with the same greedy answer"),
    ("entropy", POSITIVE, +1, "mean next-token entropy along the answer, other wordings"),
    ("first", LOG_PROB, -1, "lp in the first other wording"),
    prefix="paraphrase_",
)


def copies(question: Question, n_copies: int, _: CopyContext) -> tuple[Copy, ...]:
    """Take the first other wordings."""
    return tuple(Copy(text, question.subject) for text in question.wordings[:n_copies])


def reduce(echo: Echo) -> Finding:
    """Sum the wordings up."""
    lp = echo.logprobs
    numbers = (log_mean_exp(lp), lp.min(), lp.max(), lp.std(), echo.agrees.mean())
    return Finding((*map(float, numbers), float(echo.entropies.mean()), float(lp[0])))


FAMILY = Rescoring(
    name="paraphrase",
    order=10,
    default=4,
    needs="another wording",
    specs=SPECS,
    copies=copies,
    reduce=reduce,
    is_for_siblings=True,
)
