"""Questions with reference answers, as the detector asks them, and their reader."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import NamedTuple

import numpy as np

from ghosttrack.data.documents import parsed
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.columns import listed
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.records import Row, read_rows


@dataclass(frozen=True)
class Question:
    """One thing that the model is asked, and what counts as right."""

    id: str
    """Unique within its set."""
    prompt: str
    """Exact text that the model continues."""
    answers: tuple[str, ...]
    """The right answer first, then its aliases."""
    group: str
    """Unit of independence: questions of one group never stand on both sides of a split."""
    subject: str = ""
    """Name of what is asked about, as it stands in the prompt; empty: not known."""
    relation: str = ""
    """What is asked of the subject; empty: not known."""
    kind: str = ""
    """Kind of subject: names of the same kind may stand in its place; empty: not known."""
    wordings: tuple[str, ...] = ()
    """Other full prompts that ask the same, with the subject in place."""
    short: str = ""
    """Shortest statement whose continuation is the answer, with `{subject}`."""
    wrong: tuple[str, ...] = ()
    """Answers that somebody wrote to be wrong, the likeliest first."""
    tier: str = ""
    """Generated world: how often the subject was seen (`head`, `mid`, `rare`, `unseen`); `gap`: the
    subject was, this fact was not."""
    status: str = ""
    """Generated world: `known`, `unknown_attribute` or `unknown_entity`."""
    exposure: int = -1
    """Times that the fact was seen in training; -1: not known."""
    asked: str = ""
    """The bare question, without what a template sets around it; empty: the prompt is it."""


Templates = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Kind of subject and relation to the texts that ask it, the shortest statement first."""


@dataclass(frozen=True)
class QuestionSet:
    """Questions with what they share."""

    name: str
    questions: tuple[Question, ...]
    names: Mapping[str, tuple[str, ...]]
    """Kind of subject to the names that may stand in for one another."""
    stop: tuple[str, ...]
    """Texts that end an answer; not part of it."""
    max_new_tokens: int
    identity: Mapping[str, object]
    """What determines the set, for the identity of artefacts made from it."""
    written: bool = False
    """Not the model's answers are judged but a right and a wrong one that others wrote."""
    templates: Templates = field(default_factory=dict)
    """Relations that can be asked about every subject of a kind, beside those that the questions
    show (`detector/asking/families/siblings.py`)."""
    template: str = "{question}"
    """The prompt around a question."""
    turn: str = "{text}"
    """What stands around another text that the model is asked, in a chat a turn's marks."""

    def drawn(self, num: int, seed: int) -> "QuestionSet":
        """Draw so many questions, first one of every group; they keep the set's order."""
        is_drawn = num < len(self.questions)
        return replace(
            self,
            questions=_draw(self.questions, num, seed),
            identity={**self.identity, "num": num, "seed": seed if is_drawn else None},
        )


class Layout(NamedTuple):
    """Which columns hold what, lower-case with `_` for blanks.

    A field of an object is `column.field`.
    """

    answer: tuple[str, ...] = ()
    """One right answer each."""
    answers: tuple[str, ...] = ()
    """Several right answers each, after those of `answer`."""
    wrong: tuple[str, ...] = ()
    """One wrong answer each."""
    wrongs: tuple[str, ...] = ()
    """Several wrong answers each, after those of `wrong`."""
    question: str = "question"
    id: str = "id"
    group: str = "group"
    subject: str = "subject"
    subject_aliases: str = ""
    """Other names of the subject; with them it need not stand in the question."""
    relation: str = "relation"


LAYOUTS: Mapping[QuestionKind, Layout] = {
    QuestionKind.file: Layout(
        answer=("answer", "best_answer", "right_answer"),
        answers=("answers", "correct_answers", "possible_answers"),
        wrong=("wrong_answer", "best_incorrect_answer", "hallucinated_answer"),
        wrongs=("wrong_answers", "incorrect_answers"),
    ),
    QuestionKind.truthfulqa: Layout(
        answer=("best_answer",),
        answers=("correct_answers",),
        wrong=("best_incorrect_answer",),
        wrongs=("incorrect_answers",),
        relation="category",
    ),
    QuestionKind.halueval: Layout(answer=("right_answer",), wrong=("hallucinated_answer",)),
    # An id stands for as many rows as there are pages with the answer.
    QuestionKind.triviaqa: Layout(answer=("answer.value",), answers=("answer.aliases",), id=""),
    QuestionKind.popqa: Layout(
        answers=("possible_answers",),
        subject="subj",
        subject_aliases="s_aliases",
        relation="prop",
        group="subj",
    ),
    QuestionKind.nq_open: Layout(answers=("answer",)),
}
"""Of every kind that has questions to read."""


def read_questions(config: FileQuestions) -> QuestionSet:
    """Read all questions of `config.path`, bare, one a row.

    `LAYOUTS` says which columns are read, in any order and case, blanks as `_`;
    others are left alone. Of `questions=file`:

    - `question`.
    - `answers`: the right answer, then aliases; a list, a JSON list in a text, or a text with `;`
      between them. `answer` holds one and goes first.
    - `wrong_answer`, `wrong_answers`: likewise, for `questions.answers=written`.
    - `group`: default: the question, without case and punctuation.
    - `subject` (must stand in the question), `relation`, `kind` (default: the relation), `short`.
    - `wordings`: other questions that ask the same, written as `answers`.
    - `id`: default: the row's number from 0.

    Raises:
        ConfigError: `questions.path` is missing, of another kind, or cannot be had; or the set has
            no wrong answers and `questions.answers=written`.
        DataError: A row is malformed, or a question stands under two groups; names the place.
    """
    layout = LAYOUTS[config.kind]
    written = config.answers is AnswerSource.written
    if written and not (layout.wrong or layout.wrongs):
        raise ConfigError(
            f"questions.answers must be own: questions={config.kind.name} has no wrong answers"
        )
    found = read_rows(config)
    questions = tuple(
        _question(_RowReader(row, where, layout), index, written=written)
        for index, (where, row) in enumerate(found.rows)
    )
    if not questions:
        raise DataError(f"{config.path}: holds no questions; give at least one row")
    _check(str(config.path), questions)
    return QuestionSet(
        name=config.name,
        questions=questions,
        names=_names(questions),
        stop=tuple(config.stop),
        max_new_tokens=config.max_new_tokens,
        identity={
            "kind": config.kind.name,
            **found.identity,
            "answers": config.answers.name,
        },
        written=written,
    )


class _RowReader(NamedTuple):
    """A row, its place, and where its set keeps what."""

    row: Row
    where: str
    layout: Layout

    def answers(self, single: tuple[str, ...], several: tuple[str, ...]) -> tuple[str, ...]:
        """Collect answers: columns of one each, then columns of several, each once."""
        found = [_text(self.row, name, self.where) for name in single]
        found += [text for name in several for text in _texts(self.row, name, self.where)]
        return tuple(dict.fromkeys(text for text in found if text))

    def subject(self, asked: tuple[str, ...]) -> str:
        """Name what is asked about, by the name or an alias that stands in every wording.

        Raises:
            DataError: None does, in a layout without aliases.
        """
        own = _text(self.row, self.layout.subject, self.where)
        if not self.layout.subject_aliases:
            for text in asked:
                if own not in text:
                    raise DataError(f"{self.where}: subject {own!r} does not stand in {text!r}")
            return own
        names = [own, *_texts(self.row, self.layout.subject_aliases, self.where)]
        return next((name for name in names if name and all(name in one for one in asked)), "")


def bare_question(row: Row, where: str, index: int) -> Question:
    """Read one row, columns as in `read_questions`, that need not have answers.

    Raises:
        DataError: A column is malformed, or there is no question; `where` names the row.
    """
    read = _RowReader(row, where, LAYOUTS[QuestionKind.file])
    return _question(read, index, written=False, needs_answers=False)


def _question(
    read: _RowReader, index: int, *, written: bool, needs_answers: bool = True
) -> Question:
    row, where, layout = read
    asked = _text(row, layout.question, where)
    if not asked:
        raise DataError(f"{where}: no `{layout.question}`; found {listed(row)}")
    answers = read.answers(layout.answer, layout.answers)
    if needs_answers and not answers:
        name = (*layout.answers, *layout.answer)[0]
        raise DataError(f"{where}: no `{name}`; found {listed(row)}")
    wrong = read.answers(layout.wrong, layout.wrongs)
    if written and not wrong:
        names = " or ".join(f"`{name}`" for name in (*layout.wrong, *layout.wrongs))
        raise DataError(f"{where}: questions.answers=written needs {names}; use own")
    relation = _text(row, layout.relation, where)
    others, short = _texts(row, "wordings", where), _text(row, "short", where)
    if short and "{subject}" not in short:
        raise DataError(f"{where}: short must contain {{subject}}, got {short!r}")
    return Question(
        id=_text(row, layout.id, where) or str(index),
        prompt=asked,
        answers=answers,
        group=_text(row, layout.group, where) or normalised(asked),
        subject=read.subject((asked, *others)),
        relation=relation,
        kind=_text(row, "kind", where) or relation,
        wordings=tuple(others),
        short=short,
        wrong=wrong,
    )


def _text(row: Mapping[str, object], column: str, where: str) -> str:
    """Return a column's text, stripped; empty where there is none."""
    value = row.get(column, "")
    is_nan = isinstance(value, float) and not isfinite(value)
    if is_nan or isinstance(value, bool) or not isinstance(value, str | int | float):
        got = (
            f"an object of {listed(value)}" if value and isinstance(value, Mapping) else repr(value)
        )
        raise DataError(f"{where}: {column} must be a text, got {got}")
    return str(value).strip()


def _texts(row: Mapping[str, object], column: str, where: str) -> list[str]:
    """Return a column's texts: a list, a JSON list in a text, or a text with `;` between them.

    Of an object those of its `text`, as SQuAD writes answers.
    """
    value = row.get(column, [])
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        value = parsed(value, f"{where}: {column}", "write a JSON list")
    if not isinstance(value, list):
        value = _text(row, column, where).split(";")
    texts = [_text({column: item}, column, where) for item in value]
    return [text for text in texts if text]


def normalised(text: str) -> str:
    """Return the words of a text without case and punctuation."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or text


def _check(path: str, questions: tuple[Question, ...]) -> None:
    """Refuse an id, or a text under two groups, that would stand for two questions."""
    ids: set[str] = set()
    groups: dict[str, str] = {}
    for question in questions:
        if question.id in ids:
            raise DataError(f"{path}: id {question.id!r} stands for two questions; make it unique")
        ids.add(question.id)
        group = groups.setdefault(question.prompt, question.group)
        if group != question.group:
            raise DataError(
                f"{path}: the question {question.prompt!r} stands under the groups {group!r} and"
                f" {question.group!r}; give it one"
            )


def _names(questions: tuple[Question, ...]) -> dict[str, tuple[str, ...]]:
    """Collect the subjects of each kind, in the file's order."""
    names: dict[str, dict[str, None]] = {}
    for question in questions:
        if question.subject and question.kind:
            names.setdefault(question.kind, {})[question.subject] = None
    return {kind: tuple(subjects) for kind, subjects in names.items()}


def _draw(questions: tuple[Question, ...], num: int, seed: int) -> tuple[Question, ...]:
    """Draw `num` questions, one of each group before a second of any."""
    if num >= len(questions):
        return questions
    order = np.random.default_rng(seed).permutation(len(questions))
    groups = [questions[index].group for index in order]
    _, first = np.unique(groups, return_index=True)
    later = np.setdiff1d(np.arange(len(order)), first)
    drawn = np.concatenate([order[np.sort(first)], order[later]])[:num]
    return tuple(questions[index] for index in np.sort(drawn))
