"""The model's own answers: what it said, how sure it was, and whether it was right."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.output_scores import output_scores
from ghosttrack.detector.table import Table, read_parquet
from ghosttrack.errors import DataError
from ghosttrack.models.generate import GenerateSettings, Generation, generate, work
from ghosttrack.models.lm import LM
from ghosttrack.models.score import TokenScores, score
from ghosttrack.questions.categories import RIGHT, UNJUDGED, WRITTEN, Label, categorise
from ghosttrack.questions.sets import Question, QuestionSet

OUTPUT_PREFIX = "output:"
TEXT, TEXTS, REALS = pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())
TYPES = {
    **dict.fromkeys(("question_ids", "groups", "prompts", "asked", "subjects"), TEXT),
    **dict.fromkeys(("relations", "tiers", "texts", "categories", "other_categories"), TEXT),
    **{"references": TEXTS, "token_ids": pa.list_(pa.int64())},
    **dict.fromkeys(("logprobs", "entropies", "margins"), REALS),
    **{"labels": pa.int64(), "exposures": pa.int64(), "prob": pa.float64()},
}
"""Column of the file to its type: the fields of `Answers` but the output scores."""


@dataclass(frozen=True)
class Answers:
    """One greedy answer per question; every field runs parallel to the questions.

    An answer is never without tokens: where the model stops at once, the token it stopped with
    stands in `token_ids` and `texts` holds "". Of answers that were given elsewhere none has any.
    """

    question_ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Unit of independence (question or entity)."""
    prompts: tuple[str, ...]
    asked: tuple[str, ...]
    """The bare questions, without what a template sets around them."""
    subjects: tuple[str, ...]
    relations: tuple[str, ...]
    tiers: tuple[str, ...]
    exposures: Int[np.ndarray, " sample"]
    """How often the fact was seen in training; -1 where nobody knows."""
    texts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    """Right answer and its aliases."""
    labels: Int[np.ndarray, " sample"]
    """1 = hallucinated; of no meaning where the answer is not judged."""
    categories: tuple[str, ...]
    """correct | wrong | no_answer | echo; on a world: correct | lucky | wrong_known |
    unknown_attribute | unknown_entity; of answers that others wrote: written_right |
    written_wrong."""
    other_categories: tuple[str, ...]
    """The same to another eye (`categories.Label`): a file's label, or a match that does not see
    the question."""
    prob: Float[np.ndarray, " sample"]
    """Probability of the whole answer, the product over its tokens; NaN: not known."""
    token_ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    """Per token, nats."""
    entropies: tuple[tuple[float, ...], ...]
    """Of the distribution that each token was taken from, nats."""
    margins: tuple[tuple[float, ...], ...]
    """Log-probability of the best token minus that of the second."""
    output: Table
    """Output scores; `output_scores.OUTPUT_SCORES` defines them."""

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        assert len(set(lengths.values())) == 1, f"fields of different lengths: {lengths}"
        assert all(self.token_ids) or not any(self.token_ids), "an answer without tokens"

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def are_written(self) -> bool:
        """Others wrote the answers; the model only read them."""
        return any(category in WRITTEN for category in self.categories)

    @property
    def is_judged(self) -> Bool[np.ndarray, " sample"]:
        """Whether an answer is right or wrong: neither an echo of the question, nor none."""
        return np.array([one not in UNJUDGED for one in self.categories], dtype=bool)

    @property
    def is_ambiguous(self) -> Bool[np.ndarray, " sample"]:
        """Whether an answer is right to one eye and not to the other."""
        pairs = zip(self.categories, self.other_categories, strict=True)
        return np.array([(one in RIGHT) != (other in RIGHT) for one, other in pairs], dtype=bool)

    def judged(self) -> "Answers":
        """Keep the answers that are right or wrong."""
        return self.take(np.flatnonzero(self.is_judged))

    def take(self, rows: Int[np.ndarray, " row"]) -> "Answers":
        """Choose answers, in this order; one may come more than once."""
        taken: dict[str, Any] = {"output": self.output.take(rows)}
        for name in (field.name for field in fields(self) if field.name != "output"):
            held = getattr(self, name)
            is_array = isinstance(held, np.ndarray)
            taken[name] = held[rows] if is_array else tuple(held[row] for row in rows)
        return Answers(**taken)

    def save(self, path: Path) -> None:
        """Write one Parquet file; output scores are its columns `output:<name>`."""
        columns = {name: pa.array(getattr(self, name), kind) for name, kind in TYPES.items()}
        for name, column in zip(self.output.names, self.output.values.T, strict=True):
            columns[OUTPUT_PREFIX + name] = pa.array(column)
        pq.write_table(pa.table(columns), path)

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, is no Parquet, or lacks a column.
        """
        stored = read_parquet(path, "answers")
        missing = sorted(set(TYPES) - set(stored.column_names))
        if missing:
            raise DataError(f"{path}: holds no answers: no column {', '.join(missing)}")
        values: dict[str, Any] = {}
        for name, kind in TYPES.items():
            if pa.types.is_primitive(kind):
                values[name] = stored[name].to_numpy()
            else:
                rows = stored[name].to_pylist()
                values[name] = tuple(tuple(row) if isinstance(row, list) else row for row in rows)
        scores = [name for name in stored.column_names if name.startswith(OUTPUT_PREFIX)]
        matrix = np.column_stack([stored[name].to_numpy() for name in scores])
        output = Table(tuple(name.removeprefix(OUTPUT_PREFIX) for name in scores), matrix)
        return cls(**values, output=output)

    @classmethod
    def of(
        cls,
        questions: Sequence[Question],
        texts: Sequence[str],
        labels: Sequence[Label],
        output: Table,
        logprob: str = "answer_logprob",
    ) -> "Answers":
        """Set answers without tokens beside what is known of their questions.

        `logprob` names the output score that is the whole answer's log-probability.
        """
        none = ((),) * len(texts)
        categories, others = zip(*labels, strict=True) if labels else ((), ())
        return cls(
            question_ids=tuple(q.id for q in questions),
            groups=tuple(q.group for q in questions),
            prompts=tuple(q.prompt for q in questions),
            asked=tuple(q.asked or q.prompt for q in questions),
            subjects=tuple(q.subject for q in questions),
            relations=tuple(q.relation for q in questions),
            tiers=tuple(q.tier for q in questions),
            exposures=np.array([q.exposure for q in questions], dtype=np.int64),
            texts=tuple(texts),
            references=tuple(q.answers for q in questions),
            labels=np.array([category not in RIGHT for category in categories], dtype=np.int64),
            categories=categories,
            other_categories=others,
            prob=np.exp(output.column(logprob)),
            token_ids=none,
            logprobs=none,
            entropies=none,
            margins=none,
            output=output,
        )


class Response(NamedTuple):
    """What the model said to one question."""

    text: str
    token_ids: tuple[int, ...]
    scores: TokenScores
    label: Label | None = None
    """Where it is known without comparing the text with the references."""


def answer(lm: LM, questions: QuestionSet) -> Answers:
    """Let the model answer every question greedily, and judge what it said.

    `categories.categorise` says how what it said is compared with right answers.
    """
    prompts = [question.prompt for question in questions.questions]
    return assemble(questions.questions, respond(lm, prompts, questions))


def respond(lm: LM, prompts: Sequence[str], questions: QuestionSet) -> list[Response]:
    """Let the model continue prompts greedily, as the questions say; each answer has a token."""
    ids = lm.encode_all(prompts)
    settings = GenerateSettings(max_new_tokens=questions.max_new_tokens, stop=questions.stop)
    with Meter("answering", work(lm, ids, settings)) as meter:
        given = generate(lm, ids, settings, meter.advance)
    return [_given(lm, ids[one.prompt], one) for one in given]


def assemble(questions: Sequence[Question], given: Sequence[Response]) -> Answers:
    """Judge given answers and set them beside what is known of their questions."""
    pairs = zip(questions, given, strict=True)
    labels = [one.label or categorise(question, one.text) for question, one in pairs]
    scores = [one.scores for one in given]
    texts = [one.text for one in given]
    return replace(
        Answers.of(questions, texts, labels, output_scores(scores)),
        token_ids=tuple(one.token_ids for one in given),
        logprobs=tuple(tuple(one.logprobs.tolist()) for one in scores),
        entropies=tuple(tuple(one.entropies.tolist()) for one in scores),
        margins=tuple(tuple(one.margins.tolist()) for one in scores),
    )


def _given(lm: LM, prompt: list[int], generation: Generation) -> Response:
    if not generation.token_ids:
        return _silence(lm, prompt)
    measured = (generation.logprobs, generation.entropies, generation.max_probs)
    scores = [np.asarray(one, dtype=np.float64) for one in (*measured, generation.margins)]
    tokens = TokenScores(*scores, argmax_agrees=True)
    return Response(generation.text, tuple(generation.token_ids), tokens)


def _silence(lm: LM, prompt: list[int]) -> Response:
    """Take the token that the model stopped with as its answer, so that it can be scored."""
    ids = torch.tensor([prompt], device=lm.device)
    logits = lm.logits(ids, torch.ones_like(ids, dtype=torch.bool))
    stop = int(logits[0, -1].argmax())
    (scores,) = score(lm, [prompt], [[stop]])
    return Response("", (stop,), scores)
