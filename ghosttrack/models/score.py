"""Teacher-forced scoring: what a language model thinks of given answers, in one pass."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.errors import DataError
from ghosttrack.models.changes import Change, ChangeKind
from ghosttrack.models.generate import token_statistics
from ghosttrack.models.lm import LM
from ghosttrack.models.sharing import read_together

HEAD_ELEMENTS = 2**23
"""Logits held at once, which bounds memory where the vocabulary is large."""

Tokens = tuple[int, ...]


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
    lm: LM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    batch_tokens: int | None = None,
) -> list[TokenScores]:
    """Score each answer, token by token, as the continuation of its prompt.

    Args:
        lm: The model.
        prompts: Token ids, prefix included; none empty.
        answers: Token ids; an empty answer has empty scores.
        batch_tokens: Tokens per forward pass, None: as the model takes best; it changes numbers by
            rounding only.

    Raises:
        DataError: A prompt and its answer do not fit the model's context.
    """
    pairs = np.repeat(np.arange(len(prompts))[:, None], 2, axis=1)
    texts = Texts(list(map(tuple, prompts)), list(map(tuple, answers)), [()] * len(prompts))
    scores: dict[int, TokenScores] = {}
    for read in _passes(lm, texts, pairs, None, batch_tokens):
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
    batch_tokens: int | None = None,
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
        batch_tokens: As in `score`; with a random change it also changes the draw.

    Raises:
        DataError: A prompt and its answer do not fit the model's context.
    """
    n = len(pairs)
    totals = Totals(np.zeros(n), np.full(n, np.nan), np.zeros(n, bool))
    for found in _passes(lm, texts, pairs, change, batch_tokens):
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


def work(lm: LM, texts: Texts, pairs: Int[np.ndarray, "pair 2"]) -> int:
    """Count what `total` reads, in tokens; each that is asked about costs the head as well."""
    rows, _ = _rows(texts, pairs)
    n_asked = sum(len(texts.answers[answer]) for answer in pairs[:, 1].tolist())
    return sum(len(tokens) for _, tokens in rows) + n_asked * (lm.word_tokens - 1)


class _Read(NamedTuple):
    """What one batch says of some pairs."""

    pairs: Int[np.ndarray, " pair"]
    ends: Int[np.ndarray, " end"]
    """The tokens of the n-th of them are columns ends[n]..ends[n + 1] - 1."""
    table: Float[np.ndarray, "5 token"]
    """The fields of `TokenStatistics`."""
    work: int
    """Of `work`, done in this batch."""


class _Batch(NamedTuple):
    """Passes of equal length."""

    rows: Int[np.ndarray, " row"]
    past: DynamicCache | None
    """What all of them begin with."""


def _passes(
    lm: LM,
    texts: Texts,
    pairs: Int[np.ndarray, "pair 2"],
    change: Change | None,
    batch_tokens: int | None,
) -> Iterator[_Read]:
    """Read every pair once; what passes begin with in common is read once for all."""
    rows, row_of = _rows(texts, pairs)
    lengths = np.array([len(tokens) for _, tokens in rows], dtype=np.int64)
    if lengths.max(initial=0) > lm.n_ctx:
        raise DataError(
            f"a prompt and its answer have {lengths.max()} tokens, the model reads {lm.n_ctx}"
        )
    by_row = np.argsort(row_of, kind="stable")
    starts = np.searchsorted(row_of[by_row], np.arange(len(rows) + 1))
    limits = lengths - 1
    prompt_ends = np.array([len(prompt) - 1 for prompt in texts.prompts], dtype=np.int64)
    np.minimum.at(limits, row_of, prompt_ends[pairs[:, 0]])
    batches = _batches(lm, rows, _untouched(rows, limits, change), batch_tokens)
    for batch, past in batches:
        asked = [by_row[starts[row] : starts[row + 1]] for row in batch]
        at = np.repeat(np.arange(len(batch)), [len(one) for one in asked])
        resid = _last_resid(lm, [rows[row] for row in batch], change, past)
        first = int(lengths[batch[0]]) - resid.shape[1]
        read = _read_pairs(lm, texts, pairs, resid, (np.concatenate(asked), at, first))
        yield read._replace(work=int(lengths[batch].sum()) + read.work)


def _untouched(
    rows: Sequence[tuple[Tokens, Tokens]], limits: Int[np.ndarray, " row"], change: Change | None
) -> Int[np.ndarray, " row"]:
    """Lower the limits to the tokens before the first that a change is about."""
    if change is None:
        return limits
    if change.kind is ChangeKind.dropout:
        return np.zeros_like(limits)
    return np.minimum(limits, [min(marked, default=len(tokens)) for marked, tokens in rows])


def _batches(
    lm: LM,
    rows: Sequence[tuple[Tokens, Tokens]],
    limits: Int[np.ndarray, " row"],
    batch_tokens: int | None,
) -> list[_Batch]:
    """Part passes into batches of equal length, in an order in which some tell of the others."""
    texts = [tokens for _, tokens in rows]
    found = []
    for members, shared in read_together(texts, limits.tolist(), lambda: lm.can_share):
        past = lm.remember(shared) if shared else None
        by_length = np.array(members)
        lengths = np.array([len(texts[row]) for row in members])
        for length in np.unique(lengths):
            size = max(1, (batch_tokens or lm.batch_tokens) // int(length))
            same = by_length[lengths == length]
            found += [
                _Batch(same[first : first + size], past) for first in range(0, len(same), size)
            ]
    random.Random(0).shuffle(found)
    return found


def _rows(
    texts: Texts, pairs: Int[np.ndarray, "pair 2"]
) -> tuple[list[tuple[Tokens, Tokens]], Int[np.ndarray, " pair"]]:
    """Find the fewest passes, marked positions and tokens, that read every pair, and each's pass.

    In lexicographic order a text that begins another stands before it, with nothing in between that
    it does not begin as well: one look at the next tells.
    """
    numbers: dict[tuple[Tokens, Tokens], int] = {}
    text_of = np.empty(len(pairs), dtype=np.int64)
    for at, (prompt, answer) in enumerate(pairs.tolist()):
        assert texts.prompts[prompt], "an empty prompt predicts nothing"
        # The last token of an answer predicts nothing that is asked for: it is not read.
        text = texts.marked[prompt], texts.prompts[prompt] + texts.answers[answer][:-1]
        text_of[at] = numbers.setdefault(text, len(numbers))
    rows: list[tuple[Tokens, Tokens]] = []
    row_of_text = np.empty(len(numbers), dtype=np.int64)
    for marked, tokens in sorted(numbers, reverse=True):
        is_read = rows and rows[-1][0] == marked and rows[-1][1][: len(tokens)] == tokens
        if not is_read:
            rows.append((marked, tokens))
        row_of_text[numbers[marked, tokens]] = len(rows) - 1
    return rows, row_of_text[text_of]


def _last_resid(
    lm: LM,
    rows: Sequence[tuple[Tokens, Tokens]],
    change: Change | None,
    past: DynamicCache | None,
) -> Float[Tensor, "row pos d_model"]:
    """Read the last block's output, from the first position that is not shared on."""
    n_shared = past.get_seq_length() if past else 0
    ids = torch.tensor([tokens[n_shared:] for _, tokens in rows])
    marked = torch.zeros_like(ids, dtype=torch.bool)
    for at, (places, _) in enumerate(rows):
        marked[at, [place - n_shared for place in places]] = True
    mask = torch.ones_like(marked)
    last = [lm.n_layers - 1]
    return lm.residuals(ids, mask, last, change=change, marked=marked, past=past)[0]


def _read_pairs(
    lm: LM,
    texts: Texts,
    pairs: Int[np.ndarray, "pair 2"],
    resid: Float[Tensor, "row pos d_model"],
    asked: tuple[Int[np.ndarray, " asked"], Int[np.ndarray, " asked"], int],
) -> _Read:
    """Read the pairs `asked[0]` off the passes `asked[1]`, which begin at position `asked[2]`."""
    mine, at, start = asked
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
