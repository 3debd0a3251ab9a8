"""Statistics under intervention: ask again with one thing changed, and score the same answer.

Nothing is generated but the answers to sibling questions: each copy of a question is a prompt after
which an answer that the model gave is read back token by token, and all copies of all questions go
through the model together. `lp` is the log-probability of that answer as a whole, in nats.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.answers import Answers, respond
from ghosttrack.detector.asking.families.siblings import FAMILY as SIBLINGS
from ghosttrack.detector.asking.families.siblings import PREFIX, find_siblings, templates_of
from ghosttrack.detector.asking.family import (
    Copy,
    CopyContext,
    Echo,
    Family,
    Finding,
    Names,
    Rescoring,
    generator,
)
from ghosttrack.detector.table import Table
from ghosttrack.models.changes import Change
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import find_subject
from ghosttrack.models.score import Texts, Tokens, Totals, total
from ghosttrack.questions.sets import Question, QuestionSet


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
    lm: LM,
    questions: QuestionSet,
    answers: Answers,
    families: Mapping[Family, int],
    seed: int,
    *,
    siblings_again: bool,
) -> Interventions:
    """Score the model's answers again under every family.

    Args:
        lm: The model that gave the answers.
        questions: Holds the question of each answer, by id; the others say how else one can ask.
        answers: To be scored again.
        families: Each with its number of copies, above 0 (`roster.requested`).
        seed: Of the drawn names, together with the question's id.
        siblings_again: Ask again about the answers to sibling questions as well.
    """
    began = time.perf_counter()
    by_id = {question.id: question for question in questions.questions}
    asked = [by_id[question_id] for question_id in answers.question_ids]
    siblings = find_siblings(asked, templates_of(questions), families.get(SIBLINGS, 0))
    replies = respond(
        lm, [one.prompt for one in siblings.questions], questions.max_new_tokens, questions.stop
    )
    reader = _CopyReader(lm, questions.names, seed)
    scoring = {one: n for one, n in families.items() if isinstance(one, Rescoring)}
    own = [reader.ask(one, n, asked, answers.token_ids) for one, n in scoring.items()]
    spoken = [reply.token_ids for reply in replies]
    theirs = [
        reader.ask(one, n, siblings.questions, spoken)
        for one, n in scoring.items()
        if one.is_for_siblings and siblings_again
    ]
    reader.run()
    rounds = {one.family.name: one for one in own if one.n_copies}
    found = {name: one.find() for name, one in rounds.items()}
    tables = {name: _columns(rounds[name].family, part) for name, part in found.items()}
    cost = {name: one.n_copies for name, one in rounds.items()}
    if siblings.questions:
        lp = np.array([[reply.scores.logprobs.sum()] for reply in replies], dtype=np.float64)
        own_lp = Table(tuple(spec.name for spec in SIBLINGS.specs), lp)
        tables[SIBLINGS.name] = siblings.mean(own_lp.concat(*map(_sibling_columns, theirs)))
        cost[SIBLINGS.name] = sum(map(len, spoken)) + sum(one.n_copies for one in theirs)
    left_out = [one.family.name for one in own if not one.n_copies]
    left_out += [SIBLINGS.name] if SIBLINGS in families and not siblings.questions else []
    seconds = time.perf_counter() - began
    return Interventions(
        tables=tables,
        forwards={name: n / len(answers) for name, n in cost.items()},
        seconds={name: seconds * n / sum(cost.values()) for name, n in cost.items()},
        rivals=_rivals(rounds.values(), found.values(), len(answers)),
        left_out=tuple(left_out),
    )


class _CopyReader:
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
        self,
        family: Rescoring,
        n_copies: int,
        questions: Sequence[Question],
        answers: Sequence[Tokens],
    ) -> "_Round":
        """Take in a family's copies of all questions."""
        places, asked = [], []
        for question, answer in zip(questions, answers, strict=True):
            rng = generator(self.seed, family.name, question.id)
            copies = family.copies(
                question, n_copies, CopyContext(self.names, rng, self.lm.n_layers)
            )
            places.append([self._take(copy, tuple(answer)) for copy in copies])
            asked.append(copies)
        return _Round(family, self, places, asked)

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

    def echo(self, places: Sequence[tuple[Change | None, int]], copies: Sequence[Copy]) -> Echo:
        """Give what was read for copies of one question."""
        found = [(self.read[change], place) for change, place in places]
        return Echo(
            np.array([totals.logprobs[place] for totals, place in found]),
            np.array([totals.agrees[place] for totals, place in found], dtype=bool),
            np.array([totals.entropies[place] for totals, place in found]),
            copies,
        )

    def _take(self, copy: Copy, answer: Tokens) -> tuple[Change | None, int]:
        prompt = self.prompts.setdefault((copy.prompt, copy.marked), len(self.prompts))
        pairs = self.pairs[copy.change]
        pairs.append((prompt, self.answers.setdefault(answer, len(self.answers))))
        return copy.change, len(pairs) - 1


class _Round(NamedTuple):
    """One family's copies of all questions."""

    family: Rescoring
    reader: _CopyReader
    places: list[list[tuple[Change | None, int]]]
    """Where the reader holds the copies of each question."""
    asked: list[tuple[Copy, ...]]
    """Those copies."""

    @property
    def n_copies(self) -> int:
        return sum(map(len, self.places))

    def find(self) -> list[Finding]:
        """Reduce every question's echo."""
        nothing = Finding((np.nan,) * len(self.family.specs))
        return [
            self.family.reduce(self.reader.echo(places, copies)) if places else nothing
            for places, copies in zip(self.places, self.asked, strict=True)
        ]


def _columns(family: Family, found: Sequence[Finding]) -> Table:
    names = tuple(spec.name for spec in family.specs)
    return Table(names, np.array([one.values for one in found], dtype=np.float64))


def _sibling_columns(asked: _Round) -> Table:
    table = _columns(asked.family, asked.find())
    return Table(tuple(PREFIX + name for name in table.names), table.values)


def _rivals(
    rounds: Iterable[_Round], found: Iterable[Sequence[Finding]], n_answers: int
) -> tuple[str, ...]:
    """Take each answer's rival from the first family that names one."""
    rivals = [""] * n_answers
    for one, part in zip(rounds, found, strict=True):
        for sample, finding in enumerate(part):
            if finding.rival >= 0 and not rivals[sample]:
                rivals[sample] = one.asked[sample][finding.rival].subject
    return tuple(rivals)
