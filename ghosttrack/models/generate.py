"""Batched generation that keeps what the model thought of each token."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from ghosttrack.errors import DataError
from ghosttrack.models.lm import LM
from ghosttrack.models.sharing import MOST_PADDING, cut, in_any_order, read_together


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
    chance: Float[Tensor, " new"]
    """Quantile of each token among those that could come."""
    token_ids: list[int] = field(default_factory=list)
    numbers: list[list[float]] = field(default_factory=list)
    """Per token: log-probability, entropy, greatest probability, margin."""


def generate(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    settings: GenerateSettings,
    read: Callable[[int], object] = lambda _: None,
) -> list[Generation]:
    """Answer prompts, each `settings.samples` times; results are in prompt-major order.

    What prompts begin with in common is read once. Prompts of about the same length share a batch,
    with padding before them if the model is none the wiser; answers that have ended leave it. A
    sampled answer depends on the seed and on its place in the list, not on the batch size.

    Args:
        lm: The model.
        prompts: Token ids, prefix included; none empty.
        settings: Length, stops and sampling.
        read: Told how much of `work` is done.

    Raises:
        DataError: A prompt with `max_new_tokens` more does not fit the model's context.
    """
    assert min(settings.max_new_tokens, settings.samples) >= 1, settings
    assert all(map(len, prompts)), "an empty prompt cannot be continued"
    longest = max(map(len, prompts), default=0)
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
    for past, batch in _batches(lm, prompts, settings):
        drafts = [
            _Draft(prompt, sample, chance[prompt, sample])
            for prompt in batch
            for sample in range(settings.samples)
        ]
        for answer in _answer(lm, prompts, past, drafts, settings, read):
            done[answer.prompt, answer.sample] = answer
    return [done[key] for key in sorted(done)]


def work(lm: LM, prompts: Sequence[Sequence[int]], settings: GenerateSettings) -> int:
    """Count the tokens that `generate` reads and may write, each written one by what it costs."""
    n_new = settings.max_new_tokens * settings.samples
    return sum(len(prompt) + n_new * lm.word_tokens for prompt in prompts)


def _batches(
    lm: LM, prompts: Sequence[Sequence[int]], settings: GenerateSettings
) -> Iterator[tuple[DynamicCache, list[int]]]:
    """Part prompts into batches, with what is read already."""
    limits = [len(prompt) - 1 for prompt in prompts]
    # Padding stands between what is shared and what is not: a window would count it.
    longest = max(limits, default=0) + 1 + settings.max_new_tokens
    most = max(1, settings.batch_size // settings.samples)
    for rows, shared in read_together(
        prompts, limits, lambda: longest <= lm.window and lm.can_pad_shared
    ):
        past = lm.remember(shared)
        lengths = {row: len(prompts[row]) + settings.max_new_tokens for row in rows}
        is_padded = len(set(lengths.values())) > 1 and lm.can_pad
        padding = MOST_PADDING if is_padded else 0.0
        for batch in in_any_order(cut(lengths, lm.batch_tokens, padding, most)):
            yield past, batch


def _answer(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    past: DynamicCache,
    drafts: list[_Draft],
    settings: GenerateSettings,
    read: Callable[[int], object],
) -> Iterator[Generation]:
    """Extend answers token by token; yield each when it ends."""
    asked = [prompts[draft.prompt] for draft in drafts[:: settings.samples]]
    ids, mask = _padded(asked, past.get_seq_length())
    cache, ends = lm.copies(past, len(ids)), _end_ids(lm)
    logits = lm.advance(ids, cache, mask)
    read(sum(map(len, asked)))
    if settings.samples > 1:
        rows = torch.arange(len(asked)).repeat_interleave(settings.samples)
        logits, mask = _keep(lm, rows, cache, logits, mask)
    for step in range(settings.max_new_tokens):
        chance = torch.stack([draft.chance[step] for draft in drafts])
        tokens = _choose(logits, chance, settings.temperature)
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
        n_ended = len(drafts) - len(going)
        read(lm.word_tokens * (len(going) + n_ended * (settings.max_new_tokens - step)))
        if not going:
            return
        if n_ended:
            drafts = [drafts[row] for row in going]
            tokens, mask = _keep(lm, torch.tensor(going), cache, tokens, mask)
        mask = None if mask is None else pad(mask, (0, 1), value=True)
        logits = lm.advance(tokens[:, None], cache, mask)


def _padded(
    texts: Sequence[Sequence[int]], n_shared: int
) -> tuple[Int[Tensor, "text pos"], Bool[Tensor, "text whole"] | None]:
    """Set what follows the shared tokens flush right; the mask is of both, None: no padding."""
    longest = max(map(len, texts))
    ids = [[0] * (longest - len(text)) + list(text[n_shared:]) for text in texts]
    if len(set(map(len, texts))) == 1:
        return torch.tensor(ids), None
    place = torch.arange(longest)
    n_padding = torch.tensor([longest - len(text) for text in texts])[:, None]
    return torch.tensor(ids), (place < n_shared) | (place >= n_shared + n_padding)


def _keep(
    lm: LM,
    rows: Int[Tensor, " kept"],
    cache: DynamicCache,
    values: Tensor,
    mask: Bool[Tensor, "row pos"] | None,
) -> tuple[Tensor, Bool[Tensor, "kept pos"] | None]:
    """Keep these rows of a cache, of a tensor that runs parallel to it, and of its mask."""
    lm.keep_rows(cache, rows)
    return values[rows.to(values.device)], None if mask is None else mask[rows]


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
