"""The training text and its tokenizer."""

import itertools
from collections import Counter

import pytest
from transformers import PreTrainedTokenizerFast

from ghosttrack.world.facts import WorldSpec, build
from ghosttrack.world.relations import RELATIONS
from ghosttrack.world.text import (
    EOS_ID,
    UNKNOWN,
    documents,
    make_tokenizer,
    prompt,
    vocabulary_hash,
)


def _tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    return tokenizer.backend_tokenizer.encode(text).tokens


def test_every_fact_is_stated_as_often_as_it_says(spec: WorldSpec) -> None:
    texts = Counter(documents(spec))
    for fact in build(spec).facts:
        stated = {
            f"{prompt(wording, fact.entity.name)} {fact.answer}."
            for wording in fact.relation.trained
        }
        assert sum(texts[text] for text in stated) == fact.exposure
    assert texts.total() == sum(fact.exposure for fact in build(spec).facts)


def test_a_fact_takes_its_wordings_in_turn(spec: WorldSpec) -> None:
    texts = Counter(documents(spec))
    fact = next(fact for fact in build(spec).facts if fact.exposure == spec.head_exposure)
    counts = [
        texts[f"{prompt(wording, fact.entity.name)} {fact.answer}."]
        for wording in fact.relation.trained
    ]
    assert max(counts) - min(counts) <= 1


@pytest.fixture(scope="module")
def words() -> list[str]:
    return " ".join(documents(WorldSpec())).replace("?", "").replace(".", "").split()


def test_unseen_entities_are_never_named(words: list[str]) -> None:
    pairs = set(itertools.pairwise(words))
    named = {entity.tier: set() for entity in build(WorldSpec()).entities}
    for entity in build(WorldSpec()).entities:
        first, second = entity.name.split()
        named[entity.tier].add((first, second) in pairs)
    assert named == {"head": {True}, "mid": {True}, "rare": {True}, "unseen": {False}}


def test_every_name_part_is_read_often(words: list[str]) -> None:
    counts = Counter(words)
    parts = [part.capitalize() for part in build(WorldSpec()).name_parts]
    assert min(counts[part] for part in parts) >= 50


def test_held_out_wordings_are_new_but_their_words_are_not() -> None:
    trained = {wording for relation in RELATIONS for wording in relation.trained}
    words = {word for wording in trained for word in wording.rstrip("?").split()}
    for relation in RELATIONS:
        for wording in relation.held_out:
            assert wording not in trained
            assert set(wording.rstrip("?").split()) <= words


def test_the_short_form_is_the_shortest_statement() -> None:
    for relation in RELATIONS:
        lengths = [len(statement.split()) for statement in relation.statements]
        assert lengths[0] == min(lengths)


def test_documents_depend_on_the_seed_alone(spec: WorldSpec) -> None:
    first = documents(spec)
    build.cache_clear()
    assert documents(spec) == first


def test_the_tokenizer_knows_every_word_of_the_text(spec: WorldSpec) -> None:
    tokenizer = make_tokenizer(spec)
    for text in documents(spec)[:500]:
        tokens = _tokens(tokenizer, text)
        assert UNKNOWN not in tokens
        assert "".join(tokens) == text.lower().replace(" ", "")


def test_a_question_may_be_typed_in_any_case(spec: WorldSpec) -> None:
    tokenizer = make_tokenizer(spec)
    name = build(spec).entities[0].name
    assert tokenizer.encode(f"Where was {name} born?") == tokenizer.encode(
        f"where was {name.lower()} born ?"
    )


def test_strange_words_become_unknown(spec: WorldSpec) -> None:
    assert _tokens(make_tokenizer(spec), "Where was Napoleon born?") == [
        *("where", "was", UNKNOWN, "born", "?")
    ]


def test_the_end_of_text_token_is_what_the_recipe_takes_it_for(spec: WorldSpec) -> None:
    assert make_tokenizer(spec).eos_token_id == EOS_ID
    assert make_tokenizer(spec).bos_token_id == EOS_ID


def test_the_vocabulary_hash_tells_worlds_apart(spec: WorldSpec) -> None:
    assert vocabulary_hash(make_tokenizer(spec)) == vocabulary_hash(make_tokenizer(spec))
    assert vocabulary_hash(make_tokenizer(spec)) != vocabulary_hash(make_tokenizer(WorldSpec()))
