"""What a family of interventions is made of.

Sources: paraphrase: SelfCheckGPT (Manakul 2023) and SAC3 (Zhang 2023), with the answer scored where
they compare samples; siblings: self-familiarity (Luo 2023); ablation of the subject: ROME (Meng
2022); noise: INSIDE (Chen 2024); the owner's names: the popularity prior of PopQA (Mallen 2023) and
the domain-conditional PMI of Holtzman 2021.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.detector.table import FRACTION, LOG_PROB, POSITIVE, StatisticSpec, define
from ghosttrack.models.changes import Change, ChangeKind
from ghosttrack.questions.sets import Question

NOISE_DEPTHS, NOISE_SCALES = (0.0, 1 / 3, 2 / 3), (0.3, 1.0)
"""Where noise enters, as a share of the blocks, and its length over the residual stream's."""
N_NOISES = len(NOISE_DEPTHS) * len(NOISE_SCALES)
Names = Mapping[str, tuple[str, ...]]
SUBJECTS = "subjects"
"""What finding them took, among the passes of the families."""


class Copy(NamedTuple):
    """One intervened form of a question."""

    prompt: str
    subject: str
    """Whom the copy asks about."""
    change: Change | None = None
    """Done to the residual streams."""
    marked: str = ""
    """Text in the prompt whose tokens the change is about."""
    kind: str = ""
    """Which of the family's kinds of copy it is, where there are several."""


class CopyContext(NamedTuple):
    """What the copies of one question may be made with."""

    names: Names
    """Of every kind of subject."""
    rng: np.random.Generator
    """The question's own."""
    n_layers: int
    """Blocks of the model."""


class Echo(NamedTuple):
    """How the model takes its own answer after each copy of one question."""

    logprobs: Float[np.ndarray, " copy"]
    """Of the whole answer."""
    agrees: Bool[np.ndarray, " copy"]
    """Greedy decoding would give the same answer."""
    entropies: Float[np.ndarray, " copy"]
    """Mean over the answer's tokens."""
    copies: Sequence[Copy] = ()
    """What was asked."""


class Finding(NamedTuple):
    """What one family says about one answer."""

    values: tuple[float, ...]
    """In the order of the family's specs."""
    rival: int = -1
    """The copy about the other subject to whom the answer fits best, where the family can tell."""


@dataclass(frozen=True)
class Family:
    """One kind of intervention.

    Attributes:
        name: That of its module; the columns' names begin with it.
        order: Its place among the families, ascending.
        default: Copies that it makes where the configuration leaves the number to it.
        needs: Of a question, to have copies at all.
        specs: One per column.
    """

    name: str
    order: int
    default: int
    needs: str
    specs: tuple[StatisticSpec, ...]


@dataclass(frozen=True)
class Rescoring(Family):
    """A family that has the model score the answer that it gave after copies of the question.

    Attributes:
        copies: Makes at most so many copies, by the family's own way to count; none where the
            question lacks what the family needs.
        reduce: Turns the echo of at least one copy into the columns.
        is_for_siblings: Sibling questions can be asked again in the same way.
    """

    copies: Callable[[Question, int, CopyContext], tuple[Copy, ...]]
    reduce: Callable[[Echo], Finding]
    is_for_siblings: bool = False


def generator(seed: int, *names: str) -> np.random.Generator:
    """Make a generator that belongs to these names alone."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def log_mean_exp(logprobs: Float[np.ndarray, " copy"]) -> float:
    """Log of the mean probability."""
    return float(np.logaddexp.reduce(logprobs)) - float(np.log(len(logprobs)))


def noises(n_copies: int, n_layers: int) -> list[Change]:
    """Noise at a few depths and scales, the shallowest first."""
    grid = [(depth, scale) for depth in NOISE_DEPTHS for scale in NOISE_SCALES]
    return [
        Change(ChangeKind.noise, int(depth * n_layers), scale, seed=at)
        for at, (depth, scale) in enumerate(grid[:n_copies])
    ]


def disturbance(
    name: str,
    order: int,
    default: int,
    what: str,
    changes: Callable[[int, int], Sequence[Change]],
    *,
    at_subject: bool = False,
) -> Rescoring:
    """Make a family that disturbs the residual stream while the question stays as it is.

    `changes` gives as many as there are copies, for so many blocks; they are made at the subject or
    at all of the prompt.
    """

    def copies(question: Question, n_copies: int, context: CopyContext) -> tuple[Copy, ...]:
        where = question.subject if at_subject else question.prompt
        bare = Copy(question.prompt, question.subject, marked=where)
        changed = changes(n_copies, context.n_layers) if where else ()
        return tuple(bare._replace(change=change) for change in changed)

    specs = define(
        name,
        ("survival", FRACTION, -1, f"share of passes with {what} that keep the greedy answer"),
        ("logmean", LOG_PROB, -1, f"log of the answer's mean probability with {what}"),
        ("sd", POSITIVE, +1, f"standard deviation of lp with {what}"),
        prefix=f"{name}_",
    )
    needs = "a subject" if at_subject else "nothing"
    return Rescoring(name, order, default, needs, specs, copies, _survival)


def _survival(echo: Echo) -> Finding:
    """Tell how well an answer stands being disturbed."""
    lp = echo.logprobs
    return Finding((float(echo.agrees.mean()), log_mean_exp(lp), float(lp.std())))
