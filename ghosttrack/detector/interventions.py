"""Statistics under intervention: ask again with one thing changed, and score the same answer.

Nothing is generated: each copy of a question is a prompt after which the model's first answer is
read back token by token, and all copies of all questions go through the model as one batch. `lp` is
the log-probability of that answer as a whole, in nats.

Sources: paraphrase: SelfCheckGPT (Manakul 2023) and SAC3 (Zhang 2023), with the answer scored where
they compare samples; the owner's names: the popularity prior of PopQA (Mallen 2023) and the
domain-conditional PMI of Holtzman 2021.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.data.questions import Question, QuestionSet
from ghosttrack.detector.answers import Answers
from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.detector.table import Table
from ghosttrack.models.lm import LM
from ghosttrack.models.score import TokenScores, score

Names = Mapping[str, tuple[str, ...]]


class Copy(NamedTuple):
    """One intervened form of a question."""

    prompt: str
    subject: str
    """Whom the copy asks about."""


class Echo(NamedTuple):
    """How the model takes its own answer after each copy of one question."""

    logprobs: Float[np.ndarray, " copy"]
    """Of the whole answer."""
    agrees: Bool[np.ndarray, " copy"]
    """Greedy decoding would give the same answer."""
    entropies: Float[np.ndarray, " copy"]
    """Mean over the answer's tokens."""


class Finding(NamedTuple):
    """What one family says about one answer."""

    values: tuple[float, ...]
    """In the order of the family's specs."""
    rival: str = ""
    """The other subject to whom the answer fits best, where the family can tell."""


@dataclass(frozen=True)
class Family:
    """One kind of intervention.

    Attributes:
        name: Unique; the columns' names begin with it.
        specs: One per column.
        copies: Makes the copies of a question, none where it lacks what the family needs; the
            generator is the question's own.
        reduce: Turns the copies and their echo into the columns.
    """

    name: str
    specs: tuple[StatisticSpec, ...]
    copies: Callable[[Question, Names, np.random.Generator], tuple[Copy, ...]]
    reduce: Callable[[Sequence[Copy], Echo], Finding]


@dataclass(frozen=True)
class Interventions:
    """What the families found, in the answers' order."""

    table: Table
    """Columns of the families that had copies; NaN where a question lacks what a family needs."""
    forwards: dict[str, float]
    """Family to its mean number of copies per answer, each one forward pass."""
    seconds: dict[str, float]
    """Family to its part of the wall time, by the tokens that it put into the common batch."""
    rivals: tuple[str, ...]
    """The other subject to whom the answer fits best; "" where nobody was asked about."""
    left_out: tuple[str, ...]
    """Families for which no question had what they need."""

    @property
    def gaps(self) -> Float[np.ndarray, " sample"]:
        """Owner gap per answer: lp with the own name minus lp with the rival's; NaN = not asked."""
        if "owner_gap" not in self.table.names:
            return np.full(len(self.table), np.nan)
        return self.table.column("owner_gap")


def intervene(
    lm: LM, questions: QuestionSet, answers: Answers, families: Sequence[Family], seed: int
) -> Interventions:
    """Score the model's answers again under every family.

    Args:
        lm: The model that gave the answers.
        questions: Holds the question of each answer, by id; others are ignored.
        answers: To be scored again.
        families: Each name once.
        seed: Of the drawn names, together with the question's id: neither the other questions nor
            their order changes what is drawn.
    """
    began = time.perf_counter()
    by_id = {question.id: question for question in questions.questions}
    asked = [by_id[question_id] for question_id in answers.question_ids]
    tried = [_ask(family, asked, questions.names, seed) for family in families]
    rounds = [one for one in tried if one.n_copies]
    prompts = _encode(lm, [copy.prompt for one in rounds for copy in one.flat()])
    spoken = [answers.token_ids[sample] for one in rounds for sample in one.samples()]
    scores = score(lm, prompts, spoken)
    starts = np.cumsum([0, *(one.n_copies for one in rounds)])
    slices = [slice(start, stop) for start, stop in itertools.pairwise(starts)]
    found = [one.find(scores[rows]) for one, rows in zip(rounds, slices, strict=True)]
    tokens = [sum(map(len, prompts[rows])) + sum(map(len, spoken[rows])) for rows in slices]
    values = [np.array([one.values for one in part], dtype=np.float64) for part in found]
    seconds = time.perf_counter() - began
    names = [one.family.name for one in rounds]
    return Interventions(
        table=Table(
            tuple(spec.name for one in rounds for spec in one.family.specs),
            np.concatenate([np.empty((len(answers), 0)), *values], axis=1),
        ),
        forwards={one.family.name: one.n_copies / len(answers) for one in rounds},
        seconds={n: seconds * part / sum(tokens) for n, part in zip(names, tokens, strict=True)},
        rivals=_rivals(found, len(answers)),
        left_out=tuple(one.family.name for one in tried if not one.n_copies),
    )


class _Round(NamedTuple):
    """One family's copies of all questions."""

    family: Family
    by_answer: tuple[tuple[Copy, ...], ...]
    """Parallel to the answers."""

    @property
    def n_copies(self) -> int:
        return sum(map(len, self.by_answer))

    def flat(self) -> Iterator[Copy]:
        return itertools.chain.from_iterable(self.by_answer)

    def samples(self) -> Iterator[int]:
        """Name the answer that each copy belongs to."""
        return (sample for sample, group in enumerate(self.by_answer) for _ in group)

    def find(self, scores: Sequence[TokenScores]) -> list[Finding]:
        """Read the family's columns off the scores of `flat()`."""
        echo = Echo(
            np.array([one.logprobs.sum() for one in scores], dtype=np.float64),
            np.array([one.argmax_agrees for one in scores], dtype=bool),
            np.array([one.entropies.mean() for one in scores], dtype=np.float64),
        )
        found, start = [], 0
        for group in self.by_answer:
            rows = slice(start, start + len(group))
            start = rows.stop
            found.append(self._find_one(group, Echo(*(field[rows] for field in echo))))
        return found

    def _find_one(self, group: tuple[Copy, ...], echo: Echo) -> Finding:
        if not group:
            return Finding((np.nan,) * len(self.family.specs))
        return self.family.reduce(group, echo)


def _ask(family: Family, questions: Sequence[Question], names: Names, seed: int) -> _Round:
    groups = (
        family.copies(question, names, _generator(seed, family.name, question.id))
        for question in questions
    )
    return _Round(family, tuple(groups))


def _generator(seed: int, *names: str) -> np.random.Generator:
    """Make a generator that belongs to these names alone."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _encode(lm: LM, texts: Sequence[str]) -> list[list[int]]:
    """Encode every text, equal ones once."""
    known = {text: lm.encode(text) for text in dict.fromkeys(texts)}
    return [known[text] for text in texts]


def _rivals(found: Sequence[Sequence[Finding]], n_answers: int) -> tuple[str, ...]:
    """Take each answer's rival from the first family that names one."""
    return tuple(
        next((part[sample].rival for part in found if part[sample].rival), "")
        for sample in range(n_answers)
    )
