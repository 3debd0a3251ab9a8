"""Teacher-forced scoring: what a language model thinks of given answers, in one pass."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ghosttrack.errors import DataError
from ghosttrack.models.lm import LM

HEAD_ELEMENTS = 2**23
"""Logits held at once, which bounds memory where the vocabulary is large."""


class TokenStatistics(NamedTuple):
    """What the next-token distributions say of the tokens that follow; natural logarithms."""

    logprobs: Float[Tensor, " token"]
    entropies: Float[Tensor, " token"]
    max_probs: Float[Tensor, " token"]
    margins: Float[Tensor, " token"]
    """Log-probability of the most likely token minus that of the second, at least 0."""
    is_top: Bool[Tensor, " token"]
    """No token was more likely."""


class TokenScores(NamedTuple):
    """`TokenStatistics` of one answer, and whether greedy decoding would have given it."""

    logprobs: Float[np.ndarray, " token"]
    entropies: Float[np.ndarray, " token"]
    max_probs: Float[np.ndarray, " token"]
    margins: Float[np.ndarray, " token"]
    argmax_agrees: bool


def token_statistics(
    logits: Float[Tensor, "token d_vocab"], tokens: Int[Tensor, " token"]
) -> TokenStatistics:
    """Measure next-token distributions at the tokens that follow, in float32."""
    logprobs = logits.float().log_softmax(-1)
    top = logprobs.topk(2, dim=-1).values
    chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)
    probs = logprobs.exp()
    # 0 x -inf is 0 here: a token of no probability adds no entropy.
    entropies = -(probs * logprobs.clamp_min(torch.finfo(torch.float32).min)).sum(-1)
    margins = top[:, 0] - top[:, 1]
    return TokenStatistics(chosen, entropies, top[:, 0].exp(), margins, chosen == top[:, 0])


def score(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 16384,
) -> list[TokenScores]:
    """Score each answer as the continuation of its prompt; equal pairs are run once.

    Args:
        lm: The model.
        prompts: Token ids, prefix included; none empty.
        answers: Token ids; an empty answer has empty scores.
        batch_tokens: Tokens per forward pass; it changes numbers by rounding only.

    Raises:
        DataError: A prompt and its answer do not fit the model's context.
    """
    assert len(prompts) == len(answers), (len(prompts), len(answers))
    rows: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    which = [
        rows.setdefault((tuple(p), tuple(a)), len(rows))
        for p, a in zip(prompts, answers, strict=True)
    ]
    pairs = list(rows)
    scores: dict[int, TokenScores] = {}
    for batch in _batches(lm, pairs, batch_tokens):
        scores.update(zip(batch, _score_batch(lm, [pairs[i] for i in batch]), strict=True))
    return [scores[i] for i in which]


def _batches(
    lm: LM, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], batch_tokens: int
) -> Iterator[list[int]]:
    """Group rows of equal length, so that no pass holds padding."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, (prompt, answer) in enumerate(pairs):
        assert prompt, "an empty prompt predicts nothing"
        # The last token of an answer predicts nothing that is asked for: it is not read.
        groups[len(prompt) + max(len(answer), 1) - 1].append(index)
    if groups and max(groups) > lm.n_ctx:
        raise DataError(
            f"a prompt and its answer have {max(groups)} tokens, the model reads {lm.n_ctx}"
        )
    for length, members in sorted(groups.items()):
        n_rows = max(1, batch_tokens // length)
        yield from (members[i : i + n_rows] for i in range(0, len(members), n_rows))


def _score_batch(
    lm: LM, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> list[TokenScores]:
    ids = torch.tensor([[*prompt, *answer[:-1]] for prompt, answer in pairs])
    length = ids.shape[1]
    starts = [row * length + len(prompt) - 1 for row, (prompt, _) in enumerate(pairs)]
    lengths = [len(answer) for _, answer in pairs]
    where = torch.tensor(
        [start + j for start, n in zip(starts, lengths, strict=True) for j in range(n)],
        dtype=torch.long,
    )
    tokens = torch.tensor(list(chain.from_iterable(a for _, a in pairs)), dtype=torch.long)
    resid = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [lm.n_layers - 1])
    table = _read_out(lm, resid.flatten(0, 2)[where.to(lm.device)], tokens.to(lm.device))
    ends = list(accumulate(lengths, initial=0))
    n_top = [0, *table[4].cumsum().tolist()]
    return [
        TokenScores(*table[:4, start:end], argmax_agrees=n_top[end] - n_top[start] == end - start)
        for start, end in pairwise(ends)
    ]


def _read_out(
    lm: LM, resid: Float[Tensor, "token d_model"], tokens: Int[Tensor, " token"]
) -> Float[np.ndarray, "5 token"]:
    """Return the fields of `TokenStatistics` as rows."""
    chunk = max(1, HEAD_ELEMENTS // lm.d_vocab)
    parts = [
        torch.stack([column.float() for column in token_statistics(lm.unembed(r), t)])
        for r, t in zip(resid.split(chunk), tokens.split(chunk), strict=True)
    ]
    return torch.cat(parts, dim=1).cpu().numpy()
