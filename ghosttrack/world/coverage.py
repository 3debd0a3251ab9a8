"""Text for a bank: of whom it speaks need not tell whom the language model knows."""

import math

from ghosttrack.data.config import Coverage
from ghosttrack.world.facts import WorldSpec, build
from ghosttrack.world.text import documents, even_documents


def bank_text(spec: WorldSpec, coverage: Coverage) -> list[str]:
    """Write the text that a bank learns from; each kind of it is about as long.

    Facts that the language model never read are part of it unless it is the natural one.
    """
    if coverage is Coverage.natural:
        return documents(spec)
    facts = build(spec).facts
    n_sentences = sum(fact.exposure for fact in facts)
    if coverage is Coverage.held_out:
        groups = covered_groups(spec)
        facts = tuple(fact for fact in facts if fact.entity.group in groups)
    return even_documents(spec, facts, math.ceil(n_sentences / len(facts)))


def covered_groups(spec: WorldSpec) -> frozenset[str]:
    """Choose half of the entities of every kind and tier: a world lists them by both."""
    return frozenset(entity.group for entity in build(spec).entities[::2])
