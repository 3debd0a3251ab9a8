"""The one sentence about tracking that the numbers allow."""

from ghosttrack.evaluation.detectors import DECISIVE_NULL, HEADLINE
from ghosttrack.evaluation.result import Pair


def claim(paired: tuple[Pair, ...]) -> str:
    """State whether tracking helps.

    It helps when tracks add to output scores, probe and raw latents, and real links beat shuffled
    ones, both by a paired interval above 0 on all answers.
    """
    found = {(pair.a, pair.b): pair for pair in paired if pair.subset == "all"}
    gain, null = found.get(HEADLINE), found.get(DECISIVE_NULL)
    if gain is None or null is None:
        missing = " and ".join(
            f"{a} minus {b}" for a, b in (HEADLINE, DECISIVE_NULL) if (a, b) not in found
        )
        return f"Whether tracking helps was not tested: this evaluation has no {missing}."
    numbers = (
        f"tracks add {_signed(gain)} AUROC to output scores, probe and raw latents; "
        f"real links score {_signed(null)} against shuffled ones"
    )
    if gain.ci.low > 0 and null.ci.low > 0:
        return f"Tracking helps: {numbers} (95 % paired intervals, both above 0)."
    return f"Tracking is not shown to help: {numbers} (95 % paired intervals, not both above 0)."


def _signed(pair: Pair) -> str:
    return f"{pair.delta:+.3f} [{pair.ci.low:+.3f}, {pair.ci.high:+.3f}]"
