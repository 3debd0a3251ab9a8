"""The model's own answers: what it said, how sure it was, and whether it was right."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.lib
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int

from ghosttrack.detector.answers.output_scores import output_scores
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from ghosttrack.models.generate import GenerateSettings, Generation, generate
from ghosttrack.models.lm import LM
from ghosttrack.models.score import TokenScores, score
from ghosttrack.questions.labels import RIGHT, WRITTEN, categorise
from ghosttrack.questions.sets import Question, QuestionSet

OUTPUT_PREFIX = "output:"
STRING_FIELDS = (
    "question_ids",
    "groups",
    "prompts",
    "subjects",
    "relations",
    "tiers",
    "texts",
    "categories",
)
RAGGED_FIELDS = ("token_ids", "logprobs", "entropies", "margins")


@dataclass(frozen=True)
class Answers:
    """One greedy answer per question; every field runs parallel to the questions.

    An answer is never without tokens: where the model stops at once, the token it stopped with
    stands in `token_ids`, `texts` holds "", and the answer counts as wrong. Of answers that were
    given elsewhere none has any.
    """

    question_ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Unit of independence (question or entity)."""
    prompts: tuple[str, ...]
    subjects: tuple[str, ...]
    relations: tuple[str, ...]
    tiers: tuple[str, ...]
    exposures: Int[np.ndarray, " sample"]
    """How often the fact was seen in training; -1 where nobody knows."""
    texts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    """Right answer and its aliases."""
    labels: Int[np.ndarray, " sample"]
    """1 = hallucinated."""
    categories: tuple[str, ...]
    """correct | wrong; on a world: correct | lucky | wrong_known | unknown_attribute |
    unknown_entity; of answers that others wrote: written_right | written_wrong."""
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
    """Output scores; `outputs.OUTPUT_SCORES` defines them."""

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
        columns: dict[str, pa.Array] = {}
        for name in STRING_FIELDS:
            columns[name] = pa.array(getattr(self, name), pa.string())
        columns["references"] = pa.array(self.references, pa.list_(pa.string()))
        for name in RAGGED_FIELDS:
            kind = pa.int64() if name == "token_ids" else pa.float64()
            columns[name] = pa.array(getattr(self, name), pa.list_(kind))
        for name in ("labels", "exposures", "prob"):
            columns[name] = pa.array(getattr(self, name))
        for name, column in zip(self.output.names, self.output.values.T, strict=True):
            columns[OUTPUT_PREFIX + name] = pa.array(column)
        pq.write_table(pa.table(columns), path)

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, is no Parquet, or lacks a column.
        """
        try:
            stored = pq.read_table(path)
        except (OSError, pyarrow.lib.ArrowInvalid) as fault:
            raise DataError(f"{path}: cannot be read as answers: {fault}") from fault
        wanted = [field.name for field in fields(cls) if field.name != "output"]
        missing = sorted(set(wanted) - set(stored.column_names))
        if missing:
            raise DataError(f"{path}: holds no answers: no column {', '.join(missing)}")
        values: dict[str, object] = {}
        for name in STRING_FIELDS:
            values[name] = tuple(stored[name].to_pylist())
        for name in (*RAGGED_FIELDS, "references"):
            values[name] = tuple(tuple(row) for row in stored[name].to_pylist())
        for name in ("labels", "exposures", "prob"):
            values[name] = stored[name].to_numpy()
        scores = tuple(name for name in stored.column_names if name.startswith(OUTPUT_PREFIX))
        matrix = np.empty((stored.num_rows, len(scores)))
        for column, name in enumerate(scores):
            matrix[:, column] = stored[name].to_numpy()
        output = Table(tuple(name.removeprefix(OUTPUT_PREFIX) for name in scores), matrix)
        return cls(**values, output=output)  # pyright: ignore[reportArgumentType]


class Response(NamedTuple):
    """What the model said to one question."""

    text: str
    token_ids: tuple[int, ...]
    scores: TokenScores
    category: str = ""
    """Where it is known without comparing the text with the references."""


def answer(lm: LM, questions: QuestionSet, *, batch_size: int = 256) -> Answers:
    """Let the model answer every question greedily, and judge what it said.

    Args:
        lm: The model that is examined.
        questions: With right answers; `labels.categorise` says how they are compared.
        batch_size: Prompts per forward pass; changes no result beyond rounding.
    """
    prompts = [question.prompt for question in questions.questions]
    given = respond(lm, prompts, questions.max_new_tokens, questions.stop, batch_size=batch_size)
    return assemble(questions.questions, given)


def respond(
    lm: LM,
    prompts: Sequence[str],
    max_new_tokens: int,
    stop: tuple[str, ...],
    *,
    batch_size: int = 256,
) -> list[Response]:
    """Let the model continue every prompt greedily; each answer has at least one token."""
    ids = lm.encode_all(prompts)
    settings = GenerateSettings(max_new_tokens=max_new_tokens, stop=stop, batch_size=batch_size)
    return [_given(lm, ids[one.prompt], one) for one in generate(lm, ids, settings)]


def assemble(questions: Sequence[Question], given: Sequence[Response]) -> Answers:
    """Judge given answers and set them beside what is known of their questions."""
    pairs = zip(questions, given, strict=True)
    categories = [one.category or categorise(question, one.text) for question, one in pairs]
    scores = [one.scores for one in given]
    return Answers(
        question_ids=tuple(q.id for q in questions),
        groups=tuple(q.group for q in questions),
        prompts=tuple(q.prompt for q in questions),
        subjects=tuple(q.subject for q in questions),
        relations=tuple(q.relation for q in questions),
        tiers=tuple(q.tier for q in questions),
        exposures=np.array([q.exposure for q in questions], dtype=np.int64),
        texts=tuple(one.text for one in given),
        references=tuple(q.answers for q in questions),
        labels=np.array([category not in RIGHT for category in categories], dtype=np.int64),
        categories=tuple(categories),
        prob=np.exp([float(one.logprobs.sum()) for one in scores]),
        token_ids=tuple(one.token_ids for one in given),
        logprobs=tuple(tuple(one.logprobs.tolist()) for one in scores),
        entropies=tuple(tuple(one.entropies.tolist()) for one in scores),
        margins=tuple(tuple(one.margins.tolist()) for one in scores),
        output=output_scores(scores),
    )


def _given(lm: LM, prompt: list[int], generation: Generation) -> Response:
    if not generation.token_ids:
        return _silence(lm, prompt)
    scores = TokenScores(
        np.asarray(generation.logprobs, dtype=np.float64),
        np.asarray(generation.entropies, dtype=np.float64),
        np.asarray(generation.max_probs, dtype=np.float64),
        np.asarray(generation.margins, dtype=np.float64),
        argmax_agrees=True,
    )
    return Response(generation.text, tuple(generation.token_ids), scores)


def _silence(lm: LM, prompt: list[int]) -> Response:
    """Take the token that the model stopped with as its answer, so that it can be scored."""
    ids = torch.tensor([prompt], device=lm.device)
    logits = lm.logits(ids, torch.ones_like(ids, dtype=torch.bool))
    stop = int(logits[0, -1].argmax())
    (scores,) = score(lm, [prompt], [[stop]])
    return Response("", (stop,), scores)
