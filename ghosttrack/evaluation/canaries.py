"""Detectors that must find nothing: an AUROC away from 0.5 means that the protocol leaks."""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.baselines import Words
from ghosttrack.detector.learners.classifiers import (
    BOOSTING,
    FOREST,
    LINEAR,
    Columns,
    Learner,
    screen,
)
from ghosttrack.evaluation.data import Available, EvaluationData
from ghosttrack.evaluation.splits import Fold, learnable

NOISE_COLUMNS = 16


class Canary(NamedTuple):
    """What a canary learns from; the labels are shuffled ones in `label_shuffle`."""

    name: str
    learner: Learner
    labels: Int[np.ndarray, " sample"]


def canaries(data: EvaluationData, folds: tuple[Fold, ...], seed: int) -> Available[Canary]:
    """Build every canary that the data can feed."""
    answers, labels = data.answers, data.answers.labels
    texts = [
        f"{prompt} {text}" for prompt, text in zip(answers.prompts, answers.texts, strict=True)
    ]
    index = np.arange(len(labels), dtype=np.float64)[:, None]
    present = [
        Canary("noise_by_text", Columns(noise_by_text(texts, seed), FOREST), labels),
        Canary("index", Columns(index, BOOSTING), labels),
        Canary("length", Columns(_lengths(answers), BOOSTING), labels),
    ]
    left_out = {}
    shuffled = _shuffled(labels, folds, seed)
    if all(learnable(fold, shuffled) for fold in folds):
        values = next(iter(data.tables.values())).values
        present.append(Canary("label_shuffle", Columns(_finite(values), LINEAR[1:]), shuffled))
    else:
        left_out["label_shuffle"] = "too few answers of one label to shuffle"
    if len(set(answers.subjects)) > 1:
        present.append(Canary("name_tfidf", Words(answers.subjects, "char_wb"), labels))
    else:
        left_out["name_tfidf"] = "the questions name no subjects"
    untrained = _untrained(data)
    if untrained is None:
        left_out["untrained"] = "this data holds no statistics of a model without training"
    else:
        present.append(Canary("untrained", Columns(untrained, BOOSTING), labels))
    return Available(tuple(present), left_out)


def noise_by_text(texts: Sequence[str], seed: int) -> Float[np.ndarray, "sample column"]:
    """Draw noise that only depends on the text: equal texts get equal rows.

    A forest turns it into a perfect score where texts repeat across a split.
    """
    keys = (sha256(f"{seed}:{text}".encode()).digest() for text in texts)
    draws = [
        np.random.default_rng(int.from_bytes(key[:8])).normal(size=NOISE_COLUMNS) for key in keys
    ]
    return np.array(draws)


def _shuffled(
    labels: Int[np.ndarray, " sample"], folds: tuple[Fold, ...], seed: int
) -> Int[np.ndarray, " sample"]:
    """Shuffle labels inside every fold, so that folds keep the shares they were dealt for."""
    generator, shuffled = np.random.default_rng(seed), labels.copy()
    for fold in folds:
        shuffled[fold.test] = generator.permutation(labels[fold.test])
    return shuffled


def _lengths(answers: Answers) -> Float[np.ndarray, "sample column"]:
    """Tokens and characters of the answer, characters and words of the question."""
    counts = [
        (len(ids), len(text), len(prompt), len(prompt.split()))
        for ids, text, prompt in zip(answers.token_ids, answers.texts, answers.prompts, strict=True)
    ]
    return np.array(counts, dtype=np.float64)


def _untrained(data: EvaluationData) -> Float[np.ndarray, "sample column"] | None:
    if "untrained" not in data.tables:
        return None
    table = data.tables["untrained"]
    kept = screen(table, np.arange(len(table))).kept
    return _finite(table.values[:, kept]) if kept else None


def _finite(values: Float[np.ndarray, "sample column"]) -> Float[np.ndarray, "sample column"]:
    return np.where(np.isfinite(values), values, np.nan).astype(np.float64)
