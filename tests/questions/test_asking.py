import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.asking import (
    as_chat,
    as_few_shot,
    chosen_kind,
    fitting,
    part_shots,
    templated,
    with_template,
)
from ghosttrack.questions.config import AnswerSource, AskingConfig, AskingKind, FileQuestions
from ghosttrack.questions.sets import Question, QuestionSet
from tests.support.settings import detection
from tests.support.tiny import tiny_tokenizer

OWN = "question: {question} answer:"
NAMED = """{% for one in messages %}<eos>{{ one.role }} : {{ one.content }}<end>
{% endfor %}{% if add_generation_prompt %}<eos>assistant :
{% if enable_thinking is defined and not enable_thinking %}<no thought>
{% endif %}{% endif %}"""
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
DEAF = "{% for one in messages if one.role != 'system' %}{{ one.content }}\n{% endfor %}"
DATED = "{{ date_string }}"


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    made = tiny_tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<end>"]})
    made.chat_template = template
    return made


def settings(kind: str, *more: str) -> tuple[FileQuestions, AskingConfig]:
    found = detection(
        *("questions=file", "questions.path=none.jsonl", f"questions.template='{OWN}'"),
        *(f"asking={kind}", *more),
    )
    assert isinstance(found.questions, FileQuestions)
    return found.questions, found.asking


def people(n: int) -> QuestionSet:
    """Two questions about each of many, in two relations."""
    rows = [
        Question(
            id=f"{name}-{relation}",
            prompt=f"what is the {relation} of {name}?",
            answers=(f"{relation} {index}",),
            group=name,
            subject=name,
            relation=relation,
            wordings=(f"{relation} of {name}?",),
            kind="person",
            short=f"the {relation} of {{subject}} is",
        )
        for index, name in enumerate(f"person{index}" for index in range(n))
        for relation in ("river", "house")
    ]
    names = {"person": tuple(dict.fromkeys(one.subject for one in rows))}
    return QuestionSet("mine", tuple(rows), names, ("\n",), 4, {})


def test_shots_are_of_other_groups_than_what_is_asked():
    _, asking = settings("few_shot", "asking.shots=3")
    shots, rest = part_shots(people(6), asking, 1)
    assert {one.relation for one in shots[:2]} == {"river", "house"}
    groups = {one.group for one in shots}
    assert len(groups) == 3
    assert len(rest.questions) == 6
    assert not groups & {one.group for one in rest.questions}
    assert not groups & set(rest.names["person"])
    assert part_shots(people(6), asking, 1)[0] == shots
    assert part_shots(people(6), asking, 2)[0] != shots


def test_what_is_shown_names_nobody_that_is_asked_about():
    questions = people(6)
    telling = [
        replace(one, answers=("person3",)) if one.subject != "person5" else one
        for one in questions.questions
    ]
    _, asking = settings("few_shot", "asking.shots=1")
    (shot,), _ = part_shots(replace(questions, questions=tuple(telling)), asking, 0)
    assert shot.subject in ("person3", "person5")


def test_a_shot_is_the_set_s_template_with_its_answer():
    _, asking = settings("few_shot", "asking.shots=1")
    (shot,), rest = part_shots(people(4), asking, 0)
    resolved = as_few_shot(with_template(asking, OWN), (shot,))
    assert resolved.kind is AskingKind.plain
    asked = templated(rest, resolved)
    first = rest.questions[0]
    head = f"question: {shot.prompt} answer: {shot.answers[0]}\n\n"
    assert asked.questions[0].prompt == f"{head}question: {first.prompt} answer:"
    assert asked.questions[0].wordings[0].startswith(head)
    assert asked.questions[0].short == first.short
    assert asked.identity["template"] == asked.template == resolved.template


def test_shots_of_a_file_are_all_shown_and_not_asked(tmp_path: Path):
    path = tmp_path / "shots.jsonl"
    rows = [
        {"question": "What is the river of PERSON1", "answers": "river 1"},
        {"question": "who?", "answers": ["anna", "bert"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, asking = settings("few_shot", f"asking.shots_path={path}")
    shots, rest = part_shots(people(4), asking, 0)
    assert [one.answers[0] for one in shots] == ["river 1", "anna"]
    assert {one.group for one in rest.questions} == {"person0", "person2", "person3"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("asking.shots=3",), "questions=mine has 4 groups, too few to show 3 and to ask about 2"),
        (("asking.shots_path=none.jsonl",), "asking.shots_path=none.jsonl is not a file"),
    ],
)
def test_shots_that_cannot_be_had_are_refused_in_one_line(more: tuple[str, ...], message: str):
    _, asking = settings("few_shot", *more)
    with pytest.raises(ConfigError, match=message):
        part_shots(people(4), asking, 0)


def test_a_chat_is_the_tokenizer_s_own_and_ends_with_the_turn():
    _, asking = settings("chat", "asking.system=be short")
    shown = people(1).questions[:1]
    for shots in ((), shown):
        resolved = as_chat(asking, shots, tokenizer(NAMED))
        turns = "".join(
            f"<eos>user : {one.prompt}<end>\n<eos>assistant : {one.answers[0]}<end>\n"
            for one in shots
        )
        assert resolved.template == (
            f"<eos>system : be short<end>\n{turns}<eos>user : {{question}}<end>\n"
            "<eos>assistant :\n<no thought>\n"
        )
        assert resolved.stop == ["\n", "<end>"]
        assert resolved.kind is AskingKind.plain


def test_the_user_s_turn_is_the_question_unless_a_template_is_given():
    for given in ("tell me {question}", OWN):
        _, asking = settings("chat", f"asking.template='{given}'")
        assert f"user : {given}<" in as_chat(asking, (), tokenizer(NAMED)).template


@pytest.mark.parametrize("template", [NO_SYSTEM + NAMED, DEAF])
def test_a_template_without_a_system_role_gets_its_text_before_the_question(template: str):
    _, asking = settings("chat", "asking.system=be short")
    resolved = as_chat(asking, (), tokenizer(template))
    assert "be short\n\n{question}" in resolved.template


def test_a_template_that_tells_the_date_tells_the_same_every_day():
    _, asking = settings("chat")
    made = as_chat(asking, (), tokenizer(DATED + NAMED)).template
    assert made.startswith("01 Jan 2025<eos>system")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "asking=chat, but the tokenizer has no chat template; set asking=few_shot or plain"),
        ("hello", "asking=chat: the tokenizer's chat template cannot be applied: it leaves"),
        ("{{ raise_exception('never') }}", "chat template cannot be applied: never"),
    ],
)
def test_a_chat_that_cannot_be_is_refused_in_one_line(template: str | None, message: str):
    _, asking = settings("chat")
    with pytest.raises(ConfigError, match=message) as caught:
        as_chat(asking, (), tokenizer(template))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "more", "kind"),
    [
        (NAMED, (), "chat"),
        (None, (), "few_shot"),
        (NAMED, ("asking.template='{question}'",), "plain"),
        (NAMED, (f"asking.template='{OWN}'",), "plain"),
        (NAMED, ("questions.answers=written",), "plain"),
    ],
)
def test_the_form_is_chosen_by_model_and_questions(
    template: str | None, more: tuple[str, ...], kind: str, caplog: pytest.LogCaptureFixture
):
    questions, asking = settings("auto", *more)
    with caplog.at_level("INFO"):
        assert chosen_kind(asking, questions, tokenizer(template)).name == kind
    assert caplog.messages[0].startswith(f"asking=auto: {kind}, as ")


def test_a_statement_is_the_question_where_answers_begin_without_a_space():
    """After "<assistant>\\n" an answer is "Oslo", which no statement goes on with."""
    _, asking = settings("plain")
    one = people(1).questions[0]
    asked = templated(people(1), replace(asking, template="user {question}\n"))
    assert asked.questions[0].short == f"user {one.prompt}\n".replace("person0", "{subject}")


@pytest.mark.parametrize("answers", AnswerSource)
def test_what_does_not_fit_the_context_is_named_and_left_out(
    answers: AnswerSource, caplog: pytest.LogCaptureFixture
):
    questions = people(2)
    first, *rest = questions.questions
    long = "old " * 20
    written = answers is AnswerSource.written
    spoilt = replace(first, **({"answers": (long,)} if written else {"prompt": long}))
    wordy = replace(rest[0], wordings=(long, "short?"))
    made = replace(questions, questions=(spoilt, wordy, *rest[1:]), written=written)
    left = fitting(made, tokenizer(None), 16)
    assert [one.id for one in left.questions] == [one.id for one in rest]
    assert left.questions[0].wordings == ("short?",)
    said = "1 of 4 questions do not fit the model's context of 16 tokens: person0-river"
    assert said in caplog.text
    with pytest.raises(DataError, match="4 of 4 questions do not fit the model's context of 3"):
        fitting(made, tokenizer(None), 3)
