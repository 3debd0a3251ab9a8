"""Do other answers that the model gave to the same question say what its response says?

No model reads the texts: they are compared by their words, as `labels.words` cuts them. Two texts
*say the same* where at least `SAME` of the key words of one of them stand in the other, or neither
has any. Each comes from the response or a sample; the order of the samples is nothing to any score.

Sources: SelfCheckGPT (Manakul 2023), lexical similarity and semantic entropy (Kuhn 2023), with
shared words in the place of the entailment model; kernel language entropy (Nikitin 2024).
"""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import entr

from ghosttrack.detector.answers.output_scores import Score, score_table, scores
from ghosttrack.detector.table import FRACTION, POSITIVE, Table
from ghosttrack.questions.labels import words
from ghosttrack.questions.ready_answers import ReadyAnswer

SAME = 0.6
DENIALS_TEXT = (
    "not never no none nobody nothing cannot cant unable unknown unclear dont doesnt didnt "
    "isnt wasnt sorry insufficient "
)
DENIALS = frozenset(DENIALS_TEXT.split())
"""Words of which a refusal, a denial or a doubt has one."""
FUNCTION_WORDS_TEXT = (
    "a an the of in on at to for and or but by with from as about over after before during "
    "between than then there into also is was were are be been has had have do did does not "
    "no it its he his she her they their this that these those who which what when where s "
)
FUNCTION_WORDS = frozenset(FUNCTION_WORDS_TEXT.split())
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
TOKEN = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")
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


def sampling_table(answers: Sequence[ReadyAnswer]) -> Table:
    """Compute every score; an answer without samples has none."""
    sampled = [compare_samples(one) if one.samples else None for one in answers]
    return score_table(SAMPLING_SCORES, sampled)


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


def sentences(text: str) -> list[str]:
    r"""Cut a text after its full stops and at its line breaks; an abbreviation's stop cuts too.

    >>> sentences("Niamey. It lies in Niger!\nYes")
    ['Niamey.', 'It lies in Niger!', 'Yes']
    """
    return [part for part in SENTENCE_END.split(text.strip()) if part]


def key_words(text: str, question: frozenset[str]) -> frozenset[str]:
    """List the words of a text's first sentence less function words and the question's words.

    An answer mostly stands in its first sentence, what follows adorns it.

    >>> sorted(key_words("The capital is Niamey. It is large.", frozenset({"capital"})))
    ['niamey']
    """
    first = next(iter(sentences(text)), "")
    return frozenset(words(first)) - FUNCTION_WORDS - question


def named_words(text: str) -> frozenset[str]:
    """List capitalised words that begin no sentence, and words with a digit, from anywhere.

    >>> sorted(named_words("Born in Paris. Soon famous: 1,200 people knew Zola."))
    ['1200', 'paris', 'zola']
    """
    return frozenset(word for token in _names(text) for word in words(token)) - FUNCTION_WORDS


def _names(text: str) -> Iterator[str]:
    for sentence in sentences(text):
        for place, token in enumerate(TOKEN.findall(sentence)):
            if (place and token[0].isupper()) or any(map(str.isdigit, token)):
                yield token


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
    weights = np.linalg.eigvalsh(kernel / len(kernel)).clip(0.0, 1.0)  # but for rounding they are
    return float(entr(weights).sum())


def _exact_entropy(sampled: SampledAnswers) -> float:
    """Entropy over classes of texts of the same words in the same order."""
    _, sizes = np.unique([" ".join(text) for text in sampled.spoken], return_counts=True)
    return float(entr(sizes / len(sampled.spoken)).sum())


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


SAMPLING_SCORES: tuple[Score[SampledAnswers], ...] = scores(
    "sampling",
    ("overlap", FRACTION, -1, "mean Jaccard of words, response and sample",
     lambda h: _overlap(h.held)),
    ("pair_overlap", FRACTION, -1, "mean Jaccard of words, two samples",
     lambda h: _pair_overlap(h.held)),
    ("rouge", FRACTION, -1, "mean ROUGE-L F1, response and sample", _rouge),
    ("named_overlap", FRACTION, -1, "mean Jaccard of named words not in the question",
     lambda h: _overlap(h.names)),
    ("named_support", FRACTION, -1, "mean share of samples with a named word of the response",
     lambda h: float(np.mean(_support(h.names[0], h.held)))),
    ("named_commonest", FRACTION, -1, "share of samples with the named word that most name",
     lambda h: _commonest(h.names)),
    ("number_support", FRACTION, -1, "mean share of samples with a number of the response",
     _number_support),
    ("key_overlap", FRACTION, -1, "mean Jaccard of key words, response and sample",
     lambda h: _overlap(h.keys)),
    ("key_pair_overlap", FRACTION, -1, "mean Jaccard of key words, two samples",
     lambda h: _pair_overlap(h.keys)),
    ("key_support", FRACTION, -1, "mean share of samples with a key word of the response",
     lambda h: float(np.mean(_support(h.keys[0], h.held)))),
    ("key_support_max", FRACTION, -1, "greatest share of samples with a key word",
     lambda h: max(_support(h.keys[0], h.held))),
    ("key_support_min", FRACTION, -1, "least share of samples with a key word",
     lambda h: min(_support(h.keys[0], h.held))),
    ("key_whole", FRACTION, -1, "share of samples with all key words of the response", _covered),
    ("key_back", FRACTION, -1, "mean share of a sample's key words in the response", _back),
    ("key_pairs", FRACTION, -1, "mean share of a text's key words in another text", _pair_cover),
    ("key_commonest", FRACTION, -1, "share of samples with the key word that most have",
     lambda h: _commonest(h.keys)),
    ("same", FRACTION, -1, "share of samples that say the same as the response",
     lambda h: float(_same(h)[0, 1:].mean())),
    ("semantic_entropy", POSITIVE, +1, "entropy over texts that say the same", _semantic_entropy),
    ("kernel_entropy", POSITIVE, +1, "von Neumann entropy of key words' Jaccard", _kernel_entropy),
    ("exact_entropy", POSITIVE, +1, "entropy over texts that are the same", _exact_entropy),
    ("denials", FRACTION, +1, "share of samples that deny, doubt or refuse", _denials),
    ("length_spread", POSITIVE, +1, "deviation of samples' lengths over their mean", _spread),
    prefix="sample_",
)  # fmt: skip
"""Every score of agreement; the response's own length is not among them, as for output scores."""
