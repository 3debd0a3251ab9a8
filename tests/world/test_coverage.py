"""The text that a bank learns from."""

from collections import Counter

import pytest

from ghosttrack.data.config import Coverage
from ghosttrack.world.facts import WorldSpec, build
from ghosttrack.world.questions import question_set
from ghosttrack.world.text import bank_text, covered_groups, documents


def named(spec: WorldSpec, coverage: Coverage) -> Counter[str]:
    """Sentences about each group."""
    groups = {entity.name: entity.group for entity in build(spec).entities}
    found = Counter({group: 0 for group in groups.values()})
    for text in bank_text(spec, coverage):
        (group,) = (group for name, group in groups.items() if name in text)
        found[group] += 1
    return found


def test_natural_text_is_what_the_model_read(spec: WorldSpec) -> None:
    assert bank_text(spec, Coverage.natural) == documents(spec)


def test_balanced_text_speaks_equally_often_of_every_entity(spec: WorldSpec) -> None:
    n_facts = Counter(fact.entity.group for fact in build(spec).facts)
    counts = named(spec, Coverage.balanced)
    assert counts.keys() == n_facts.keys()
    assert len({counts[group] / n_facts[group] for group in counts}) == 1


def test_of_the_entities_held_out_no_text_speaks(spec: WorldSpec) -> None:
    counts = named(spec, Coverage.held_out)
    covered = covered_groups(spec)
    assert {group for group, n in counts.items() if n} == covered
    asked = {question.group for question in question_set(spec, 200, seed=0).questions}
    assert covered < asked


def test_half_of_every_kind_and_tier_is_held_out(spec: WorldSpec) -> None:
    entities, covered = build(spec).entities, covered_groups(spec)
    all_of = Counter((entity.kind, entity.tier) for entity in entities)
    of = Counter((entity.kind, entity.tier) for entity in entities if entity.group in covered)
    assert all(abs(of[key] - n / 2) <= 0.5 for key, n in all_of.items())


@pytest.mark.parametrize("coverage", [Coverage.balanced, Coverage.held_out])
def test_the_text_is_about_as_long_as_the_models(spec: WorldSpec, coverage: Coverage) -> None:
    usual = len(documents(spec))
    assert usual <= len(bank_text(spec, coverage)) < 1.2 * usual
