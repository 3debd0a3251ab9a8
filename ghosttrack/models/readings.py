"""What one pass over texts leaves behind: residual streams and the logit lens.

Everything is read at the last token of a text: a prompt, which predicts the answer's first token,
or more or less of prompt and answer (`positions.py`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ghosttrack.models.changes import MASK, Change
from ghosttrack.models.lm import LM
from ghosttrack.models.sharing import TextToRead, fewest, passes

N_CANDIDATES = 10
"""Tokens that compete for the answer's first place: the best by the model's final logits."""

BLOCK_FLOATS = 2**24
"""Numbers held at once in residual streams or logits: 64 MiB in fp32."""

CACHE_FLOATS = 2**20
"""Logits gone through at once on a CPU, whose cache they fit."""

STATES = ("prompt_last", "answer_mean", "answer_last")
"""Where the residual streams of an answer are kept: at its prompt's last token, their mean over its
own tokens, and at its last one."""


class Lens(NamedTuple):
    """Every block's residual stream read through the final norm and the unembedding.

    `layer` runs over all blocks of the model; logarithms are natural.
    """

    logprobs: Float[np.ndarray, "sample layer"]
    """Of the emitted token."""
    ranks: Int[np.ndarray, "sample layer"]
    """Tokens with a greater logit than the emitted one: 0 = it is the best."""
    top1: Int[np.ndarray, "sample layer"]
    """The best token."""
    margins: Float[np.ndarray, "sample layer"]
    """Log-ratio of the two best tokens' probabilities, at least 0."""
    kl: Float[np.ndarray, "sample layer"]
    """KL(final || lens) in nats, at least 0; 0 at the last block."""
    best: Float[np.ndarray, "sample layer"]
    """Log-probability of the best token."""


class Readings(NamedTuple):
    """Residual streams at the last token of every text, and how the model would speak from them."""

    depths: Float[np.ndarray, " layer"]
    """Blocks passed over blocks of the model, in (0, 1]; of the layers that were asked for."""
    residuals: Float[np.ndarray, "layer sample d_model"]
    masked: Float[np.ndarray, "layer sample d_model"]
    """The same with the mean embedding in the subject's place; NaN where no subject was found."""
    lens: Lens | None
    """None where it was not asked for."""
    d_vocab: int
    emitted: Int[np.ndarray, " sample"]
    """The answer's first token; the model's best one where the answer is empty."""
    candidates: Int[np.ndarray, "sample candidate"]
    """Best tokens by final logit, best first; the emitted one takes the last place if missing."""
    scales: Float[np.ndarray, " sample"]
    """The final norm's divisor."""
    offsets: Float[np.ndarray, "sample candidate"]
    """The part of a candidate's final logit that no residual stream changes: the biases."""


class How(NamedTuple):
    """How texts are read."""

    lens: bool = True
    """All blocks are read through the logit lens."""
    read: Callable[[int], object] = lambda _: None
    """Told how many tokens each pass has read."""


USUAL = How()


class _Final(NamedTuple):
    """What the last block's residual streams of one batch say."""

    emitted: Int[Tensor, " sample"]
    candidates: Int[Tensor, "sample candidate"]
    scales: Float[Tensor, " sample"]
    offsets: Float[Tensor, "sample candidate"]


def read(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    subjects: Sequence[str],
    layers: Sequence[int],
    how: How = USUAL,
) -> Readings:
    """Run every prompt once, and once more without its subject.

    A prompt that begins another one is read off the other's pass.

    Args:
        lm: The model that gave the answers.
        prompts: Token ids, prefix included.
        answers: The model's own answer tokens; only the first one's identity is used.
        subjects: What each prompt is about, as text that stands in it; "" where there is none.
        layers: Blocks whose residual streams are kept, ascending: the SAE bank's.
        how: What else is done.
    """
    assert len(prompts) == len(answers) == len(subjects), "one answer and one subject per prompt"
    shape = (len(layers), len(prompts), lm.d_model)
    residuals = np.empty(shape, dtype=np.float32)
    masked = np.full(shape, np.nan, dtype=np.float32)
    firsts = np.array([answer[0] if len(answer) else -1 for answer in answers], dtype=np.int64)
    blocks = list(range(lm.n_layers)) if how.lens else sorted({*layers, lm.n_layers - 1})
    kept = [blocks.index(layer) for layer in layers]
    finals: list[_Final] = []
    lenses: list[Lens] = []
    order: list[int] = []
    whole, named, without = _plan(lm, prompts, subjects)
    for rows, stack in _at_ends(lm, whole, blocks, read=how.read):
        residuals[:, rows] = stack[kept].cpu().numpy()
        final = _finish(lm, stack[-1], torch.from_numpy(firsts[rows]).to(lm.device))
        finals.append(final)
        lenses += [read_lens(lm, stack, final.emitted)] if how.lens else []
        order.extend(rows)
    for rows, stack in _at_ends(lm, without, layers, MASK, how.read):
        masked[:, [named[row] for row in rows]] = stack.cpu().numpy()
    depths, back = (np.asarray(layers) + 1) / lm.n_layers, np.argsort(order)
    columns = [np.concatenate(pieces)[back] for pieces in zip(*lenses, strict=True)]
    last = (torch.cat(pieces).cpu().numpy()[back] for pieces in zip(*finals, strict=True))
    seen = Lens(*columns) if how.lens else None
    return Readings(depths, residuals, masked, seen, lm.d_vocab, *last)


def last_residuals(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    read: Callable[[int], object] = lambda _: None,
) -> Float[np.ndarray, "layer sample d_model"]:
    """Read the residual streams of `layers` at every prompt's last position, and nothing else.

    `read` is told how many of `n_to_read` each batch has done.
    """
    residuals = np.empty((len(layers), len(prompts), lm.d_model), dtype=np.float32)
    for rows, stack in _at_ends(lm, _last_of(prompts), layers, read=read):
        residuals[:, rows] = stack.cpu().numpy()
    return residuals


def n_to_read(lm: LM, prompts: Sequence[Sequence[int]], subjects: Sequence[str] = ()) -> int:
    """Count the tokens that `read`, or without subjects `last_residuals`, reads of prompts."""
    subjects = subjects or [""] * len(prompts)
    whole, _, without = _plan(lm, prompts, subjects)
    return sum(len(text.tokens) for part in (whole, without) for text in fewest(part)[0])


def _plan(
    lm: LM, prompts: Sequence[Sequence[int]], subjects: Sequence[str]
) -> tuple[list[TextToRead], list[int], list[TextToRead]]:
    """Give the texts that are read at their ends, and which of them once more, without subject."""
    whole = _last_of(prompts)
    marked = [find_subject(lm, ids, text) for ids, text in zip(prompts, subjects, strict=True)]
    named = [row for row, found in enumerate(marked) if found.any()]
    places = (tuple(np.flatnonzero(marked[row]).tolist()) for row in named)
    without = [whole[row]._replace(marked=one) for row, one in zip(named, places, strict=True)]
    return whole, named, without


def _last_of(prompts: Sequence[Sequence[int]]) -> list[TextToRead]:
    return [TextToRead(tuple(ids), len(ids) - 1) for ids in prompts]


def _at_ends(
    lm: LM,
    texts: Sequence[TextToRead],
    layers: Sequence[int],
    change: Change | None = None,
    read: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[list[int], Float[Tensor, "layer text d_model"]]]:
    """Yield numbers of texts with the residual streams at their last tokens."""
    assert all(text.tokens for text in texts), "a prompt holds no token"
    batch_tokens = max(1, BLOCK_FLOATS // (len(layers) * lm.d_model))
    for found in passes(lm, texts, layers, change, batch_tokens):
        ends = [texts[number].start - found.first for number in found.asked]
        yield found.asked.tolist(), found.streams[:, found.row, ends].float()
        read(found.n_tokens)


class States(NamedTuple):
    """What one pass over prompts and their answers leaves behind."""

    streams: Mapping[str, Float[np.ndarray, "layer answer d_model"]]
    """By the name of `STATES`; fp32, as some streams leave the range of fp16."""
    lens: Lens | None
    """Where the answer's first token, or another one, is predicted; None where not asked for."""


def read_states(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    layers: Sequence[int],
    lens_at: Sequence[int] | None = None,
    read: Callable[[int], object] = lambda _: None,
) -> States:
    """Run every prompt with its answer once, and keep what `STATES` names.

    Args:
        lm: The model.
        prompts: Token ids, prefix included; none empty.
        answers: Token ids; none empty.
        layers: Blocks whose residual streams are kept.
        lens_at: Per answer, the position of prompt and answer at which every block is read through
            the logit lens, as predicting the token that follows; None reads no lens and stops at
            the deepest of `layers`.
        read: Told how many tokens each batch has read.
    """
    starts = [len(prompt) - 1 for prompt in prompts]
    looked_at = starts if lens_at is None else list(map(min, starts, lens_at))
    asked = zip(prompts, answers, looked_at, strict=True)
    texts = [TextToRead((*prompt, *answer), first) for prompt, answer, first in asked]
    blocks = list(layers) if lens_at is None else list(range(lm.n_layers))
    kept = torch.tensor([blocks.index(layer) for layer in layers])
    streams = np.empty((len(STATES), len(layers), len(texts), lm.d_model), dtype=np.float32)
    lenses: list[Lens] = []
    order: list[int] = []
    batch_tokens = max(1, min(lm.batch_tokens, BLOCK_FLOATS // (len(blocks) * lm.d_model)))
    for found in passes(lm, texts, blocks, None, batch_tokens):
        for number, row in zip(found.asked.tolist(), found.row.tolist(), strict=True):
            here = slice(starts[number] - found.first, len(texts[number].tokens) - found.first)
            said = found.streams[kept, row, here].float()
            states = torch.stack([said[:, 0], said[:, 1:].mean(dim=1), said[:, -1]])
            streams[:, :, number] = states.cpu().numpy()
        if lens_at is not None:
            at = [lens_at[number] for number in found.asked]
            stack = found.streams[:, found.row, [place - found.first for place in at]].float()
            pairs = zip(found.asked, at, strict=True)
            then = [texts[number].tokens[place + 1] for number, place in pairs]
            lenses.append(read_lens(lm, stack, torch.tensor(then, device=stack.device)))
            order.extend(found.asked.tolist())
        read(found.n_tokens)
    back = np.argsort(order)
    lens = [np.concatenate(pieces)[back] for pieces in zip(*lenses, strict=True)]
    return States(dict(zip(STATES, streams, strict=True)), Lens(*lens) if lens else None)


def masked_last(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    layers: Sequence[int],
    read: Callable[[int], object] = lambda _: None,
) -> Float[np.ndarray, "layer answer d_model"]:
    """Read the residual streams at answers' last tokens, all of an answer's tokens masked.

    Of the answer they know its length alone.
    """
    streams = np.empty((len(layers), len(prompts), lm.d_model), dtype=np.float32)
    texts = []
    for prompt, answer in zip(prompts, answers, strict=True):
        n = len(prompt) + len(answer)
        texts.append(TextToRead((*prompt, *answer), n - 1, tuple(range(len(prompt), n))))
    for rows, stack in _at_ends(lm, texts, layers, MASK, read):
        streams[:, rows] = stack.cpu().numpy()
    return streams


def whole_streams(
    lm: LM, texts: Sequence[Sequence[int]], layers: Sequence[int], floats_per_token: int
) -> Iterator[tuple[list[int], Float[Tensor, "layer batch pos d_model"]]]:
    """Yield rows of equal length with their residual streams at every token but the prefix.

    Args:
        lm: The model.
        texts: Token ids, prefix included.
        layers: Blocks whose residual streams are read.
        floats_per_token: Numbers that the caller holds of each token; rows are batched by it.
    """
    for rows in equal_length_batches(texts, floats_per_token):
        ids = torch.tensor([list(texts[row]) for row in rows], device=lm.device)
        stack = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), layers)
        yield rows, stack[:, :, len(lm.prefix_ids) :].float()


def equal_length_batches(
    prompts: Sequence[Sequence[int]], floats_per_token: int
) -> Iterator[list[int]]:
    """Yield rows of equal prompt length, so many that their streams fit `BLOCK_FLOATS`."""
    by_length: dict[int, list[int]] = {}
    for row, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(row)
    for length, rows in sorted(by_length.items()):
        assert length > 0, f"prompt {rows[0]} holds no token"
        size = max(1, BLOCK_FLOATS // (length * floats_per_token))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def find_subject(lm: LM, prompt: Sequence[int], subject: str) -> Bool[np.ndarray, " pos"]:
    """Mark every position of the prompt that is part of the subject's name.

    The name is looked for as tokens, with and without a space before it: byte-level tokenizers
    spell the two differently. Where its end shares a token with what follows, as a question mark,
    every token that holds a part of it is marked.
    """
    marked = np.zeros(len(prompt), dtype=bool)
    if not subject:
        return marked
    for text in (" " + subject, subject):
        name = lm.encode(text, prefix=False)
        for start in range(len(prompt) - len(name) + 1):
            if name and list(prompt[start : start + len(name)]) == name:
                marked[start : start + len(name)] = True
    return marked if marked.any() else _by_characters(lm, prompt, subject)


def _by_characters(lm: LM, prompt: Sequence[int], subject: str) -> Bool[np.ndarray, " pos"]:
    """Mark the tokens in whose characters a name stands as whole words."""
    marked = np.zeros(len(prompt), dtype=bool)
    text = lm.decode(prompt)
    places = [found.span() for found in re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", text)]
    if places:
        bounds = np.array([len(lm.decode(prompt[:n])) for n in range(len(prompt) + 1)])
        for start, end in places:
            marked |= (bounds[:-1] < end) & (bounds[1:] > start)
    return marked


def _finish(
    lm: LM, final: Float[Tensor, "sample d_model"], firsts: Int[Tensor, " sample"]
) -> _Final:
    """Read emitted token (first of the answer, -1 = the best), candidates and their constants."""
    n_candidates = min(N_CANDIDATES, lm.d_vocab)
    blocks = final.split(max(1, BLOCK_FLOATS // lm.d_vocab))
    emitted, candidates, values = [], [], []
    for block, wanted in zip(blocks, firsts.split(len(blocks[0])), strict=True):
        logits = lm.unembed(block).float()
        best = logits.topk(n_candidates, dim=-1).indices
        token = torch.where(wanted < 0, best[:, 0], wanted)
        missing = (best != token[:, None]).all(dim=-1)
        best[:, -1] = torch.where(missing, token, best[:, -1])
        emitted.append(token)
        candidates.append(best)
        values.append(logits.gather(-1, best))
    chosen = torch.cat(candidates)
    scales = lm.final_scale(final).float()
    direct = torch.einsum("n m d, n d -> n m", lm.readout(chosen).float(), final)
    offsets = torch.cat(values) - direct / scales[:, None]
    return _Final(torch.cat(emitted), chosen, scales, offsets)


def read_lens(
    lm: LM, stack: Float[Tensor, "layer sample d_model"], emitted: Int[Tensor, " sample"]
) -> Lens:
    """Read each layer as if it were the last, in blocks of samples.

    At most two `[block d_vocab]` tables of log-probabilities exist at once.
    """
    size = max(1, BLOCK_FLOATS // lm.d_vocab)
    pieces: list[list[Tensor]] = [[] for _ in Lens._fields]
    for start in range(0, stack.shape[1], size):
        block, token = stack[:, start : start + size], emitted[start : start + size, None]
        final = lm.unembed(block[-1]).float().log_softmax(dim=-1)
        layers = [_lens_layer(lm.unembed(resid).float(), final, token) for resid in block]
        for piece, columns in zip(pieces, zip(*layers, strict=True), strict=True):
            piece.append(torch.stack(columns, dim=1))
    return Lens(*(torch.cat(piece).cpu().numpy() for piece in pieces))


def _lens_layer(
    logits: Float[Tensor, "sample d_vocab"],
    final: Float[Tensor, "sample d_vocab"],
    token: Int[Tensor, "sample 1"],
) -> tuple[Tensor, ...]:
    """Return one layer's columns in the order of `Lens`; `final` is the last log-softmax."""
    size = max(1, CACHE_FLOATS // logits.shape[1])
    parts = (one.split(size) for one in (logits, final, token))
    return tuple(map(torch.cat, zip(*map(_lens_columns, *parts), strict=True)))


def _lens_columns(
    logits: Float[Tensor, "sample d_vocab"],
    final: Float[Tensor, "sample d_vocab"],
    token: Int[Tensor, "sample 1"],
) -> tuple[Tensor, ...]:
    logprobs = logits.log_softmax(dim=-1)
    own = logprobs.gather(-1, token)
    ranks = (logprobs > own).sum(dim=-1)
    best = logprobs.topk(2, dim=-1)
    kl = (final.exp() * (final - logprobs)).sum(dim=-1).clamp_min(0.0)
    margins = best.values[:, 0] - best.values[:, 1]
    return own[:, 0], ranks, best.indices[:, 0], margins, kl, best.values[:, 0]
