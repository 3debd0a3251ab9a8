"""What the world's model is asked."""

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.world.facts import WorldSpec, build
from ghosttrack.world.questions import HELD_OUT, question_set
from ghosttrack.world.relations import RELATIONS
from ghosttrack.world.text import documents, make_tokenizer, prompt

SMALL = WorldSpec(seed=3, head=6, mid=10, rare=12, unseen=12, n_values=20)


def test_the_shipped_world_gives_enough_questions_over_enough_entities() -> None:
    questions = question_set(WorldSpec(), 3200, seed=0).questions
    assert len(build(WorldSpec()).entities) >= 2400
    assert len(questions) == 3200
    assert len({question.group for question in questions}) == 2400


@settings(max_examples=25)
@given(st.integers(0, 200), st.integers(0, 20))
def test_no_entity_is_asked_about_twice_before_all_are_once(num: int, seed: int) -> None:
    questions = question_set(SMALL, num, seed).questions
    assert len(questions) == min(num, 160)
    assert len({question.id for question in questions}) == len(questions)
    asked = Counter({entity.name: 0 for entity in build(SMALL).entities})
    asked.update(question.subject for question in questions)
    assert max(asked.values()) - min(asked.values()) <= 1


@settings(max_examples=25)
@given(st.integers(24, 160), st.integers(0, 20))
def test_any_number_of_questions_holds_the_tiers_in_proportion(num: int, seed: int) -> None:
    tier_of = {entity.name: entity.tier for entity in build(SMALL).entities}
    asked = question_set(SMALL, num, seed).questions
    tiers = Counter(tier_of[question.subject] for question in asked)
    for tier in ("head", "mid", "rare", "unseen"):
        # Each of three kinds may be off by less than one question on either side.
        assert abs(tiers[tier] - num * SMALL.n_entities(tier) / 40) <= 3


def test_a_seed_gives_one_set_and_another_seed_another() -> None:
    assert question_set(SMALL, 60, 1) == question_set(SMALL, 60, 1)
    assert question_set(SMALL, 60, 1) != question_set(SMALL, 60, 2)


def test_labels_agree_with_the_facts() -> None:
    facts = {(fact.entity.name, fact.relation.name): fact for fact in build(SMALL).facts}
    for question in question_set(SMALL, 160, 0).questions:
        fact = facts[question.subject, question.relation]
        assert question.answers == (fact.answer,)
        assert question.exposure == fact.exposure
        assert question.tier == fact.tier
        assert question.kind == fact.entity.kind
        assert question.status == fact.status
        assert (question.status == "unknown_entity") == (question.tier == "unseen")
        assert (question.status == "unknown_attribute") == (question.tier == "gap")
        assert (question.status == "known") == (question.exposure > 0)


def test_held_out_wordings_are_marked_and_never_trained() -> None:
    texts = documents(SMALL)
    by_mark: dict[bool, list[bool]] = defaultdict(list)
    for question in question_set(SMALL, 160, 0).questions:
        if question.status == "known" and question.tier in ("head", "mid"):
            is_trained = any(text.startswith(question.prompt) for text in texts)
            by_mark[question.id.endswith(HELD_OUT)].append(is_trained)
    assert not any(by_mark[True])
    assert all(by_mark[False])
    assert by_mark[True]


def test_wordings_are_other_trained_prompts_with_the_subject_in_place() -> None:
    relations = {relation.name: relation for relation in RELATIONS}
    for question in question_set(SMALL, 160, 0).questions:
        trained = relations[question.relation].trained
        assert len(question.wordings) >= 4
        assert len(set(question.wordings)) == len(question.wordings)
        assert question.prompt not in question.wordings
        assert set(question.wordings) <= {prompt(text, question.subject) for text in trained}
        assert question.subject in question.prompt
        assert question.short.format(subject=question.subject) in question.wordings


def test_names_are_those_of_every_entity_seen_or_not() -> None:
    questions = question_set(SMALL, 10, 0)
    everybody: dict[str, set[str]] = {}
    for entity in build(SMALL).entities:
        everybody.setdefault(entity.kind, set()).add(entity.name)
    assert {kind: set(names) for kind, names in questions.names.items()} == everybody


def test_every_prompt_and_answer_fits_the_model() -> None:
    questions = question_set(SMALL, 160, 0)
    tokenizer = make_tokenizer(SMALL)
    for question in questions.questions:
        for text in (question.prompt, *question.wordings):
            ids = tokenizer.encode(f"{text} {question.answers[0]}.")
            assert tokenizer.unk_token_id not in ids
            assert len(ids) + 2 <= 32
        (answer,) = question.answers
        assert len(tokenizer.encode(f"{answer}.")) <= questions.max_new_tokens


def test_identity_changes_with_the_number_the_seed_and_the_world() -> None:
    identities = [
        question_set(SMALL, 60, 0).identity,
        question_set(SMALL, 61, 0).identity,
        question_set(SMALL, 60, 1).identity,
        question_set(WorldSpec(), 60, 0).identity,
    ]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])
