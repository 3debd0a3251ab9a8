"""Leave entries of the residual stream's updates out at random."""

from ghosttrack.detector.asking.family import disturbance
from ghosttrack.models.changes import Change, ChangeKind

DROPOUT = 0.1


def changes(n_copies: int, _: int) -> list[Change]:
    """Draw anew for every copy."""
    return [Change(ChangeKind.dropout, scale=DROPOUT, seed=seed) for seed in range(n_copies)]


FAMILY = disturbance("dropout", 80, 8, "dropout in the residual stream", changes)
