"""What families share that disturb the residual stream while the question stays as it is."""

from collections.abc import Iterable

from ghosttrack.detector.asking.family import Copy, Echo, Finding, log_mean_exp
from ghosttrack.detector.spec import FRACTION, LOG_PROB, POSITIVE, StatisticSpec, define
from ghosttrack.models.changes import Change, ChangeKind
from ghosttrack.questions.sets import Question

NOISE_DEPTHS, NOISE_SCALES = (0.0, 1 / 3, 2 / 3), (0.3, 1.0)
"""Where noise enters, as a share of the blocks, and its length over the residual stream's."""
N_NOISES = len(NOISE_DEPTHS) * len(NOISE_SCALES)


def survival_specs(family: str, what: str) -> tuple[StatisticSpec, ...]:
    """Say what `survival` gives."""
    return define(
        family,
        ("survival", FRACTION, -1, f"share of passes with {what} that keep the greedy answer"),
        ("logmean", LOG_PROB, -1, f"log of the answer's mean probability with {what}"),
        ("sd", POSITIVE, +1, f"standard deviation of lp with {what}"),
        prefix=f"{family}_",
    )


def survival(echo: Echo) -> Finding:
    """Tell how well an answer stands being disturbed."""
    lp = echo.logprobs
    return Finding((float(echo.agrees.mean()), log_mean_exp(lp), float(lp.std())))


def disturbed(question: Question, where: str, changes: Iterable[Change]) -> tuple[Copy, ...]:
    """Ask the question as it is, with every one of the changes at a text that it holds."""
    if not where:
        return ()
    bare = Copy(question.prompt, question.subject, marked=where)
    return tuple(bare._replace(change=change) for change in changes)


def noises(n_copies: int, n_layers: int) -> list[Change]:
    """Noise at a few depths and scales, the shallowest first."""
    grid = [(depth, scale) for depth in NOISE_DEPTHS for scale in NOISE_SCALES]
    return [
        Change(ChangeKind.noise, int(depth * n_layers), scale, seed=at)
        for at, (depth, scale) in enumerate(grid[:n_copies])
    ]
