"""Disturb the residual stream at the subject: what is known well survives."""

from ghosttrack.detector.asking.disturbance import (
    N_NOISES,
    disturbed,
    noises,
    survival,
    survival_specs,
)
from ghosttrack.detector.asking.family import Copy, CopyContext, Rescoring
from ghosttrack.questions.sets import Question


def copies(question: Question, n_copies: int, context: CopyContext) -> tuple[Copy, ...]:
    """Noise of a few depths and scales."""
    return disturbed(question, question.subject, noises(n_copies, context.n_layers))


FAMILY = Rescoring(
    name="noise_subject",
    order=60,
    default=N_NOISES,
    needs="a subject",
    specs=survival_specs("noise_subject", "noise at the subject"),
    copies=copies,
    reduce=survival,
)
