"""Disturb the residual stream at every position: what is known well survives."""

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
    return disturbed(question, question.prompt, noises(n_copies, context.n_layers))


FAMILY = Rescoring(
    name="noise_all",
    order=70,
    default=N_NOISES,
    needs="nothing",
    specs=survival_specs("noise_all", "noise at every position"),
    copies=copies,
    reduce=survival,
)
