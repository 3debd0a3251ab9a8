"""What the numbers allow to say of tracking: do tracks last, do links carry, does it help?"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.table import Table
from ghosttrack.evaluation.bootstrap import Resamples, interval, once, resample
from ghosttrack.evaluation.result import CausalRate, NullComparison, Pair
from ghosttrack.evaluation.roster import DECISIVE_NULL, GAIN, NULL

REAL = "tracks"


def persistence(
    measure: str, values: Mapping[str, Float[np.ndarray, " sample"]], resamples: Resamples
) -> tuple[NullComparison, ...]:
    """Compare a measure of persistence with each null's, with cluster-bootstrap intervals.

    Values are per answer, under `tracks` and under each `null:<kind>`; NaN where an answer has no
    such track, which leaves it out of that mean. Draws of groups are shared with the detectors.
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

    Intervals are by draws of windows. `links` are as `detector.causal` found them, `layers` the
    block index of each hook point.
    """
    if links is None or not len(links):
        return ()
    pair, passes, by_chance, drop, carried = (
        links.column(name) for name in ("pair", "passes", "by_chance", "drop", "carried")
    )
    resamples = resample([str(window) for window in links.column("window")], n_resamples, seed)
    masks = {"all": np.ones(len(links), dtype=bool)}
    masks |= {
        f"{layers[upper]} to {layers[upper + 1]}": pair == upper
        for upper in np.unique(pair).astype(int).tolist()
    }
    rows = []
    for name, mask in masks.items():
        draws, whole = resamples.subset(mask), once(int(mask.sum()))
        real, null = passes[mask], by_chance[mask]
        (rate,), (chance,) = whole.mean(real), whole.mean(null)
        rates, chances = draws.mean(real), draws.mean(null)
        rows.append(
            CausalRate(
                layers=name,
                n=int(mask.sum()),
                rate=float(rate),
                ci=interval(rates),
                chance=float(chance),
                chance_ci=interval(chances),
                net=float(rate - chance),
                net_ci=interval(rates - chances),
                drop=float(drop[mask].mean()),
                carried=float(carried[mask].mean()),
            )
        )
    return tuple(rows)


def claim(paired: tuple[Pair, ...]) -> str:
    """State whether tracking helps.

    It helps when tracks add to output scores, probe and raw latents, and real links beat those of
    every null, each by a paired interval above 0 on all answers; those of nulls hold for all nulls
    at once. That a null wins is not said of one bank: another may have it otherwise.
    """
    found = {(pair.a, pair.b): pair for pair in paired if pair.subset == "all"}
    gain, shuffled = found.get(GAIN), found.get(DECISIVE_NULL)
    if gain is None or shuffled is None:
        missing = " and ".join(
            f"{a} minus {b}" for a, b in (GAIN, DECISIVE_NULL) if (a, b) not in found
        )
        return f"Whether tracking helps was not tested: this evaluation has no {missing}."
    numbers = (
        f"tracks add {_signed(gain)} AUROC to output scores, probe and raw latents; "
        f"real links score {_signed(shuffled)} against shuffled ones"
    )
    unbeaten = [
        pair for (a, b), pair in found.items() if (a, b[: len(NULL)]) == ("tracks", NULL)
        and not pair.ci.low > 0  # an interval that is not defined beats nothing
    ]  # fmt: skip
    if gain.ci.low > 0 and not unbeaten:
        return f"Tracking helps: {numbers} (95 % paired intervals, above 0 for every null)."
    return (
        f"Tracking is not shown to help: {numbers} (95 % paired intervals).{_why(gain, unbeaten)}"
    )


def _why(gain: Pair, unbeaten: list[Pair]) -> str:
    """Say which of the conditions does not hold."""
    said = ""
    if not gain.ci.low > 0:
        said += " Statistics of tracks are not shown to add to the others."
    if unbeaten:
        names = ", ".join(pair.b.removeprefix(NULL) for pair in unbeaten)
        said += (
            f" Real links are not shown to beat those that mean nothing ({names}): what statistics"
            " of tracks tell need not come from following latents."
        )
    return said


def _signed(pair: Pair) -> str:
    return f"{pair.delta:+.3f} [{pair.ci.low:+.3f}, {pair.ci.high:+.3f}]"
