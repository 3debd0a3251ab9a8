"""The one sentence about tracking that the numbers allow."""

from ghosttrack.evaluation.result import Pair
from ghosttrack.evaluation.roster import DECISIVE_NULL, GAIN, NULL


def claim(paired: tuple[Pair, ...]) -> str:
    """State whether tracking helps.

    It helps when tracks add to output scores, probe and raw latents, and real links beat those of
    every null, each by a paired interval above 0 on all answers.
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
        and pair.ci.low <= 0
    ]  # fmt: skip
    if gain.ci.low > 0 and not unbeaten:
        return f"Tracking helps: {numbers} (95 % paired intervals, above 0 for every null)."
    return (
        f"Tracking is not shown to help: {numbers} (95 % paired intervals).{_why(gain, unbeaten)}"
    )


def _why(gain: Pair, unbeaten: list[Pair]) -> str:
    """Say which of the conditions does not hold."""
    said = ""
    if gain.ci.low <= 0:
        said += " Statistics of tracks add nothing to the others."
    if unbeaten:
        names = ", ".join(pair.b.removeprefix(NULL) for pair in unbeaten)
        how = "better" if any(pair.ci.high < 0 for pair in unbeaten) else "as well"
        said += f" Links that mean nothing do {how} ({names}): following them adds nothing."
    return said


def _signed(pair: Pair) -> str:
    return f"{pair.delta:+.3f} [{pair.ci.low:+.3f}, {pair.ci.high:+.3f}]"
