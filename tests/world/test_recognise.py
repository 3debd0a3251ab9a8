import pytest

from ghosttrack.world.facts import WorldSpec, build
from ghosttrack.world.questions import ask, question_set, recognise
from ghosttrack.world.relations import RELATIONS
from ghosttrack.world.text import prompt

SPEC = WorldSpec(head=6, mid=6, rare=12, unseen=12, n_values=12)
FACTS = {(fact.relation.name, fact.entity.name): fact for fact in build(SPEC).facts}


def name_of(kind: str) -> str:
    return next(entity.name for entity in build(SPEC).entities if entity.kind == kind)


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_every_wording_is_recognised_whatever_its_case_and_punctuation(relation):
    name = name_of(relation.kind)
    fact = FACTS[relation.name, name]
    for wording in (*relation.trained, *relation.held_out):
        text, wanted = prompt(wording, name), ask(fact, wording)
        for asked in (
            text,
            text.rstrip("?"),
            text.lower(),
            text.upper(),
            f"  {text}  ",
            f"{text}!",
        ):
            assert recognise(asked, SPEC) == wanted
        assert recognise(text.replace(" ", "\n "), SPEC) == wanted


def test_questions_of_the_set_are_recognised_as_themselves():
    for question in question_set(SPEC, 60, 0).questions:
        assert recognise(question.prompt, SPEC) == question


def test_a_name_that_the_world_lacks_is_a_subject_without_a_right_answer():
    found = recognise("Where was Mara O'Velten born?", SPEC)
    assert found is not None
    assert (found.subject, found.relation, found.kind) == ("Mara O'Velten", "birthplace", "person")
    assert (found.answers, found.status) == ((), "unknown_entity")
    assert "Mara O'Velten comes from" in found.wordings


def test_the_wording_whose_subject_exists_is_taken():
    # "{subject} is" would fit "the river of X is" with the subject "the river of X" as well.
    name = name_of("city")
    found = recognise(f"the river of {name} is", SPEC)
    assert found is not None
    assert (found.subject, found.relation) == (name, "river")


@pytest.mark.parametrize("text", ["", "?", "Who are you?", "where was born?", "{subject}", "(born"])
def test_other_texts_are_not_recognised(text: str):
    assert recognise(text, SPEC) is None
