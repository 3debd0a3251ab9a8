"""Batched generation that keeps what the model thought of each token."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.errors import DataError
from ghosttrack.models.lm import LM


class TokenStatistics(NamedTuple):
    """What the next-token distributions say of the tokens that follow; natural logarithms."""

    logprobs: Float[Tensor, " token"]
    entropies: Float[Tensor, " token"]
    max_probs: Float[Tensor, " token"]
    margins: Float[Tensor, " token"]
    """Log-probability of the most likely token minus that of the second, at least 0."""
    is_top: Bool[Tensor, " token"]
    """No token was more likely."""


def token_statistics(
    logits: Float[Tensor, "place d_vocab"],
    tokens: Int[Tensor, " token"],
    places: Int[Tensor, " token"] | None = None,
) -> TokenStatistics:
    """Measure next-token distributions at the tokens that follow, in float32.

    Args:
        logits: One distribution per place.
        tokens: What follows.
        places: Row of `logits` that each token is taken from; as many tokens may follow one place
            as are asked about. None: one token per place, in order.
    """
    logprobs = logits.float().log_softmax(-1)
    top = logprobs.topk(2, dim=-1).values
    probs = logprobs.exp()
    # 0 x -inf is 0 here: a token of no probability adds no entropy.
    entropies = -(probs * logprobs.clamp_min(torch.finfo(torch.float32).min)).sum(-1)
    margins, best = top[:, 0] - top[:, 1], top[:, 0]
    if places is None:
        places = torch.arange(len(logits), device=logits.device)
    chosen = logprobs[places, tokens]
    return TokenStatistics(
        chosen, entropies[places], best[places].exp(), margins[places], chosen == best[places]
    )


class GenerateSettings(NamedTuple):
    """How to answer."""

    max_new_tokens: int
    stop: tuple[str, ...]
    """Texts that end an answer and are no part of it; EOS always does."""
    batch_size: int = 256
    """Answers at once; it changes numbers by rounding only."""
    temperature: float = 0.0
    """0 takes the most likely token, 1 samples from the model's own distribution."""
    samples: int = 1
    """Answers per prompt."""
    seed: int = 0


class Generation(NamedTuple):
    """An answer; the lists have one entry per token, in nats, at temperature 1."""

    prompt: int
    """Index of the prompt."""
    sample: int
    text: str
    """Stripped, without the text that stopped it."""
    token_ids: list[int]
    """The tokens that spell the text; empty where the model stopped at once."""
    logprobs: list[float]
    entropies: list[float]
    max_probs: list[float]
    margins: list[float]
    """Log-probability of the most likely token minus that of the second."""
    ended: bool
    """It stopped by itself, before `max_new_tokens`."""


@dataclass
class _Draft:
    """An answer in the making."""

    prompt: int
    sample: int
    token_ids: list[int] = field(default_factory=list)
    numbers: list[list[float]] = field(default_factory=list)
    """Per token: log-probability, entropy, greatest probability, margin."""


def generate(
    lm: LM, prompts: Sequence[Sequence[int]], settings: GenerateSettings
) -> list[Generation]:
    """Answer prompts, each `settings.samples` times; results are in prompt-major order.

    Prompts of equal length share a batch, so there is no padding; answers that have ended leave it.
    A sampled answer depends on the seed and on its place in the list, not on the batch size.

    Args:
        lm: The model.
        prompts: Token ids, prefix included; none empty.
        settings: Length, stops and sampling.

    Raises:
        DataError: A prompt with `max_new_tokens` more does not fit the model's context.
    """
    assert min(settings.max_new_tokens, settings.samples) >= 1, settings
    longest = max((len(prompt) for prompt in prompts), default=0)
    if longest + settings.max_new_tokens > lm.n_ctx:
        raise DataError(
            f"a prompt of {longest} tokens and {settings.max_new_tokens} new ones "
            f"(max_new_tokens) do not fit the model's context of {lm.n_ctx}"
        )
    chance = torch.rand(
        len(prompts),
        settings.samples,
        settings.max_new_tokens,
        generator=torch.Generator().manual_seed(settings.seed),
        dtype=torch.float64,
    )
    done: dict[tuple[int, int], Generation] = {}
    for batch in _batches(prompts, settings):
        ids = torch.tensor([prompts[draft.prompt] for draft in batch])
        for answer in _answer(lm, ids, batch, chance, settings):
            done[answer.prompt, answer.sample] = answer
    return [done[key] for key in sorted(done)]


def _batches(
    prompts: Sequence[Sequence[int]], settings: GenerateSettings
) -> Iterator[list[_Draft]]:
    groups: dict[int, list[_Draft]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        assert prompt, "an empty prompt cannot be continued"
        groups[len(prompt)] += [_Draft(index, sample) for sample in range(settings.samples)]
    for _, drafts in sorted(groups.items()):
        yield from (
            drafts[i : i + settings.batch_size] for i in range(0, len(drafts), settings.batch_size)
        )


def _answer(
    lm: LM,
    ids: Int[Tensor, "batch pos"],
    drafts: list[_Draft],
    chance: Float[Tensor, "prompt sample new"],
    settings: GenerateSettings,
) -> Iterator[Generation]:
    """Extend answers token by token; yield each when it ends."""
    cache = DynamicCache(config=lm.model.config)
    ends = _end_ids(lm)
    for step in range(settings.max_new_tokens):
        logits = lm.advance(ids, cache)
        where = torch.tensor([[draft.prompt, draft.sample] for draft in drafts])
        tokens = _choose(logits, chance[where[:, 0], where[:, 1], step], settings.temperature)
        numbers = torch.stack(token_statistics(logits, tokens)[:4], dim=1).tolist()
        going: list[int] = []
        for row, (draft, token) in enumerate(zip(drafts, tokens.tolist(), strict=True)):
            ended = token in ends
            if not ended:
                draft.token_ids.append(token)
                draft.numbers.append(numbers[row])
                ended = _has_stop(lm, draft.token_ids, settings.stop)
            if ended or step == settings.max_new_tokens - 1:
                yield _finish(lm, draft, settings.stop, ended=ended)
            else:
                going.append(row)
        if not going:
            return
        if len(going) < len(drafts):
            rows = torch.tensor(going, device=lm.device)
            lm.keep_rows(cache, rows)
            tokens, drafts = tokens[rows], [drafts[row] for row in going]
        ids = tokens[:, None]


def _choose(
    logits: Float[Tensor, "batch d_vocab"], chance: Float[Tensor, " batch"], temperature: float
) -> Int[Tensor, " batch"]:
    """Take the most likely token, or the one at quantile `chance` of the tempered distribution."""
    if temperature == 0:
        return logits.argmax(-1)
    below = (logits.double() / temperature).softmax(-1).cumsum(-1)
    target = chance.to(below.device)[:, None] * below[:, -1:]
    return torch.searchsorted(below, target, right=True).squeeze(1).clamp_max(logits.shape[1] - 1)


def _end_ids(lm: LM) -> frozenset[int]:
    generation_config = lm.model.generation_config
    named = getattr(generation_config, "eos_token_id", None)
    both = [lm.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return frozenset(token_id for token_id in both if isinstance(token_id, int))


def _has_stop(lm: LM, token_ids: list[int], stop: tuple[str, ...]) -> bool:
    if not stop:
        return False
    text = lm.decode(token_ids)
    return any(mark in text for mark in stop)


def _finish(lm: LM, draft: _Draft, stop: tuple[str, ...], *, ended: bool) -> Generation:
    """Cut the text at the first stop and keep the tokens that spell what is left."""
    text = lm.decode(draft.token_ids)
    cuts = [text.index(mark) for mark in stop if mark in text]
    kept, n_tokens = text, len(draft.token_ids)
    if cuts:
        kept = text[: min(cuts)].rstrip()
        n_tokens = next(
            n for n in range(n_tokens + 1) if lm.decode(draft.token_ids[:n]).startswith(kept)
        )
    columns = [list(column) for column in zip(*draft.numbers[:n_tokens], strict=True)]
    return Generation(
        draft.prompt,
        draft.sample,
        kept.strip(),
        draft.token_ids[:n_tokens],
        *(columns or [[], [], [], []]),
        ended=ended,
    )
