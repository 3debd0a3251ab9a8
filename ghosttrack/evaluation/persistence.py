"""Do tracks last longer than links that mean nothing would let them?"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.evaluation.bootstrap import Resamples, bootstrap, interval
from ghosttrack.evaluation.result import Persistence

REAL = "tracks"


def persistence(
    lengths: Mapping[str, Float[np.ndarray, " sample"]], resamples: Resamples
) -> tuple[Persistence, ...]:
    """Compare mean confirmed track length with each null's, with cluster-bootstrap intervals.

    Args:
        lengths: Mean confirmed track length per answer in layers, under `tracks` and under each
            `null:<kind>`; NaN where an answer has no confirmed track, which leaves it out of that
            mean.
        resamples: Draws of groups, shared with the detectors.
    """
    if REAL not in lengths:
        return ()
    real = lengths[REAL]
    real_draws = bootstrap(lambda weights: _mean(real, weights), resamples)
    once = np.ones((1, len(real)), dtype=np.int64)
    rows = []
    for name, null in lengths.items():
        if name == REAL:
            continue
        null_draws = bootstrap(lambda weights, null=null: _mean(null, weights), resamples)
        mean_length, null_length = float(_mean(real, once)[0]), float(_mean(null, once)[0])
        rows.append(
            Persistence(
                null=name,
                n=int(np.isfinite(real).sum()),
                mean_length=mean_length,
                mean_length_ci=interval(real_draws),
                null_length=null_length,
                difference=mean_length - null_length,
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
