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

from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.models.changes import Change
from ghosttrack.questions.sets import Question

Names = Mapping[str, tuple[str, ...]]


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
