"""The generated world."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.errors import ConfigError
from ghosttrack.world.facts import TIERS, WorldSpec, build
from ghosttrack.world.relations import KINDS, RELATIONS

specs = st.builds(
    WorldSpec,
    seed=st.integers(0, 99),
    head=st.integers(1, 20),
    mid=st.integers(0, 20),
    rare=st.integers(0, 20),
    unseen=st.integers(0, 20),
    n_values=st.integers(6, 40),
)


@settings(max_examples=25)
@given(specs)
def test_a_spec_survives_json_and_makes_the_same_world_again(spec: WorldSpec) -> None:
    first, copy = build(spec), WorldSpec.from_json(spec.to_json())
    assert copy == spec
    build.cache_clear()
    assert build(copy) == first


@settings(max_examples=25)
@given(specs)
def test_every_tier_has_its_entities_and_every_entity_its_facts(spec: WorldSpec) -> None:
    world = build(spec)
    tiers = Counter(entity.tier for entity in world.entities)
    assert [tiers[tier] for tier in TIERS] == [spec.head, spec.mid, spec.rare, spec.unseen]
    asked = Counter((fact.entity, fact.relation.name) for fact in world.facts)
    assert asked == Counter(
        (entity, relation.name)
        for entity in world.entities
        for relation in RELATIONS
        if relation.kind == entity.kind
    )


@settings(max_examples=25)
@given(specs)
def test_names_are_unique_pairs_of_words_that_mean_nothing_else(spec: WorldSpec) -> None:
    world = build(spec)
    names = [entity.name for entity in world.entities]
    assert len(set(names)) == len(names)
    assert {len(name.split()) for name in names} <= {2}
    assert len(set(world.name_parts)) == 2 * len(KINDS) * spec.n_parts
    assert not set(world.name_parts) & {
        word.lower() for answer in world.answers for word in answer.split()
    }


@settings(max_examples=25)
@given(specs)
def test_exposure_follows_the_tier(spec: WorldSpec) -> None:
    allowed = {
        "head": {0, spec.head_exposure},
        "mid": {0, spec.mid_exposure},
        "rare": {0, *range(spec.rare_exposure_min, spec.rare_exposure_max + 1)},
        "unseen": {0},
    }
    for fact in build(spec).facts:
        assert fact.exposure in allowed[fact.entity.tier]


def test_name_parts_name_equally_many_entities() -> None:
    world = build(WorldSpec())
    for kind in KINDS:
        names = [entity.name.split() for entity in world.entities if entity.kind == kind]
        for parts in zip(*names, strict=True):
            counts = Counter(parts)
            assert len(counts) == 40
            assert set(counts.values()) == {20}


def test_gaps_are_as_many_as_the_spec_says() -> None:
    known = [fact for fact in build(WorldSpec()).facts if fact.entity.tier != "unseen"]
    n_gaps = sum(fact.status == "unknown_attribute" for fact in known)
    # 5,800 draws at 0.08: standard deviation 0.0036.
    assert n_gaps / len(known) == pytest.approx(0.08, abs=0.012)


def test_two_word_answers_are_no_likelier_a_guess() -> None:
    """An answer's first word is as common whether one answer or two begin with it."""
    world = build(WorldSpec(zipf=0.0))
    firsts = {answer.split()[0] for answer in world.answers}
    two_word = {answer.split()[0] for answer in world.answers if " " in answer}
    share = sum(" " in fact.answer for fact in world.facts) / len(world.facts)
    assert share == pytest.approx(len(two_word) / len(firsts), abs=0.02)


def test_a_larger_seed_changes_names_and_answers() -> None:
    ours, other = build(WorldSpec(seed=0)), build(WorldSpec(seed=1))
    assert {e.name for e in ours.entities}.isdisjoint({e.name for e in other.entities})


def test_entities_of_unknown_exposure_have_a_truth() -> None:
    world = build(WorldSpec())
    assert all(fact.answer in world.answers for fact in world.facts if not fact.exposure)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"rare": -1}, "rare", id="negative count"),
        pytest.param({"rare_exposure_min": 20}, "rare_exposure_min", id="least above most"),
        pytest.param({"gap_frac": 1.0}, "gap_frac", id="nothing known"),
        pytest.param({"n_values": 2}, "n_values", id="too few answers"),
        pytest.param({"n_values": 9999}, "n_values", id="more answers than words"),
        pytest.param(
            {"head": 0, "mid": 0, "rare": 0}, "somebody must be known", id="strangers alone"
        ),
    ],
)
def test_an_impossible_spec_is_refused_by_name(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(WorldSpec(), **changes)


@pytest.mark.parametrize("value", [None, {}, {"seed": 0}, {**WorldSpec().to_json(), "seed": "x"}])
def test_broken_json_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="spec"):
        WorldSpec.from_json(value)
