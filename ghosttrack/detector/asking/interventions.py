"""Statistics under intervention: ask again with one thing changed, and score the same answer.

Nothing is generated but the answers to sibling questions: each copy of a question is a prompt after
which an answer that the model gave is read back token by token, and all copies of all questions go
through the model together. `lp` is the log-probability of that answer as a whole, in nats.

Sources: paraphrase: SelfCheckGPT (Manakul 2023) and SAC3 (Zhang 2023), with the answer scored where
they compare samples; siblings: self-familiarity (Luo 2023); ablation of the subject: ROME (Meng
2022); noise: INSIDE (Chen 2024); the owner's names: the popularity prior of PopQA (Mallen 2023) and
the domain-conditional PMI of Holtzman 2021.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.answers import Answers, respond
from ghosttrack.detector.asking.siblings import find_siblings, templates_of
from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.detector.table import Table
from ghosttrack.models.changes import Change
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import find_subject
from ghosttrack.models.score import Texts, Tokens, Totals, total
from ghosttrack.questions.sets import Question, QuestionSet

Names = Mapping[str, tuple[str, ...]]
SIBLINGS, SIBLING = "siblings", "sibling_"
"""The family, and how its columns begin."""
SIBLING_LP = StatisticSpec(
    f"{SIBLING}lp", SIBLINGS, "mean lp of the model's answers to sibling questions", -np.inf, 0.0,
    -1,
)  # fmt: skip


class Copy(NamedTuple):
    """One intervened form of a question."""

    prompt: str
    subject: str
    """Whom the copy asks about."""
    change: Change | None = None
    """Done to the residual streams."""
    marked: str = ""
    """Text in the prompt whose tokens the change is about."""


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
    rival: int = -1
    """The copy about the other subject to whom the answer fits best, where the family can tell."""


@dataclass(frozen=True)
class Family:
    """One kind of intervention.

    Attributes:
        name: Unique; the columns' names begin with it.
        specs: One per column.
        copies: Makes the copies of a question, none where it lacks what the family needs; the
            generator is the question's own.
        reduce: Turns the echo of the copies into the columns.
        is_for_siblings: Sibling questions can be asked again in the same way.
    """

    name: str
    specs: tuple[StatisticSpec, ...]
    copies: Callable[[Question, Names, np.random.Generator], tuple[Copy, ...]]
    reduce: Callable[[Echo], Finding]
    is_for_siblings: bool = False


class Plan(NamedTuple):
    """What is asked."""

    families: tuple[Family, ...]
    """Each name once."""
    siblings: int
    """Other questions about the same subject, at most."""
    siblings_again: bool
    """Their answers go through the families as well."""


@dataclass(frozen=True)
class Interventions:
    """What the families found, in the answers' order."""

    tables: dict[str, Table]
    """Family to its columns, of those that had copies; NaN where a question lacks what it needs."""
    forwards: dict[str, float]
    """Family to its mean number of forward passes per answer: copies, and tokens of sibling
    answers. Questions about one subject share their siblings; copies that read the same are counted
    each, though they run once."""
    seconds: dict[str, float]
    """Family to its part of the wall time, by the copies that it put into the common batch."""
    rivals: tuple[str, ...]
    """The other subject to whom the answer fits best; "" where nobody was asked about."""
    left_out: tuple[str, ...]
    """Families for which no question had what they need."""

    @property
    def gaps(self) -> Float[np.ndarray, " sample"]:
        """Owner gap per answer: lp with the own name minus lp with the rival's; NaN = not asked."""
        if "owner" not in self.tables:
            return np.full(len(self.rivals), np.nan)
        return self.tables["owner"].column("owner_gap")


def intervene(
    lm: LM, questions: QuestionSet, answers: Answers, plan: Plan, seed: int
) -> Interventions:
    """Score the model's answers again under every family.

    Args:
        lm: The model that gave the answers.
        questions: Holds the question of each answer, by id; the others say how else one can ask.
        answers: To be scored again.
        plan: What is asked.
        seed: Of the drawn names, together with the question's id.
    """
    began = time.perf_counter()
    by_id = {question.id: question for question in questions.questions}
    asked = [by_id[question_id] for question_id in answers.question_ids]
    siblings = find_siblings(asked, templates_of(questions), plan.siblings)
    replies = respond(
        lm, [one.prompt for one in siblings.questions], questions.max_new_tokens, questions.stop
    )
    desk = _Desk(lm, questions.names, seed)
    own = [desk.ask(one, asked, answers.token_ids) for one in plan.families]
    spoken = [reply.token_ids for reply in replies]
    theirs = [
        desk.ask(one, siblings.questions, spoken)
        for one in plan.families
        if one.is_for_siblings and plan.siblings_again
    ]
    desk.run()
    rounds = {one.family.name: one for one in own if one.n_copies}
    found = {name: one.find() for name, one in rounds.items()}
    tables = {name: _columns(rounds[name].family, part) for name, part in found.items()}
    cost = {name: one.n_copies for name, one in rounds.items()}
    if siblings.questions:
        lp = np.array([[reply.scores.logprobs.sum()] for reply in replies], dtype=np.float64)
        parts = [Table((SIBLING_LP.name,), lp), *map(_sibling_columns, theirs)]
        tables[SIBLINGS] = siblings.mean(parts[0].concat(*parts[1:]))
        cost[SIBLINGS] = sum(map(len, spoken)) + sum(one.n_copies for one in theirs)
    left_out = [one.family.name for one in own if not one.n_copies]
    left_out += [SIBLINGS] if plan.siblings and not siblings.questions else []
    seconds = time.perf_counter() - began
    return Interventions(
        tables=tables,
        forwards={name: n / len(answers) for name, n in cost.items()},
        seconds={name: seconds * n / sum(cost.values()) for name, n in cost.items()},
        rivals=_rivals(rounds.values(), found.values(), len(answers)),
        left_out=tuple(left_out),
    )


class _Desk:
    """Gathers copies, has the model read all of them, and hands the echoes out.

    A prompt or an answer that comes more than once is kept once.
    """

    def __init__(self, lm: LM, names: Names, seed: int) -> None:
        self.lm = lm
        self.names = names
        self.seed = seed
        self.prompts: dict[tuple[str, str], int] = {}
        self.answers: dict[Tokens, int] = {}
        self.pairs: dict[Change | None, list[tuple[int, int]]] = defaultdict(list)
        self.read: dict[Change | None, Totals] = {}

    def ask(
        self, family: Family, questions: Sequence[Question], answers: Sequence[Tokens]
    ) -> "_Round":
        """Take in a family's copies of all questions."""
        places, subjects = [], []
        for question, answer in zip(questions, answers, strict=True):
            rng = generator(self.seed, family.name, question.id)
            copies = family.copies(question, self.names, rng)
            places.append([self._take(copy, tuple(answer)) for copy in copies])
            subjects.append([copy.subject for copy in copies])
        return _Round(family, self, places, subjects)

    def run(self) -> None:
        """Read everything that was taken in."""
        distinct = list(dict.fromkeys(text for text, _ in self.prompts))
        ids = dict(zip(distinct, self.lm.encode_all(distinct), strict=True))
        prompts = [tuple(ids[text]) for text, _ in self.prompts]
        marked = [
            tuple(np.flatnonzero(find_subject(self.lm, ids[text], part)).tolist()) if part else ()
            for text, part in self.prompts
        ]
        texts = Texts(prompts, list(self.answers), marked)
        n_copies = sum(map(len, self.pairs.values()))
        with Meter("asking again", n_copies, unit="copies") as meter:
            for change, pairs in self.pairs.items():
                self.read[change] = total(
                    self.lm, texts, np.array(pairs), change=change, read=meter.advance
                )

    def echo(self, places: "Sequence[tuple[Change | None, int]]") -> Echo:
        """Give what was read for copies of one question."""
        found = [(self.read[change], place) for change, place in places]
        return Echo(
            np.array([totals.logprobs[place] for totals, place in found]),
            np.array([totals.agrees[place] for totals, place in found], dtype=bool),
            np.array([totals.entropies[place] for totals, place in found]),
        )

    def _take(self, copy: Copy, answer: Tokens) -> tuple[Change | None, int]:
        prompt = self.prompts.setdefault((copy.prompt, copy.marked), len(self.prompts))
        pairs = self.pairs[copy.change]
        pairs.append((prompt, self.answers.setdefault(answer, len(self.answers))))
        return copy.change, len(pairs) - 1


class _Round(NamedTuple):
    """One family's copies of all questions."""

    family: Family
    desk: _Desk
    places: list[list[tuple[Change | None, int]]]
    """Where the desk holds the copies of each question."""
    subjects: list[list[str]]
    """Whom each copy asks about."""

    @property
    def n_copies(self) -> int:
        return sum(map(len, self.places))

    def find(self) -> list[Finding]:
        """Reduce every question's echo."""
        nothing = Finding((np.nan,) * len(self.family.specs))
        return [
            self.family.reduce(self.desk.echo(places)) if places else nothing
            for places in self.places
        ]


def _columns(family: Family, found: Sequence[Finding]) -> Table:
    names = tuple(spec.name for spec in family.specs)
    return Table(names, np.array([one.values for one in found], dtype=np.float64))


def _sibling_columns(asked: _Round) -> Table:
    table = _columns(asked.family, asked.find())
    return Table(tuple(SIBLING + name for name in table.names), table.values)


def sibling_specs(specs: Sequence[StatisticSpec]) -> tuple[StatisticSpec, ...]:
    """Say what the columns about sibling questions are, given those of the families."""
    means = (
        spec._replace(
            name=SIBLING + spec.name,
            family=SIBLINGS,
            definition=f"mean over sibling questions: {spec.definition}",
        )
        for spec in specs
    )
    return (SIBLING_LP, *means)


def generator(seed: int, *names: str) -> np.random.Generator:
    """Make a generator that belongs to these names alone."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _rivals(
    rounds: Iterable[_Round], found: Iterable[Sequence[Finding]], n_answers: int
) -> tuple[str, ...]:
    """Take each answer's rival from the first family that names one."""
    rivals = [""] * n_answers
    for one, part in zip(rounds, found, strict=True):
        for sample, finding in enumerate(part):
            if finding.rival >= 0 and not rivals[sample]:
                rivals[sample] = one.subjects[sample][finding.rival]
    return tuple(rivals)
