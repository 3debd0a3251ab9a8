"""Teacher-forced scoring: what a language model thinks of given answers, in one pass."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ghosttrack.errors import DataError
from ghosttrack.models.changes import Change
from ghosttrack.models.generate import token_statistics
from ghosttrack.models.lm import LM
from ghosttrack.models.sharing import TextPass, TextToRead, Tokens, fewest, passes

HEAD_ELEMENTS = 2**23
"""Logits held at once, which bounds memory where the vocabulary is large."""


class TokenScores(NamedTuple):
    """`TokenStatistics` of one answer, and whether greedy decoding would have given it."""

    logprobs: Float[np.ndarray, " token"]
    entropies: Float[np.ndarray, " token"]
    max_probs: Float[np.ndarray, " token"]
    margins: Float[np.ndarray, " token"]
    argmax_agrees: bool


class Texts(NamedTuple):
    """Prompts and answers that pairs refer to by number."""

    prompts: Sequence[Tokens]
    """Token ids, prefix included; none empty."""
    answers: Sequence[Tokens]
    marked: Sequence[Tokens]
    """Positions in each prompt that a change is about; parallel to the prompts."""


class Totals(NamedTuple):
    """Scores of whole answers."""

    logprobs: Float[np.ndarray, " pair"]
    """Sum over the tokens, nats; 0 of an empty answer."""
    entropies: Float[np.ndarray, " pair"]
    """Mean over the tokens, nats; NaN of an empty answer."""
    agrees: Bool[np.ndarray, " pair"]
    """Greedy decoding would have given the answer."""


def score(
    lm: LM, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[TokenScores]:
    """Score each answer, token by token, as the continuation of its prompt.

    Args:
        lm: The model.
        prompts: Token ids, prefix included; none empty.
        answers: Token ids; an empty answer has empty scores.

    Raises:
        DataError: A prompt and its answer do not fit the model's context.
    """
    pairs = np.repeat(np.arange(len(prompts))[:, None], 2, axis=1)
    texts = Texts(list(map(tuple, prompts)), list(map(tuple, answers)), [()] * len(prompts))
    scores: dict[int, TokenScores] = {}
    for read in _passes(lm, texts, pairs, None):
        for pair, low, high in zip(read.pairs.tolist(), read.ends, read.ends[1:], strict=False):
            agrees = bool(read.table[4, low:high].all())
            scores[pair] = TokenScores(*read.table[:4, low:high], argmax_agrees=agrees)
    return [scores[i] for i in range(len(prompts))]


def total(
    lm: LM,
    texts: Texts,
    pairs: Int[np.ndarray, "pair 2"],
    *,
    change: Change | None = None,
    read: Callable[[int], object] = lambda _: None,
) -> Totals:
    """Score whole answers, each after as many prompts as are asked about.

    A pass is shared by all pairs that read the same tokens, or the beginning of the same: two
    answers of one token after one prompt cost one pass.

    Args:
        lm: The model.
        texts: What is asked about.
        pairs: Prompt and answer, by number.
        change: Done to the residual streams of every pass.
        read: Told how much of `work` each batch has done.

    Raises:
        DataError: A prompt and its answer do not fit the model's context.
    """
    n = len(pairs)
    totals = Totals(np.zeros(n), np.full(n, np.nan), np.zeros(n, bool))
    for found in _passes(lm, texts, pairs, change):
        lengths = np.diff(found.ends)
        answer = np.repeat(np.arange(len(lengths)), lengths)
        logprobs, entropies, n_top = (
            np.bincount(answer, found.table[row], len(lengths)) for row in (0, 1, 4)
        )
        totals.logprobs[found.pairs] = logprobs
        known = lengths > 0
        totals.entropies[found.pairs[known]] = entropies[known] / lengths[known]
        totals.agrees[found.pairs] = n_top == lengths
        read(found.work)
    return totals


def work(
    lm: LM, texts: Texts, pairs: Int[np.ndarray, "pair 2"], change: Change | None = None
) -> int:
    """Count what `total` reads, in tokens; each that is asked about costs the head as well."""
    rows, _ = fewest(_asked(texts, pairs, change))
    n_asked = sum(len(texts.answers[answer]) for answer in pairs[:, 1].tolist())
    return sum(len(text.tokens) for text in rows) + n_asked * (lm.word_tokens - 1)


class _Read(NamedTuple):
    """What one batch says of some pairs."""

    pairs: Int[np.ndarray, " pair"]
    ends: Int[np.ndarray, " end"]
    """The tokens of the n-th of them are columns ends[n]..ends[n + 1] - 1."""
    table: Float[np.ndarray, "5 token"]
    """The fields of `TokenStatistics`."""
    work: int
    """Of `work`, done in this batch."""


def _passes(
    lm: LM, texts: Texts, pairs: Int[np.ndarray, "pair 2"], change: Change | None
) -> Iterator[_Read]:
    """Read every pair once; what passes begin with in common is read once for all."""
    asked = _asked(texts, pairs, change)
    longest = max((len(text.tokens) for text in asked), default=0)
    if longest > lm.n_ctx:
        raise DataError(
            f"a prompt and its answer have {longest} tokens, the model reads {lm.n_ctx}"
        )
    for found in passes(lm, asked, [lm.n_layers - 1], change):
        read = _read_pairs(lm, texts, pairs, found)
        yield read._replace(work=found.n_tokens + read.work)


def _asked(
    texts: Texts, pairs: Int[np.ndarray, "pair 2"], change: Change | None
) -> list[TextToRead]:
    """Give each pair's text; an answer's last token predicts nothing that is asked for."""
    assert all(texts.prompts), "an empty prompt predicts nothing"
    return [
        TextToRead(
            texts.prompts[prompt] + texts.answers[answer][:-1],
            len(texts.prompts[prompt]) - 1,
            texts.marked[prompt],
            change.draws_for(texts.prompts[prompt]) if change else 0,
        )
        for prompt, answer in pairs.tolist()
    ]


def _read_pairs(lm: LM, texts: Texts, pairs: Int[np.ndarray, "pair 2"], found: TextPass) -> _Read:
    """Read pairs off a pass."""
    mine, at, start, (resid,), _ = found
    firsts = [len(texts.prompts[prompt]) - 1 - start for prompt in pairs[mine, 0].tolist()]
    answers = [texts.answers[answer] for answer in pairs[mine, 1].tolist()]
    lengths = np.array([len(answer) for answer in answers], dtype=np.int64)
    ends = np.cumsum([0, *lengths])
    within = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    where = np.repeat(at * resid.shape[1] + firsts, lengths) + within
    tokens = np.array(list(itertools.chain.from_iterable(answers)), dtype=np.int64)
    table = _read_out(lm, resid.flatten(0, 1), torch.from_numpy(where), torch.from_numpy(tokens))
    return _Read(mine, ends, table, len(tokens) * (lm.word_tokens - 1))


def _read_out(
    lm: LM,
    resid: Float[Tensor, "place d_model"],
    where: Int[Tensor, " token"],
    tokens: Int[Tensor, " token"],
) -> Float[np.ndarray, "5 token"]:
    """Return the fields of `TokenStatistics` as rows; each place is read once."""
    table = np.empty((5, len(tokens)), np.float32)
    places, back = where.unique(return_inverse=True)
    order = back.argsort(stable=True)
    chunk = max(1, HEAD_ELEMENTS // lm.d_vocab)
    for start in range(0, len(places), chunk):
        bounds = torch.tensor([start, start + chunk])
        low, high = torch.searchsorted(back[order], bounds).tolist()
        here = order[low:high]
        logits = lm.unembed(resid[places[start : start + chunk].to(resid.device)])
        statistics = token_statistics(
            logits, tokens[here].to(logits.device), (back[here] - start).to(logits.device)
        )
        table[:, here.numpy()] = torch.stack([c.float() for c in statistics]).cpu().numpy()
    return table
