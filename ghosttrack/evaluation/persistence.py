"""Do tracks last longer than links that mean nothing would let them?"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.evaluation.bootstrap import Resamples, bootstrap, interval
from ghosttrack.evaluation.result import Persistence

REAL = "tracks"


def persistence(
    measure: str, values: Mapping[str, Float[np.ndarray, " sample"]], resamples: Resamples
) -> tuple[Persistence, ...]:
    """Compare a measure of persistence with each null's, with cluster-bootstrap intervals.

    Args:
        measure: Names what is compared.
        values: Per answer, under `tracks` and under each `null:<kind>`; NaN where an answer has no
            such track, which leaves it out of that mean.
        resamples: Draws of groups, shared with the detectors.
    """
    if REAL not in values:
        return ()
    real = values[REAL]
    real_draws = bootstrap(lambda weights: _mean(real, weights), resamples)
    once = np.ones((1, len(real)), dtype=np.int64)
    rows = []
    for name, null in values.items():
        if name == REAL:
            continue
        null_draws = bootstrap(lambda weights, null=null: _mean(null, weights), resamples)
        mean, null_mean = float(_mean(real, once)[0]), float(_mean(null, once)[0])
        rows.append(
            Persistence(
                measure=measure,
                null=name,
                n=int(np.isfinite(real).sum()),
                mean=mean,
                mean_ci=interval(real_draws),
                null_mean=null_mean,
                difference=mean - null_mean,
                ci=interval(real_draws - null_draws),
            )
        )
    return tuple(rows)


def _mean(
    values: Float[np.ndarray, " sample"], weights: Int[np.ndarray, "block sample"]
) -> Float[np.ndarray, " block"]:
    known = np.isfinite(values)
    columns = np.column_stack([np.where(known, values, 0.0), known])
    total, n = (weights.astype(np.float64) @ columns).T
    with np.errstate(invalid="ignore"):
        return total / n
