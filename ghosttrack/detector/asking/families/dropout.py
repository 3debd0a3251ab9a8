"""Leave entries of the residual stream's updates out at random."""

from ghosttrack.detector.asking.disturbance import disturbed, survival, survival_specs
from ghosttrack.detector.asking.family import Copy, CopyContext, Rescoring
from ghosttrack.models.changes import Change, ChangeKind
from ghosttrack.questions.sets import Question

DROPOUT = 0.1


def copies(question: Question, n_copies: int, _: CopyContext) -> tuple[Copy, ...]:
    """Draw anew for every copy."""
    changes = [Change(ChangeKind.dropout, scale=DROPOUT, seed=seed) for seed in range(n_copies)]
    return disturbed(question, question.prompt, changes)


FAMILY = Rescoring(
    name="dropout",
    order=80,
    default=8,
    needs="nothing",
    specs=survival_specs("dropout", "dropout in the residual stream"),
    copies=copies,
    reduce=survival,
)
