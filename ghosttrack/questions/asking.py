"""How a model is asked: every form ends in a plain template around the question."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import TemplateError

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.config import (
    AUTO,
    AnswerSource,
    AskingConfig,
    AskingKind,
    FileQuestions,
    QuestionKind,
)
from ghosttrack.questions.names import as_template
from ghosttrack.questions.sets import Question, QuestionSet, normalised, read_questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION, ANSWER = "{question}", "{answer}"
P_TRUE = (
    "Question: {question}\nProposed answer: {answer}\nIs the proposed answer True or False? It is"
)
CONFIDENCE = (
    "Question: {question}\nProposed answer: {answer}\n"
    "How likely is the proposed answer to be right, from 0% to 100%? Probability:"
)
"""What a model is asked that knows such words."""
LEAST_GROUPS = 2
"""That must be left to ask about, once others are shown."""
ANY_DAY = "01 Jan 2025"
"""What templates tell as the date (Llama 3): a prompt must be the same every day."""
NAMED = 5
"""Questions that a message names."""
UNRENDERED = (TemplateError, ValueError, TypeError)
"""What a chat template raises that these messages do not suit, or that asks for more than them."""

log = logging.getLogger(__name__)


def chosen_kind(
    asking: AskingConfig, questions: FileQuestions, tokenizer: "PreTrainedTokenizerBase"
) -> AskingKind:
    """Say in which form questions are put, and log it where it was left open."""
    if asking.kind is not AskingKind.auto:
        return asking.kind
    if asking.template != AUTO:
        kind, why = AskingKind.plain, "as asking.template is given"
    elif questions.answers is AnswerSource.written:
        kind, why = AskingKind.plain, "as others wrote the answers"
    elif tokenizer.chat_template:
        kind, why = AskingKind.chat, "as the tokenizer has a chat template"
    else:
        kind, why = AskingKind.few_shot, "as the tokenizer has no chat template"
    log.info("asking=auto: %s, %s", kind.name, why)
    return kind


def with_template(asking: AskingConfig, own: str) -> AskingConfig:
    """Resolve the template where the set's own is meant."""
    return replace(asking, template=own) if asking.template == AUTO else asking


def templated(questions: QuestionSet, asking: AskingConfig) -> QuestionSet:
    """Make prompts of bare questions, by settings that are plain.

    After a template that ends in a blank answers begin without one, as they never do after a
    statement: the whole question stands in the place of `short` then.
    """

    def wrap(text: str) -> str:
        return asking.template.replace(QUESTION, text)

    def as_prompt(one: Question) -> Question:
        prompt, short = wrap(one.prompt), one.short
        if short and asking.template[-1:].isspace():
            named = as_template(one.prompt, one.subject)
            short = wrap(named) if named else ""
        wordings = tuple(map(wrap, one.wordings))
        return replace(one, prompt=prompt, asked=one.prompt, wordings=wordings, short=short)

    return replace(
        questions,
        questions=tuple(map(as_prompt, questions.questions)),
        template=asking.template,
        stop=tuple(asking.stop),
        max_new_tokens=asking.max_new_tokens,
        identity={**questions.identity, "template": asking.template},
    )


def as_chat(
    asking: AskingConfig, shots: Sequence[Question], tokenizer: "PreTrainedTokenizerBase"
) -> AskingConfig:
    """Resolve a chat: shots as its first turns, then the user's; the line or the turn ends it.

    Raises:
        ConfigError: The tokenizer has no chat template, or one that cannot be applied.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "asking=chat, but the tokenizer has no chat template; set asking=few_shot or plain"
        )
    turn = QUESTION if asking.template == AUTO else asking.template
    said = [(turn.replace(QUESTION, one.prompt), one.answers[0]) for one in shots]
    prompt, after = _conversations(tokenizer, asking.system, [*said, (turn, ANSWER)])
    marks = map(str, tokenizer.added_tokens_decoder.values())
    ends = [mark for mark in marks if after.lstrip().startswith(mark)]
    stop = [*asking.stop, *sorted(set(ends) - set(asking.stop), key=len)[-1:]]
    return replace(asking, kind=AskingKind.plain, template=prompt, stop=stop)


def user_turn(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Give what a chat template sets around `{text}`, asked without a system's word before it.

    Raises:
        ConfigError: It cannot be applied.
    """
    messages = [{"role": "user", "content": "{text}"}]
    try:
        return _render(tokenizer, messages, add_generation_prompt=True)
    except UNRENDERED as error:
        raise _inapplicable(error) from error


def _conversations(
    tokenizer: "PreTrainedTokenizerBase", system: str, turns: Sequence[tuple[str, str]]
) -> tuple[str, str]:
    """Return the chat up to the last answer, and what stands behind that."""
    said = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    first = {"role": "user", "content": f"{system}\n\n{turns[0][0]}"}
    forms = [[{"role": "system", "content": system}, *said], [first, *said[1:]]]
    error = None
    for form in forms if system else [said]:  # without a system's role templates raise, or drop it
        try:
            prompt = _render(tokenizer, form[:-1], add_generation_prompt=True)
            whole = _render(tokenizer, form)
        except UNRENDERED as raised:
            error = raised
            continue
        if QUESTION in prompt and system.strip() in prompt:
            return prompt, whole.partition(ANSWER)[2]
    raise _inapplicable(error or "it leaves the question out")


def _inapplicable(why: Exception | str) -> ConfigError:
    said = str(why).splitlines()[0]
    return ConfigError(f"asking=chat: the tokenizer's chat template cannot be applied: {said}")


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, str]],
    *,
    add_generation_prompt: bool = False,
) -> str:
    text = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        enable_thinking=False,
        date_string=ANY_DAY,
    )
    assert isinstance(text, str)
    return text


def as_few_shot(asking: AskingConfig, shots: Sequence[Question]) -> AskingConfig:
    """Resolve few-shot asking: shots come before every question, in the same template."""
    said = [f"{asking.template.replace(QUESTION, one.prompt)} {one.answers[0]}" for one in shots]
    template = "\n\n".join([*said, asking.template])
    return replace(asking, kind=AskingKind.plain, template=template)


def part_shots(
    questions: QuestionSet, asking: AskingConfig, seed: int
) -> tuple[tuple[Question, ...], QuestionSet]:
    """Choose what is shown; its groups are gone from the questions that are left.

    Raises:
        ConfigError: `asking.shots_path` is no question file, or too few groups are left.
        DataError: The file is malformed.
    """
    if asking.shots_path is None:
        shots = _draw_shots(questions.questions, asking.shots, seed)
    else:
        shots = _read_shots(asking.shots_path, asking)
    texts = {normalised(one.prompt) for one in shots}
    groups = {one.group for one in shots}
    groups |= {one.group for one in questions.questions if normalised(one.prompt) in texts}
    rest = tuple(one for one in questions.questions if one.group not in groups)
    if len({one.group for one in rest}) < LEAST_GROUPS:
        raise ConfigError(
            f"questions={questions.name} has {len({one.group for one in questions.questions})}"
            f" groups, too few to show {len(shots)} and to ask about {LEAST_GROUPS} others; set"
            " asking.shots lower, asking.shots_path=<question file>, or asking=plain"
        )
    log.info("shown before every question: %s", ", ".join(repr(one.prompt) for one in shots))
    subjects = {one.subject for one in shots}
    names = {
        kind: tuple(name for name in held if name not in subjects)
        for kind, held in questions.names.items()
    }
    return shots, replace(questions, questions=rest, names=names)


def _draw_shots(questions: Sequence[Question], n: int, seed: int) -> tuple[Question, ...]:
    """Draw questions of different groups, and of different relations while there are any.

    Those that name no other question's subject come first: names are exchanged in whole prompts.
    """
    order = np.random.default_rng(seed).permutation(len(questions))
    subjects = {one.subject for one in questions}
    drawn: dict[str, Question] = {}
    for is_strict in (True, False):
        for one in (questions[at] for at in order):
            if len(drawn) == n:
                break
            if one.group in drawn or (is_strict and not _is_apart(one, drawn.values(), subjects)):
                continue
            drawn[one.group] = one
    return tuple(drawn.values())


def _is_apart(one: Question, drawn: Iterable[Question], subjects: Collection[str]) -> bool:
    """Tell whether a shot is of a relation of its own, and names nobody that others ask about."""
    if one.relation and any(one.relation == other.relation for other in drawn):
        return False
    text = f"{one.prompt} {one.answers[0]}"
    named = (name for name in subjects if name != one.subject and name in text)
    return not any(as_template(text, name) for name in named)


def _read_shots(path: str, asking: AskingConfig) -> tuple[Question, ...]:
    if not Path(path).expanduser().is_file():
        raise ConfigError(f"asking.shots_path={path} is not a file")
    settings = FileQuestions(
        kind=QuestionKind.file,
        name="shots",
        num=1,
        template=QUESTION,
        max_new_tokens=asking.max_new_tokens,
        stop=asking.stop,
        path=path,
        split=None,
        answers=AnswerSource.own,
    )
    return read_questions(settings).questions


def fitting(
    questions: QuestionSet, tokenizer: "PreTrainedTokenizerBase", n_ctx: int
) -> QuestionSet:
    """Leave out questions, and wordings, that do not fit the model's context with their answer.

    Raises:
        DataError: None fits.
    """
    kept, lost = [], []
    room = n_ctx - 1 - (0 if questions.written else questions.max_new_tokens)  # 1: BOS

    def fits(text: str) -> bool:
        if len(text.encode()) < room:  # no token is shorter than a byte
            return True
        return len(tokenizer.encode(text, add_special_tokens=False, verbose=False)) <= room

    for one in questions.questions:
        said = max((*one.answers, *one.wrong), key=len) if questions.written else ""
        if fits(f"{one.prompt} {said}"):
            kept.append(replace(one, wordings=tuple(filter(fits, one.wordings))))
        else:
            lost.append(one.id)
    if not lost:
        return replace(questions, questions=tuple(kept))
    named = ", ".join(lost[:NAMED]) + (", ..." if len(lost) > NAMED else "")
    said = (
        f"{len(lost)} of {len(questions.questions)} questions do not fit the model's context of"
        f" {n_ctx} tokens: {named}"
    )
    if not kept:
        raise DataError(f"{said}; set asking=plain, or fewer asking.shots")
    log.warning("left out: %s", said)
    return replace(questions, questions=tuple(kept))
