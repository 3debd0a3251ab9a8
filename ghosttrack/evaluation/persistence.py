"""Do tracks last longer than links that mean nothing would let them, and do their links carry?"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.table import Table
from ghosttrack.evaluation.bootstrap import Resamples, interval, once, resample
from ghosttrack.evaluation.result import CausalRate, NullComparison

REAL = "tracks"


def persistence(
    measure: str, values: Mapping[str, Float[np.ndarray, " sample"]], resamples: Resamples
) -> tuple[NullComparison, ...]:
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
    real_draws, whole = resamples.mean(real), once(len(real))
    rows = []
    for name, null in values.items():
        if name == REAL:
            continue
        mean, null_mean = float(whole.mean(real)[0]), float(whole.mean(null)[0])
        rows.append(
            NullComparison(
                measure=measure,
                null=name,
                n=int(np.isfinite(real).sum()),
                mean=mean,
                mean_ci=interval(real_draws),
                null_mean=null_mean,
                difference=mean - null_mean,
                ci=interval(real_draws - resamples.mean(null)),
            )
        )
    return tuple(rows)


def causal_rates(
    links: Table | None, layers: Sequence[int], n_resamples: int, seed: int
) -> tuple[CausalRate, ...]:
    """Count the links that pass, per pair of layers and overall.

    Args:
        links: As `detector.causal` found them.
        layers: Block index of each hook point.
        n_resamples: Draws of windows behind the intervals.
        seed: Of the draws.
    """
    if links is None or not len(links):
        return ()
    pair, passes, drop = (links.column(name) for name in ("pair", "passes", "drop"))
    resamples = resample([str(window) for window in links.column("window")], n_resamples, seed)
    masks = {"all": np.ones(len(links), dtype=bool)}
    masks |= {
        f"{layers[upper]} to {layers[upper + 1]}": pair == upper
        for upper in np.unique(pair).astype(int).tolist()
    }
    return tuple(
        CausalRate(
            layers=name,
            n=int(mask.sum()),
            rate=float(passes[mask].mean()),
            ci=interval(resamples.subset(mask).mean(passes[mask])),
            drop=float(drop[mask].mean()),
        )
        for name, mask in masks.items()
    )
