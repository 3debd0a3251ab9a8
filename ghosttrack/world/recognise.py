"""Tell what a prompt asks of the world, if it is put in one of the world's own wordings."""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from ghosttrack.questions.sets import Question
from ghosttrack.world.facts import Entity, Fact, WorldSpec, build
from ghosttrack.world.questions import ask
from ghosttrack.world.relations import RELATIONS, Relation

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
