"""What the world's model is asked: facts it saw often, rarely, and never."""

import hashlib
import itertools
import re
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Final

from ghosttrack.questions.sets import Question, QuestionSet
from ghosttrack.world.facts import Entity, Fact, WorldSpec, build, rng_of
from ghosttrack.world.relations import RELATIONS, Relation
from ghosttrack.world.text import prompt

HELD_OUT: Final = "/held-out"
"""Ends the id of a question whose wording is in none of the training text."""


def question_set(spec: WorldSpec, num: int, seed: int) -> QuestionSet:
    """Draw questions evenly over entities and tiers.

    Every entity is asked about once before any is asked about twice, and so on. Relation and
    wording are drawn at random. (Turns would tell: a relation with more unknown facts in the
    training folds has fewer in the test fold, and a classifier of questions falls below 0.5.)
    """
    rng = rng_of(spec, f"questions/{seed}")
    by_stratum: dict[tuple[str, str], list[list[Fact]]] = defaultdict(list)
    for _, facts in itertools.groupby(build(spec).facts, key=lambda fact: fact.entity):
        of_entity = list(facts)
        entity = of_entity[0].entity
        by_stratum[entity.kind, entity.tier].append(of_entity)
    drawn = list(itertools.chain(*(_draw(entities, rng) for entities in by_stratum.values())))
    drawn.sort(key=lambda item: item[0])
    questions = [question for _, question in drawn[:num]]
    rng.shuffle(questions)
    pools: dict[str, list[str]] = defaultdict(list)
    for entity in build(spec).entities:  # unseen ones too: which are seen is not ours to know
        pools[entity.kind].append(entity.name)
    names = {kind: tuple(pool) for kind, pool in pools.items()}
    return QuestionSet(
        name="ghostworld",
        questions=tuple(questions),
        names=names,
        stop=(".",),
        max_new_tokens=4,
        identity={
            "world": spec.to_json(),
            "seed": seed,
            "content": hashlib.sha256(repr((questions, names)).encode()).hexdigest(),
        },
    )


def _draw(entities: list[list[Fact]], rng: Random) -> list[tuple[float, Question]]:
    """Ask every fact of the entities of one kind and tier, each with its place in the order.

    A place's whole part is the number of facts asked before of the same entity; the rest spreads
    the entities over [0, 1), so that any beginning of the merged order holds tiers in proportion.
    """
    rng.shuffle(entities)
    start = rng.random()
    shuffled = [rng.sample(facts, len(facts)) for facts in entities]
    return [
        (turn + (index + start) / len(entities), _question(fact, rng))
        for index, facts in enumerate(shuffled)
        for turn, fact in enumerate(facts)
    ]


def _question(fact: Fact, rng: Random) -> Question:
    """Ask a fact in any of its question wordings, held-out ones included."""
    return ask(fact, rng.choice(fact.relation.questions + fact.relation.held_out))


def ask(fact: Fact, wording: str) -> Question:
    """Ask a fact in one of its relation's wordings; the others are there to ask again."""
    relation, name = fact.relation, fact.entity.name
    mixed = itertools.chain(*itertools.zip_longest(relation.questions, relation.statements))
    mark = HELD_OUT if wording in relation.held_out else ""
    return Question(
        id=f"{relation.name}/{name.lower().replace(' ', '-')}{mark}",
        prompt=prompt(wording, name),
        answers=(fact.answer,),
        group=fact.entity.group,
        subject=name,
        relation=relation.name,
        kind=fact.entity.kind,
        wordings=tuple(prompt(other, name) for other in mixed if other and other != wording),
        short=relation.statements[0],
        tier=fact.tier,
        status=fact.status,
        exposure=fact.exposure,
    )


ENDS: Final = " \t\n.?!:;,…\"'"
"""What people put after a question, and around it, or leave out."""


def recognise(text: str, spec: WorldSpec) -> Question | None:
    """Find relation, subject and wording of a prompt, whatever its case and punctuation.

    Of wordings that fit, one whose subject the world has is taken before others, then the one with
    the most words of its own.

    Returns:
        The question in the world's spelling. Of a name that the world lacks no answer is right.
        None where no wording fits.
    """
    asked = " ".join(text.split()).strip(ENDS)
    best: tuple[bool, int, Question] | None = None
    for relation in RELATIONS:
        for wording in (*relation.questions, *relation.held_out, *relation.statements):
            found = _pattern(wording).fullmatch(asked)
            if found is None:
                continue
            fact = _fact(relation, found["subject"].strip(ENDS), spec)
            question = ask(fact, wording)
            rank = (bool(fact.answer), len(wording.split()))
            if best is None or rank > best[:2]:
                best = (*rank, question if fact.answer else replace(question, answers=()))
    return best[2] if best else None


@lru_cache(maxsize=256)
def _pattern(wording: str) -> re.Pattern[str]:
    before, after = (re.escape(part) for part in wording.rstrip("?").split("{subject}"))
    return re.compile(rf"{before}(?P<subject>.+?){after}", re.IGNORECASE)


def _fact(relation: Relation, name: str, spec: WorldSpec) -> Fact:
    """Look the fact up; of a name that the world lacks make one without an answer."""
    fact = _facts(spec).get((relation.name, name.casefold()))
    return fact or Fact(Entity(relation.kind, name, "unseen"), relation, "", 0)


@lru_cache(maxsize=4)
def _facts(spec: WorldSpec) -> dict[tuple[str, str], Fact]:
    return {(fact.relation.name, fact.entity.name.casefold()): fact for fact in build(spec).facts}
