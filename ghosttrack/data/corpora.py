"""Documents turned into token ids on the disk, and parted into training and held-out windows."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ghosttrack.data.config import Packing, TextCorpus
from ghosttrack.data.progress import Meter
from ghosttrack.data.windows import Cut, DocumentTable, StoredWindows, TokenFile
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import read_json, write_json
from ghosttrack.models.lm import LM

SHUFFLE_CHARACTERS = 2**26
"""Text held while shuffling: smaller corpora are shuffled whole, larger ones through a buffer."""
ENCODE_BATCH = 512
"""Documents that the tokenizer gets at once; it shares them out among the cores."""
ENCODE_CHARACTERS = 2**20
"""Of long documents it gets fewer: what a corpus needs beyond its budget is at most so much."""

CORPUS = "corpus.json"

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

    train: StoredWindows
    heldout: StoredWindows


def framing(lm: LM, *, append_eos: bool) -> Framing:
    """Frame documents as the model was trained to see them.

    Raises:
        ConfigError: There is no such token.
    """

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return lm.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]

    suffix: tuple[int, ...] = ()
    if append_eos:
        eos = lm.tokenizer.eos_token_id
        if not isinstance(eos, int):
            raise ConfigError(
                "corpus.packing=blocks parts documents by EOS, which the tokenizer lacks; set"
                " corpus.packing=documents"
            )
        suffix = (eos,)
    return Framing(encode, tuple(lm.prefix_ids), suffix, lm.n_ctx)


def write_corpus(
    folder: Path,
    documents: Iterable[str],
    framing: Framing,
    config: TextCorpus,
    skip_first: int,
    seed: int,
) -> None:
    """Shuffle documents, write their token ids and say which are trained on and which held out.

    Held-out documents come first in the shuffled order, so a longer training run keeps them. None
    stands on both sides, but one that outweighs the others, which is cut. Too short a corpus holds
    out a fifth, or what training does not need. After a kill what is missing is tokenised.

    Args:
        folder: Gets `corpus.json` and the files of `tokens.py`.
        documents: Read no further than needed, up to the shuffle's buffer.
        framing: How a document becomes token ids.
        config: `context`, `packing`, `num_tokens` and `heldout_tokens`.
        skip_first: Leading positions of every window that are not kept and so not counted.
        seed: Of the shuffle.

    Raises:
        ConfigError: Windows of `corpus.context` tokens keep nothing, or are too long for the model.
        DataError: There are not tokens enough for two windows.
    """
    cut = _cut(framing, config, skip_first)
    parting = _Parting(cut, config)
    with closing(TokenFile(folder)) as file, Meter("tokenising", sum(parting.wanted)) as progress:
        n_read, is_appending = 0, False
        for batch in _batches(shuffled(documents, seed)):
            n_read += len(batch)
            lengths = file.lengths(n_read - len(batch), n_read)
            if lengths is None:
                if not is_appending:
                    file.keep(n_read - len(batch))
                    is_appending = True
                encoded = framing.encode([text for _, text in batch])
                ids = [[*document, *framing.suffix] for document in encoded]
                file.append([place for place, _ in batch], ids)
                lengths = [len(document) for document in ids]
                progress.advance(sum(lengths))
            for n_tokens in lengths:
                parting.add(n_tokens)
            if parting.is_full:
                break
    edges, cut_at = (parting.edges, None) if parting.is_full else _few(folder, cut, config)
    write_json(
        folder / CORPUS,
        {
            "context": cut.context,
            "prefix": list(cut.prefix),
            "skip_first": skip_first,
            "is_blocks": config.packing is Packing.blocks,
            "edges": edges,
            "cut_at": cut_at,
            "num_tokens": config.num_tokens,
            "heldout_tokens": config.heldout_tokens,
        },
    )


def read_corpus(folder: Path) -> CorpusWindows:
    """Open what `write_corpus` wrote.

    Each part ends at exactly its number of kept tokens, in the midst of a window if need be.
    """
    facts = read_json(folder / CORPUS)
    cut = Cut(facts["context"], tuple(facts["prefix"]), facts["skip_first"])
    table = DocumentTable.read(folder)
    if facts["cut_at"] is not None:
        table = table.cut(facts["cut_at"])
    start, middle, end = facts["edges"]

    def part(first: int, last: int, n_tokens: int) -> StoredWindows:
        stretches = np.array([first, last])
        if not facts["is_blocks"]:
            stretches = np.arange(first, last + 1)
        return StoredWindows(folder, table, stretches, cut, n_tokens)

    return CorpusWindows(
        train=part(middle, end, facts["num_tokens"]),
        heldout=part(start, middle, facts["heldout_tokens"]),
    )


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


def _cut(framing: Framing, config: TextCorpus, skip_first: int) -> Cut:
    if config.context <= max(skip_first, len(framing.prefix)):
        raise ConfigError(
            f"corpus.context={config.context} must exceed store.skip_first={skip_first}"
            f" and the {len(framing.prefix)} tokens put before every text"
        )
    if config.context > framing.n_ctx:
        raise ConfigError(
            f"corpus.context={config.context} exceeds the model's context of {framing.n_ctx} tokens"
        )
    return Cut(config.context, framing.prefix, skip_first)


class _Parting:
    """Deals documents to held-out text and then to training, until each has its tokens."""

    def __init__(self, cut: Cut, config: TextCorpus) -> None:
        self.cut = cut
        self.packing = config.packing
        self.wanted = [config.heldout_tokens, config.num_tokens]
        self.edges = [0, 0]
        self.n_text = self.n_kept = 0

    @property
    def is_full(self) -> bool:
        """Tell whether both parts have what they are to have."""
        return len(self.edges) == 3 and self.n_kept >= self.wanted[1]

    def add(self, n_tokens: int) -> None:
        """Deal a document of so many tokens."""
        part = len(self.edges) - 2
        if self.n_kept >= self.wanted[part]:
            if part == 1:
                return
            self.edges.append(self.edges[-1])
            self.n_text = self.n_kept = 0
        self.edges[-1] += 1
        self.n_text += n_tokens
        if self.packing is Packing.blocks:
            self.n_kept = self.cut.kept(self.n_text)
        else:
            self.n_kept += self.cut.kept(n_tokens)


def _few(folder: Path, cut: Cut, config: TextCorpus) -> tuple[list[int], int | None]:
    """Part a corpus of too few whole documents, or of too few tokens, so that none is left over.

    Of too few tokens a fifth is held out, or what training does not need; at most what was asked
    for. Where whole documents would leave either part less than half of its due, one is cut where
    held-out text ends, at a token that is given besides.
    """
    table = DocumentTable.read(folder)
    kept = _kept_by(table.lengths, cut, config)
    total = int(kept[-1]) if len(kept) else 0
    is_short = total < config.num_tokens + config.heldout_tokens
    if is_short:
        log.warning(
            "corpus %s has %d tokens: fewer than corpus.num_tokens=%d + corpus.heldout_tokens=%d",
            *(config.name, total, config.num_tokens, config.heldout_tokens),
        )
    wanted = min(max(total / 5, total - config.num_tokens), config.heldout_tokens)
    n_empty = int(np.searchsorted(kept, 0, side="right"))
    middle = max(int(np.searchsorted(kept, wanted, side="right")), n_empty + 1)
    rest = _kept_by(table.lengths[middle:], cut, config)
    is_fair = len(rest) and rest[-1] >= min(config.num_tokens, total - wanted) / 2
    if is_fair and kept[middle - 1] >= wanted / 2:
        return [0, middle, len(kept)], None
    place = _edge(table, kept, float(wanted), cut, config)
    middle = int(np.searchsorted(table.bounds, place, side="left"))
    parted = table.cut(place)
    rest = _kept_by(parted.lengths[middle:], cut, config)
    if not len(rest) or not rest[-1]:
        raise DataError(
            f"corpus {config.name}: {total} tokens are too few to train on some and hold out others"
        )
    at = int(np.searchsorted(table.bounds, place, side="right")) - 1
    log.warning(
        "corpus %s: few documents; held-out text ends within one, after %d of its %d tokens",
        *(config.name, place - table.bounds[at], table.lengths[at]),
    )
    return [0, middle, len(parted.lengths)], place


def _edge(
    table: DocumentTable,
    kept: Int64[np.ndarray, " document"],
    wanted: float,
    cut: Cut,
    config: TextCorpus,
) -> int:
    """Find the token at which held-out text ends, whole windows of a document before it."""
    is_blocks = config.packing is Packing.blocks
    at = min(int(np.searchsorted(kept, wanted, side="left")), max(len(kept) - 1, 0))
    before = int(kept[at - 1]) if at and not is_blocks else 0
    start = 0 if is_blocks else int(table.bounds[at])
    n_windows = ceil((wanted - before) / (cut.context - cut.skip_first))
    return min(start + n_windows * cut.step, int(table.bounds[-1]))


def _batches(documents: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yield documents in batches of `ENCODE_BATCH`, or fewer where they are long."""
    batch: list[tuple[int, str]] = []
    n_characters = 0
    for document in documents:
        batch.append(document)
        n_characters += len(document[1])
        if len(batch) == ENCODE_BATCH or n_characters >= ENCODE_CHARACTERS:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch


def _kept_by(
    lengths: Int64[np.ndarray, " document"], cut: Cut, config: TextCorpus
) -> Int64[np.ndarray, " document"]:
    """Count what is kept of the first documents, up to and with each."""
    if config.packing is Packing.blocks:
        return np.array([cut.kept(n) for n in lengths.cumsum().tolist()], dtype=np.int64)
    return np.array([cut.kept(n) for n in lengths.tolist()], dtype=np.int64).cumsum()
