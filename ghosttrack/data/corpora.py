"""Documents cut into context windows, parted into training and held-out text."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from ghosttrack.data.config import CorpusConfig
from ghosttrack.data.windows import TokenIds, Windows
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.lm import LM

SHUFFLE_CHARACTERS = 2**28
"""Text held while shuffling: smaller corpora are shuffled whole, larger ones through a buffer."""
ENCODE_BATCH = 512

log = logging.getLogger(__name__)


class Framing(NamedTuple):
    """How a document becomes token ids."""

    encode: Callable[[Sequence[str]], list[list[int]]]
    """Token ids of each text, without special tokens."""
    prefix: tuple[int, ...]
    """Stands at the head of every window."""
    suffix: tuple[int, ...]
    """Stands at the end of every document."""
    n_ctx: int
    """Longest window that the model reads."""


class CorpusWindows(NamedTuple):
    """The windows to train on, and those of further documents for metrics."""

    train: Windows
    heldout: Windows


def framing(lm: LM, *, append_eos: bool = False) -> Framing:
    """Frame documents as the model was trained to see them.

    Args:
        lm: Gives the tokenizer and the prefix.
        append_eos: End every document with the tokenizer's EOS token.
    """

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return lm.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]

    suffix: tuple[int, ...] = ()
    if append_eos:
        eos = lm.tokenizer.eos_token_id
        assert isinstance(eos, int), "documents are to end with EOS, which the tokenizer lacks"
        suffix = (eos,)
    return Framing(encode, tuple(lm.prefix_ids), suffix, lm.n_ctx)


def corpus_windows(
    documents: Iterable[str], framing: Framing, config: CorpusConfig, skip_first: int, seed: int
) -> CorpusWindows:
    """Shuffle documents, cut them into windows and part them into held-out and training text.

    Held-out documents come first in the shuffled order, so a longer training run keeps them. Each
    part ends at exactly its number of kept tokens, in the midst of a window if need be; no document
    stands on both sides. A corpus that is too short gives a fifth of what it has to held-out.

    Args:
        documents: Read no further than needed, up to the shuffle's buffer.
        framing: How a document becomes token ids.
        config: `context`, `num_tokens` and `heldout_tokens`.
        skip_first: Leading positions of every window that are not kept and so not counted.
        seed: Of the shuffle.

    Raises:
        ConfigError: Windows of `corpus.context` tokens keep nothing, or are too long for the model.
        DataError: There are not two documents that keep a token.
    """
    assert config.context is not None, config
    assert config.num_tokens is not None, config
    assert config.heldout_tokens is not None, config
    if config.context <= max(skip_first, len(framing.prefix)):
        raise ConfigError(
            f"corpus.context={config.context} must exceed store.skip_first={skip_first}"
            f" and the {len(framing.prefix)} tokens put before every text"
        )
    if config.context > framing.n_ctx:
        raise ConfigError(
            f"corpus.context={config.context} exceeds the model's context of {framing.n_ctx} tokens"
        )
    heldout, train = _Part(skip_first), _Part(skip_first)
    for document, ids in _encoded(shuffled(documents, seed), framing):
        part = heldout if heldout.n_kept < config.heldout_tokens else train
        part.add(document, _cut([*ids, *framing.suffix], framing.prefix, config.context))
        if train.n_kept >= config.num_tokens:
            break
    else:
        _rebalance(heldout, train, config)
    if not heldout.n_kept or not train.n_kept:
        raise DataError(
            f"corpus {config.name}: {heldout.n_kept + train.n_kept} tokens in too few documents;"
            " training and held-out text need one document each"
        )
    return CorpusWindows(train.windows(config.num_tokens), heldout.windows(config.heldout_tokens))


def shuffled(
    documents: Iterable[str], seed: int, characters: int = SHUFFLE_CHARACTERS
) -> Iterator[tuple[int, str]]:
    """Yield (place in the corpus, document) in an order drawn with `seed`.

    Holds about `characters` of text at once: a longer corpus flows through a buffer from which the
    next document is drawn, each replaced by the next one read.
    """
    rng = np.random.default_rng(seed)
    pool: list[tuple[int, str]] = []
    held = 0
    for item in enumerate(documents):
        pool.append(item)
        held += len(item[1])
        while held > characters and len(pool) > 1:
            drawn = int(rng.integers(len(pool)))
            pool[drawn], pool[-1] = pool[-1], pool[drawn]
            out = pool.pop()
            held -= len(out[1])
            yield out
    for index in rng.permutation(len(pool)):
        yield pool[index]


class _Part:
    """Windows of one part while documents come in."""

    def __init__(self, skip_first: int) -> None:
        self.skip_first = skip_first
        self.documents: list[tuple[int, list[TokenIds]]] = []
        self.n_kept = 0

    def add(self, document: int, windows: list[TokenIds]) -> None:
        """Take a document's windows, less those that keep nothing."""
        windows = [ids for ids in windows if len(ids) > self.skip_first]
        if windows:
            self.documents.append((document, windows))
            self.n_kept += self._kept(windows)

    def pop(self) -> tuple[int, list[TokenIds]]:
        """Give the last document back."""
        document, windows = self.documents.pop()
        self.n_kept -= self._kept(windows)
        return document, windows

    def _kept(self, windows: list[TokenIds]) -> int:
        return sum(len(ids) - self.skip_first for ids in windows)

    def windows(self, n_tokens: int) -> Windows:
        """Pack the windows up to `n_tokens` kept tokens."""
        ids, bounds, documents = [], [0], []
        room = n_tokens
        for document, windows in self.documents:
            for window in windows:
                if room <= 0:
                    break
                window = window[: room + self.skip_first]
                room -= len(window) - self.skip_first
                ids.append(window)
                bounds.append(bounds[-1] + len(window))
                documents.append(document)
        return Windows(
            np.concatenate(ids),
            np.asarray(bounds, dtype=np.int64),
            np.asarray(documents, dtype=np.int32),
        )


def _rebalance(heldout: _Part, train: _Part, config: CorpusConfig) -> None:
    """Move held-out documents to training until a fifth of a short corpus is left."""
    total = heldout.n_kept + train.n_kept
    log.warning(
        "corpus %s has %d tokens: fewer than corpus.num_tokens=%d + corpus.heldout_tokens=%d",
        *(config.name, total, config.num_tokens, config.heldout_tokens),
    )
    while len(heldout.documents) > 1 and heldout.n_kept > total / 5:
        train.add(*heldout.pop())


def _encoded(
    documents: Iterable[tuple[int, str]], framing: Framing
) -> Iterator[tuple[int, list[int]]]:
    documents = iter(documents)
    while batch := list(islice(documents, ENCODE_BATCH)):
        encoded = framing.encode([text for _, text in batch])
        for (document, _), ids in zip(batch, encoded, strict=True):
            yield document, ids


def _cut(ids: list[int], prefix: tuple[int, ...], context: int) -> list[TokenIds]:
    """Cut a document into windows of `context` tokens, the prefix included."""
    step = context - len(prefix)
    return [
        np.array([*prefix, *ids[start : start + step]], dtype=np.int32)
        for start in range(0, len(ids), step)
    ]
