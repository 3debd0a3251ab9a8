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
from ghosttrack.models.load import untrained
from ghosttrack.models.readings import find_subject
from ghosttrack.models.score import Texts, Tokens, Totals, total, work
from ghosttrack.questions.sets import Question, QuestionSet

MOST_UNTRAINED = 400
"""Answers that a model without training is asked again about: an AUROC of as many is known to
.06."""


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
    untrained: Table | None = None
    """What `untrained_again` says, where such a model was asked."""

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
    """Score the model's answers again under every family, of so many copies (`roster.requested`).

    `questions` hold that of each answer, by id; the others say how else one can ask. The seed is of
    the drawn names, together with the question's id. With `siblings_again` the answers to sibling
    questions are scored again as well.
    """
    began = time.perf_counter()
    by_id = {question.id: question for question in questions.questions}
    asked = [by_id[question_id] for question_id in answers.question_ids]
    siblings = find_siblings(asked, templates_of(questions), families.get(SIBLINGS, 0))
    replies = respond(lm, [one.prompt for one in siblings.questions], questions)
    reader = CopyReader(lm, questions.names, seed)
    scoring = {one: n for one, n in families.items() if isinstance(one, Rescoring)}
    own = [reader.ask(one, n, asked, answers.token_ids) for one, n in scoring.items()]
    spoken = [reply.token_ids for reply in replies]
    theirs = [
        reader.ask(one, n, siblings.questions, spoken)
        for one, n in scoring.items()
        if one.is_for_siblings and siblings_again
    ]
    read = reader.run()
    rounds = {one.family.name: one for one in own if one.n_copies}
    found = {name: one.find(read) for name, one in rounds.items()}
    tables = {name: _columns(rounds[name].family, part) for name, part in found.items()}
    cost = {name: one.n_copies for name, one in rounds.items()}
    if siblings.questions:
        lp = np.array([[reply.scores.logprobs.sum()] for reply in replies], dtype=np.float64)
        their_columns = [_columns(one.family, one.find(read), PREFIX) for one in theirs]
        own_lp = Table(tuple(spec.name for spec in SIBLINGS.specs), lp)
        tables[SIBLINGS.name] = siblings.mean(own_lp.concat(*their_columns))
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


def untrained_again(
    lm: LM,
    questions: QuestionSet,
    answers: Answers,
    families: Mapping[Family, int],
    seed: int,
) -> Table | None:
    """Ask a model without training again about some answers of a trained one.

    What it says tells nothing of them, unless the copies that were made do. The columns are those
    of the families that score an answer, NaN for answers that it is not asked about; None where
    there is nothing that such a family can ask.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(answers))[:MOST_UNTRAINED])
    scoring: dict[Family, int] = {
        one: n for one, n in families.items() if isinstance(one, Rescoring)
    }
    found = intervene(
        *(untrained(lm, seed), questions, answers.take(drawn), scoring, seed), siblings_again=False
    )
    if not found.tables:
        return None
    first, *others = found.tables.values()
    joined = first.concat(*others)
    values = np.full((len(answers), len(joined.names)), np.nan)
    values[drawn] = joined.values
    return Table(joined.names, values)


class CopyReader:
    """Gathers copies, has the model read all of them, and hands the echoes out.

    A prompt or an answer that comes more than once is kept once.
    """

    def __init__(self, lm: LM, names: Names, seed: int) -> None:
        self.lm = lm
        self.names = names
        self.seed = seed
        self.prompts: dict[tuple[str, str], int] = {}
        self.answers: dict[Tokens, int] = {}
        self.copies: list[tuple[Change | None, int, int]] = []
        """Change, number of the prompt, number of the answer."""

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
            context = CopyContext(self.names, rng, self.lm.n_layers)
            first, copies = len(self.copies), family.copies(question, n_copies, context)
            for copy in copies:
                prompt = self.prompts.setdefault((copy.prompt, copy.marked), len(self.prompts))
                said = self.answers.setdefault(tuple(answer), len(self.answers))
                self.copies.append((copy.change, prompt, said))
            places.append(slice(first, len(self.copies)))
            asked.append(copies)
        return _Round(family, places, asked)

    def run(self) -> Totals:
        """Read everything that was taken in, in the order of `copies`."""
        distinct = list(dict.fromkeys(text for text, _ in self.prompts))
        ids = dict(zip(distinct, self.lm.encode_all(distinct), strict=True))
        prompts = [tuple(ids[text]) for text, _ in self.prompts]
        marked = [
            tuple(np.flatnonzero(find_subject(self.lm, ids[text], part)).tolist()) if part else ()
            for text, part in self.prompts
        ]
        texts = Texts(prompts, list(self.answers), marked)
        by_change: dict[Change | None, list[int]] = defaultdict(list)
        for row, (change, _, _) in enumerate(self.copies):
            by_change[change].append(row)
        n = len(self.copies)
        read = Totals(np.empty(n), np.empty(n), np.empty(n, bool))
        pairs_of = {
            change: np.array([self.copies[row][1:] for row in rows])
            for change, rows in by_change.items()
        }
        n_tokens = sum(work(self.lm, texts, pairs, change) for change, pairs in pairs_of.items())
        with Meter("asking again", n_tokens) as meter:
            for change, rows in by_change.items():
                pairs = pairs_of[change]
                found = total(self.lm, texts, pairs, change=change, read=meter.advance)
                for field, part in zip(read, found, strict=True):
                    field[rows] = part
        return read


class _Round(NamedTuple):
    """One family's copies of all questions."""

    family: Rescoring
    places: list[slice]
    """Where the reader holds the copies of each question."""
    asked: list[tuple[Copy, ...]]
    """Those copies."""

    @property
    def n_copies(self) -> int:
        return sum(map(len, self.asked))

    def find(self, read: Totals) -> list[Finding]:
        """Reduce every question's echo."""
        found = []
        for rows, copies in zip(self.places, self.asked, strict=True):
            echo = Echo(read.logprobs[rows], read.agrees[rows], read.entropies[rows], copies)
            nothing = Finding((np.nan,) * len(self.family.specs))
            found.append(self.family.reduce(echo) if copies else nothing)
        return found


def _columns(family: Family, found: Sequence[Finding], prefix: str = "") -> Table:
    names = tuple(prefix + spec.name for spec in family.specs)
    return Table(names, np.array([one.values for one in found], dtype=np.float64))


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
