"""Detectors that must find nothing: an AUROC away from 0.5 means that the protocol leaks."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.baselines import StateProbe, Words
from ghosttrack.detector.learners.classifiers import (
    BOOSTING,
    FOREST,
    LINEAR,
    SHRUNK,
    Columns,
    Learner,
    screen,
)
from ghosttrack.evaluation.data import Available, EvaluationData
from ghosttrack.evaluation.splits import Fold, learnable

NOISE_COLUMNS = 16
SONGS = {
    "noise_by_text": "equal texts stand on both sides of a split",
    "index": "the order of the answers tells the wrong ones",
    "length": "lengths of question and answer tell the wrong ones",
    "label_shuffle": "the protocol finds what is not there",
    "name_tfidf": "the subjects' names tell the wrong ones",
    "prior_of_another": "priors of other answers tell the wrong ones",
    "states_of_another": "residual streams of other answers tell the wrong ones",
    "untrained": "a model that learned nothing tells the wrong ones by their prompts' words",
}
"""What it means that a canary finds something."""


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
    present += _of_others(data, seed)
    untrained = _untrained(data)
    if untrained is None:
        left_out["untrained"] = "this data holds no statistics of a model without training"
    else:
        present.append(Canary("untrained", Columns(untrained, BOOSTING), labels))
    return Available(tuple(present), left_out)


def singing(
    found: Mapping[str, float | None], intervals: Mapping[str, Sequence[float | None]]
) -> list[str]:
    """Name the canaries outside 0.45 to 0.55 whose interval leaves 0.5 out, and what that means.

    >>> singing({"label_shuffle": 0.61}, {"label_shuffle": (0.56, 0.66)})
    ['canary label_shuffle sings, AUROC 0.610 [0.560, 0.660]: the protocol finds what is not there']
    """
    said = []
    for name, auroc in found.items():
        low, high = intervals[name]
        if auroc is None or low is None or high is None or 0.45 <= auroc <= 0.55:
            continue
        if not low <= 0.5 <= high:
            worth = f"AUROC {auroc:.3f} [{low:.3f}, {high:.3f}]"
            said.append(f"canary {name} sings, {worth}: {SONGS[name]}")
    return said


def noise_by_text(texts: Sequence[str], seed: int) -> Float[np.ndarray, "sample column"]:
    """Draw noise that only depends on the text: equal texts get equal rows.

    A forest turns it into a perfect score where texts repeat across a split.
    """
    keys = (sha256(f"{seed}:{text}".encode()).digest() for text in texts)
    draws = [
        np.random.default_rng(int.from_bytes(key[:8])).normal(size=NOISE_COLUMNS) for key in keys
    ]
    return np.array(draws)


def _of_others(data: EvaluationData, seed: int) -> list[Canary]:
    """Give every answer the prior, and the residual stream of the middle layer, of another."""
    labels, found = data.answers.labels, list[Canary]()
    others = np.random.default_rng(seed).permutation(len(labels))
    if data.has("prior"):
        prior = _finite(data.tables["prior"].values[others])
        found.append(Canary("prior_of_another", Columns(prior, SHRUNK), labels))
    if data.has("states"):
        middle = len(data.layers) // 2
        streams = data.states["answer_last"][[middle]][:, others]
        probe = StateProbe(streams, (data.layers[middle],))
        found.append(Canary("states_of_another", probe, labels))
    return found


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
