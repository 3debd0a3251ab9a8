"""Settings of question sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ghosttrack.errors import ConfigError, check_folder_name, check_least

AUTO = "auto"


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


class AskingKind(Enum):
    """In which form a question is put."""

    auto = "auto"
    plain = "plain"
    few_shot = "few_shot"
    chat = "chat"


class AnswerSource(Enum):
    """Whose answers are judged."""

    own = "own"
    written = "written"


@dataclass
class QuestionsConfig:
    """What the model is asked, or what some model answered elsewhere; a kind adds what it reads."""

    kind: QuestionKind
    name: str

    def __post_init__(self) -> None:
        if type(self) is not SCHEMAS[self.kind]:
            kind = self.kind.name
            raise ConfigError(f"questions.kind={kind} goes with questions={kind}; leave it to that")
        check_folder_name("questions.name", self.name)


@dataclass
class WorldQuestions(QuestionsConfig):
    """Questions that the model answers: those of the generated world."""

    num: int
    """At most this many, drawn with `seed`; every group keeps at least one while it can."""
    template: str
    """The prompt around a question, for example "Q: {question}\\nA:", unless `asking` says so."""
    max_new_tokens: int
    """Longest answer, in tokens, unless `asking` says so."""
    stop: list[str]
    """Texts that end an answer, unless `asking` says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("questions", self, num=1)
        check_prompting("questions", self.template, self.max_new_tokens)


@dataclass
class FileQuestions(WorldQuestions):
    """Questions that stand in a file or a folder."""

    path: str
    """.jsonl, .csv or .parquet, or a folder made by save_to_disk."""
    split: str | None
    """Of a dataset; a folder with one dataset is taken whole."""
    answers: AnswerSource
    """`own`: the model answers. `written`: of each question a right and a wrong answer that others
    wrote are judged; the model says nothing of its own."""


@dataclass
class PublishedQuestions(FileQuestions):
    """A set that others published, known by its columns: `path` is an id on the hub besides."""

    subset: str | None
    """Part of a dataset on the hub; null where it has but one."""
    revision: str | None
    """Commit, branch or tag of a dataset on the hub; null is its newest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split is None:
            raise ConfigError("questions.split is required; set questions.split=...")


class LabelSource(Enum):
    """Who says whether a ready answer is right."""

    file = "file"
    ours = "ours"


@dataclass
class ReadyAnswers(QuestionsConfig):
    """Answers that are there already, `ready_answers.py` says in which form; no model is asked."""

    path: str
    """`option_scores`: folder of LM-Pub-Quiz's results. `answered`: JSONL with `question, response,
    ...`."""
    labels: LabelSource
    """`file`: a row's label counts where it has one. `ours`: responses are compared with the
    references of their rows. Where the two differ is reported either way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind is QuestionKind.option_scores and self.labels is not LabelSource.file:
            raise ConfigError("questions.labels must be file: the right option stands in the file")


SCHEMAS: Mapping[QuestionKind, type[QuestionsConfig]] = {
    **dict.fromkeys(QuestionKind, PublishedQuestions),
    QuestionKind.ghostworld: WorldQuestions,
    QuestionKind.file: FileQuestions,
    QuestionKind.option_scores: ReadyAnswers,
    QuestionKind.answered: ReadyAnswers,
}
"""What each kind of question set reads."""


@dataclass
class AskingConfig:
    """How questions are put to the model, and what more it is asked about its answers."""

    kind: AskingKind
    """`plain`: by the template. `few_shot`: so, after questions with their answers. `chat`: by the
    tokenizer's chat template. `auto`: by what model and questions are."""
    template: str
    """The prompt around a question, with {question}; of a chat, the user's turn. `auto`: the set's
    own; of a chat, whose set has one for models that continue texts, the bare question."""
    max_new_tokens: int
    """Longest answer, in tokens."""
    stop: list[str]
    """Texts that end an answer; not part of it."""
    shots: int
    """Questions of the set that come first with their answers, as turns in a chat; their groups are
    not asked. 0: none, of a chat alone."""
    shots_path: str | None
    """A file laid out as `questions=file`, all of which is shown; null: `shots` of the set."""
    system: str
    """What a chat begins with; "": nothing, or what its template says of its own."""
    samples: int
    """Further answers per question at temperature 1, for their agreement; 0: none."""
    entailment: str | None
    """Hub id or folder of a model that tells entailment from contradiction, to compare samples by
    it as well; null: by their words alone."""
    p_true: str | None
    """Prompt with {question} and {answer} that "True" or "False" continues; `auto`: the usual one,
    where a detector that is judged reads it and questions are not the generated world's, whose
    models know no such words; null: the model cannot be asked about its answers."""
    confidence: str | None
    """Likewise a prompt that the probability of a right answer continues."""

    def __post_init__(self) -> None:
        template = "{question}" if self.template == AUTO else self.template
        check_prompting("asking", template, self.max_new_tokens)
        check_least("asking", self, shots=int(self.kind is AskingKind.few_shot), samples=0)
        if self.entailment is not None and not self.samples:
            raise ConfigError("asking.entailment compares samples: set asking.samples=10, say")
        for name in ("p_true", "confidence"):
            asking = getattr(self, name)
            for place in ("{question}", "{answer}"):
                if asking not in (None, AUTO) and place not in asking:
                    raise ConfigError(f"asking.{name} must be auto, null or contain {place}")


def check_prompting(group: str, template: str, max_new_tokens: int) -> None:
    """Refuse a template that leaves the question out, and an answer without room."""
    if "{question}" not in template:
        raise ConfigError(f"{group}.template must contain {{question}}")
    if max_new_tokens < 1:
        raise ConfigError(f"{group}.max_new_tokens must be at least 1, got {max_new_tokens}")
