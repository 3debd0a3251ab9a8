"""Do other answers that the model gave to the same question say what its response says?

No model reads the texts: they are compared by their words, as `labels.words` cuts them. Two texts
*say the same* where at least `SAME` of the key words of one of them stand in the other, or neither
has any. Each comes from the response or a sample; the order of the samples is nothing to any score.

Sources: SelfCheckGPT (Manakul 2023), lexical similarity and semantic entropy (Kuhn 2023), with
shared words in the place of the entailment model; kernel language entropy (Nikitin 2024).
"""

import re
from collections.abc import Callable, Sequence
from itertools import combinations
from math import inf
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.answers.key_words import key_words, named_words
from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.detector.table import Table
from ghosttrack.questions.labels import words
from ghosttrack.questions.ready_answers import ReadyAnswer

SAME = 0.6
DENIALS_TEXT = (
    "not never no none nobody nothing cannot cant unable unknown unclear dont doesnt didnt "
    "isnt wasnt sorry insufficient "
)
DENIALS = frozenset(DENIALS_TEXT.split())
"""Words of which a refusal, a denial or a doubt has one."""
NUMBER = re.compile(r"\d")

WordSet = frozenset[str]


class SampledAnswers(NamedTuple):
    """What was said to one question, worked up once; the response first, then its samples."""

    spoken: tuple[list[str], ...]
    """Words of each text, in order."""
    held: tuple[WordSet, ...]
    """The same as sets."""
    keys: tuple[WordSet, ...]
    """`key_words` of each text."""
    names: tuple[WordSet, ...]
    """`named_words` of each text that the question does not hold."""
    cover: Float[np.ndarray, "text text"]
    """Share of the key words of the first that stand anywhere in the second; NaN without any."""


class SamplingScore(NamedTuple):
    """A score and how it is read off what was said."""

    spec: StatisticSpec
    of: Callable[[SampledAnswers], float]


def sampling_table(answers: Sequence[ReadyAnswer]) -> Table:
    """Compute every score; an answer without samples has none."""
    values = np.full((len(answers), len(SAMPLING_SCORES)), np.nan)
    for row, given in enumerate(answers):
        if given.samples:
            sampled = compare_samples(given)
            values[row] = [score.of(sampled) for score in SAMPLING_SCORES]
    return Table(tuple(score.spec.name for score in SAMPLING_SCORES), values)


def compare_samples(given: ReadyAnswer) -> SampledAnswers:
    """Work up the texts of one answer."""
    texts = (given.response, *given.samples)
    asked = frozenset(words(given.question))
    spoken = tuple(words(text) for text in texts)
    held = tuple(map(frozenset, spoken))
    keys = tuple(key_words(text, asked) for text in texts)
    return SampledAnswers(
        spoken=spoken,
        held=held,
        keys=keys,
        names=tuple(named_words(text) - asked for text in texts),
        cover=np.array([[_share(one, other) for other in held] for one in keys]),
    )


def _share(some: WordSet, of: WordSet) -> float:
    return len(some & of) / len(some) if some else np.nan


def _jaccard(one: WordSet, other: WordSet) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _overlap(sets: Sequence[WordSet]) -> float:
    """Mean Jaccard index of the response and each sample."""
    return float(np.mean([_jaccard(sets[0], other) for other in sets[1:]]))


def _pair_overlap(sets: Sequence[WordSet]) -> float:
    """Mean Jaccard index of two samples, 1 where there is but one."""
    pairs = [_jaccard(one, other) for one, other in combinations(sets[1:], 2)]
    return float(np.mean(pairs)) if pairs else 1.0


def _support(said: WordSet, held: Sequence[WordSet]) -> list[float]:
    """Share of the samples that hold each word, in alphabetical order; NaN where there are none."""
    return [float(np.mean([word in one for one in held[1:]])) for word in sorted(said)] or [np.nan]


def _commonest(sets: Sequence[WordSet]) -> float:
    """Share of the samples that hold the word which most of them hold."""
    others = sets[1:]
    return max(_support(frozenset().union(*others), sets)) if any(others) else 0.0


def _rouge(sampled: SampledAnswers) -> float:
    """Mean F1 of the longest common subsequence of the response and each sample."""
    response, *samples = sampled.spoken
    return float(np.mean([_rouge_f1(response, sample) for sample in samples]))


def _rouge_f1(one: Sequence[str], other: Sequence[str]) -> float:
    if not one or not other:
        return float(one == other)
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, found in enumerate(other, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == found else max(above, lengths[place - 1])
            diagonal = above
    return 2 * lengths[-1] / (len(one) + len(other))


def _same(sampled: SampledAnswers) -> Float[np.ndarray, "text text"]:
    """1 where two texts say the same, 0 elsewhere."""
    both = np.fmax(sampled.cover, sampled.cover.T)
    same = np.where(np.isnan(both), 1.0, both >= SAME)
    np.fill_diagonal(same, 1.0)  # a first sentence cut off alone may be read in other words
    return same


def _semantic_entropy(sampled: SampledAnswers) -> float:
    """Mean over texts of -log of the share of texts that say the same.

    Where saying the same makes clusters, this is their entropy.
    """
    return float(-np.log(_same(sampled).mean(axis=1)).mean())


def _kernel_entropy(sampled: SampledAnswers) -> float:
    """Von Neumann entropy of the Jaccard indices of key words."""
    kernel = np.array([[_jaccard(one, other) for other in sampled.keys] for one in sampled.keys])
    weights = np.linalg.eigvalsh(kernel / len(kernel))
    weights = weights[weights > 1e-12]
    return float(max(0.0, -(weights * np.log(weights)).sum()))


def _exact_entropy(sampled: SampledAnswers) -> float:
    """Entropy over classes of texts of the same words in the same order."""
    _, sizes = np.unique([" ".join(text) for text in sampled.spoken], return_counts=True)
    shares = sizes / len(sampled.spoken)
    return float(-(shares * np.log(shares)).sum())


def _covered(sampled: SampledAnswers) -> float:
    """Share of the samples that hold all key words of the response."""
    return float(np.mean(sampled.cover[0, 1:] == 1)) if sampled.keys[0] else np.nan


def _back(sampled: SampledAnswers) -> float:
    """Mean share of a sample's key words that the response holds."""
    shares = sampled.cover[1:, 0]
    return float(np.nanmean(shares)) if np.isfinite(shares).any() else np.nan


def _pair_cover(sampled: SampledAnswers) -> float:
    """Mean share of a text's key words that another text holds, over all ordered pairs."""
    others = sampled.cover[~np.eye(len(sampled.cover), dtype=bool)]
    return float(np.nanmean(others)) if np.isfinite(others).any() else np.nan


def _number_support(sampled: SampledAnswers) -> float:
    numbers = frozenset(word for word in sampled.names[0] if NUMBER.search(word))
    return float(np.mean(_support(numbers, sampled.held)))


def _denials(sampled: SampledAnswers) -> float:
    return float(np.mean([bool(one & DENIALS) for one in sampled.held[1:]]))


def _spread(sampled: SampledAnswers) -> float:
    """Standard deviation of the samples' lengths over their mean."""
    lengths = np.array([len(text) for text in sampled.spoken[1:]])
    return float(lengths.std() / max(lengths.mean(), 1.0))


def _score(
    name: str,
    definition: str,
    high: float,
    direction: int,
    of: Callable[[SampledAnswers], float],
) -> SamplingScore:
    return SamplingScore(
        StatisticSpec(f"sample_{name}", "sampling", definition, 0.0, high, direction), of
    )


SAMPLING_SCORES: tuple[SamplingScore, ...] = (
    _score("overlap", "mean Jaccard of words, response and sample", 1.0, -1,
           lambda h: _overlap(h.held)),
    _score("pair_overlap", "mean Jaccard of words, two samples", 1.0, -1,
           lambda h: _pair_overlap(h.held)),
    _score("rouge", "mean ROUGE-L F1, response and sample", 1.0, -1, _rouge),
    _score("named_overlap", "mean Jaccard of named words not in the question", 1.0, -1,
           lambda h: _overlap(h.names)),
    _score("named_support", "mean share of samples with a named word of the response", 1.0, -1,
           lambda h: float(np.mean(_support(h.names[0], h.held)))),
    _score("named_commonest", "share of samples with the named word that most name", 1.0, -1,
           lambda h: _commonest(h.names)),
    _score("number_support", "mean share of samples with a number of the response", 1.0, -1,
           _number_support),
    _score("key_overlap", "mean Jaccard of key words, response and sample", 1.0, -1,
           lambda h: _overlap(h.keys)),
    _score("key_pair_overlap", "mean Jaccard of key words, two samples", 1.0, -1,
           lambda h: _pair_overlap(h.keys)),
    _score("key_support", "mean share of samples with a key word of the response", 1.0, -1,
           lambda h: float(np.mean(_support(h.keys[0], h.held)))),
    _score("key_support_max", "greatest share of samples with a key word", 1.0, -1,
           lambda h: max(_support(h.keys[0], h.held))),
    _score("key_support_min", "least share of samples with a key word", 1.0, -1,
           lambda h: min(_support(h.keys[0], h.held))),
    _score("key_whole", "share of samples with all key words of the response", 1.0, -1, _covered),
    _score("key_back", "mean share of a sample's key words in the response", 1.0, -1, _back),
    _score("key_pairs", "mean share of a text's key words in another text", 1.0, -1, _pair_cover),
    _score("key_commonest", "share of samples with the key word that most have", 1.0, -1,
           lambda h: _commonest(h.keys)),
    _score("same", "share of samples that say the same as the response", 1.0, -1,
           lambda h: float(_same(h)[0, 1:].mean())),
    _score("semantic_entropy", "entropy over texts that say the same", inf, +1, _semantic_entropy),
    _score("kernel_entropy", "von Neumann entropy of key words' Jaccard", inf, +1, _kernel_entropy),
    _score("exact_entropy", "entropy over texts that are the same", inf, +1, _exact_entropy),
    _score("denials", "share of samples that deny, doubt or refuse", 1.0, +1, _denials),
    _score("length_spread", "deviation of samples' lengths over their mean", inf, +1, _spread),
)  # fmt: skip
"""Every score of agreement; the response's own length is not among them, as for output scores."""
