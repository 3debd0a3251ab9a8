"""Settings of question sets."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ghosttrack.errors import ConfigError, check_folder_name


class QuestionKind(Enum):
    """Where questions come from."""

    ghostworld = "ghostworld"
    file = "file"
    truthfulqa = "truthfulqa"
    halueval = "halueval"
    triviaqa = "triviaqa"
    popqa = "popqa"
    nq_open = "nq_open"
    option_scores = "option_scores"
    answered = "answered"

    @property
    def is_ready(self) -> bool:
        """The answers are there already, no model is asked."""
        return self in (QuestionKind.option_scores, QuestionKind.answered)

    @property
    def is_published(self) -> bool:
        """A set that others published, known by its columns, on the hub or on the disk."""
        own = (QuestionKind.ghostworld, QuestionKind.file)
        return self not in own and not self.is_ready


class AnswerSource(Enum):
    """Whose answers are judged."""

    own = "own"
    written = "written"


class Asking(NamedTuple):
    """How questions are put to a model; `QuestionsConfig` says what each is."""

    num: int
    answers: AnswerSource
    template: str
    max_new_tokens: int
    stop: list[str]


@dataclass
class QuestionsConfig:
    """What the model is asked, or what some model answered elsewhere (`ready_answers.py`).

    What ready answers have no use for is null with them.
    """

    kind: QuestionKind
    name: str
    path: str | None
    """`file` and published sets: .jsonl, .csv or .parquet, or a folder made by save_to_disk; of
    published sets an id on the hub besides. `option_scores`: folder of LM-Pub-Quiz's results.
    `answered`: JSONL with `question, response, ...`."""
    subset: str | None
    """Part of a dataset on the hub; null where it has but one."""
    split: str | None
    """Of a dataset; a folder with one dataset is taken whole."""
    revision: str | None
    """Commit, branch or tag of a dataset on the hub; null is its newest."""
    num: int | None
    """At most this many, drawn with `seed`; every group keeps at least one while it can."""
    answers: AnswerSource | None
    """`own`: the model answers. `written`: of each question a right and a wrong answer that others
    wrote are judged; the model says nothing of its own."""
    template: str | None
    """The prompt around a question of a file, for example "Q: {question}\\nA:"."""
    max_new_tokens: int | None
    """Longest answer, in tokens."""
    stop: list[str] | None
    """Texts that end an answer; not part of it."""

    def __post_init__(self) -> None:
        check_folder_name("questions.name", self.name)
        if self.kind is not QuestionKind.ghostworld and self.path is None:
            raise ConfigError("questions.path is required; set questions.path=...")
        self._check_asking()
        if self.kind is QuestionKind.ghostworld and self.answers is not AnswerSource.own:
            raise ConfigError("questions.answers must be own: nobody wrote answers for ghostworld")
        if self.kind.is_published and self.split is None:
            raise ConfigError("questions.split is required; set questions.split=...")
        if not self.kind.is_published:
            self._refuse(
                "subset", "revision", *(() if self.kind is QuestionKind.file else ["split"])
            )

    def _check_asking(self) -> None:
        for field in Asking._fields:
            value = getattr(self, field)
            if self.kind.is_ready:
                self._refuse(field)
            elif value is None:
                raise ConfigError(f"questions.{field} is required; set questions.{field}=...")
            if type(value) is int and value < 1:
                raise ConfigError(f"questions.{field} must be at least 1, got {value}")
        if self.template is not None and "{question}" not in self.template:
            raise ConfigError("questions.template must contain {question}")

    def _refuse(self, *fields: str) -> None:
        for field in fields:
            if getattr(self, field) is not None:
                raise ConfigError(
                    f"questions.{field} is nothing to questions={self.kind.name}; leave it null"
                )

    @property
    def asking(self) -> Asking:
        """How they are asked; ready answers are not."""
        values = [getattr(self, field) for field in Asking._fields]
        assert None not in values, self
        return Asking(*values)
