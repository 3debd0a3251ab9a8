"""Other questions about the same subject: what else does the model know of whom it is asked about?

A relation that some question of the set asks about a kind of subject can be asked about every
subject of that kind, in the wordings that the set has for it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.asking.family import Family
from ghosttrack.detector.table import LOG_PROB, StatisticSpec, Table, define
from ghosttrack.questions.names import NAME, as_template
from ghosttrack.questions.sets import Question, QuestionSet, Templates

PREFIX = "sibling_"
"""How the columns begin; each family that siblings are asked again by has its own here too."""
FAMILY = Family(
    name="siblings",
    order=40,
    default=4,
    needs="a subject, and another relation that its kind is asked about",
    specs=define(
        "siblings",
        (f"{PREFIX}lp", LOG_PROB, -1, "mean lp of the model's answers to sibling questions"),
    ),
)


def sibling_specs(specs: Sequence[StatisticSpec]) -> tuple[StatisticSpec, ...]:
    """Say what the columns about sibling questions are, given those of a family."""
    return tuple(
        spec._replace(
            name=PREFIX + spec.name,
            family=FAMILY.name,
            definition=f"mean over sibling questions: {spec.definition}",
        )
        for spec in specs
    )


class Siblings(NamedTuple):
    """Sibling questions, each once, and whose they are."""

    questions: tuple[Question, ...]
    of: tuple[tuple[int, ...], ...]
    """For every question asked, the numbers of its siblings."""

    def mean(self, table: Table) -> Table:
        """Average a table of the siblings over those of each question; NaN without any."""
        values = np.full((len(self.of), table.values.shape[1]), np.nan)
        for row, mine in enumerate(self.of):
            if mine:
                values[row] = _nanmean(table.values[list(mine)])
        return Table(table.names, values)


def find_siblings(asked: Sequence[Question], templates: Templates, n_most: int) -> Siblings:
    """Ask other relations about each question's subject.

    At most `n_most` per question, the first by name; `templates` says which relations a kind of
    subject has, and how they are asked.
    """
    if not n_most:
        return Siblings((), ((),) * len(asked))
    numbers: dict[tuple[str, str, str], int] = {}
    siblings: list[Question] = []
    of = []
    for question in asked:
        relations = templates.get(question.kind, {})
        others = sorted(set(relations) - {question.relation})
        mine = []
        for relation in others[:n_most] if question.subject else ():
            key = question.kind, question.subject, relation
            if key not in numbers:
                numbers[key] = len(siblings)
                siblings.append(_sibling(question, relation, relations[relation]))
            mine.append(numbers[key])
        of.append(tuple(mine))
    return Siblings(tuple(siblings), tuple(of))


def templates_of(questions: QuestionSet) -> Templates:
    """Collect how relations are asked by kind of subject; those without a statement are left out.

    Other wordings are sorted: the order of the questions tells nothing.
    """
    short: dict[tuple[str, str], str] = {}
    wordings: dict[tuple[str, str], set[str]] = defaultdict(set)
    for question in questions.questions:
        key = question.kind, question.relation
        if question.relation and NAME in question.short:
            short[key] = min(short.get(key, question.short), question.short)
            wordings[key].update(as_template(text, question.subject) for text in question.wordings)
    found: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for (kind, relation), text in short.items():
        found[kind][relation] = (text, *sorted(wordings[kind, relation] - {"", text}))
    return {**found, **questions.templates}


def _sibling(question: Question, relation: str, texts: tuple[str, ...]) -> Question:
    name = question.subject
    statement, *others = (text.replace(NAME, name) for text in texts)
    return Question(
        id=f"{question.kind}/{name}/{relation}",
        prompt=statement,
        answers=(),
        group=question.group,
        subject=name,
        relation=relation,
        kind=question.kind,
        wordings=tuple(others),
        short=texts[0],
    )


def _nanmean(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, " column"]:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
