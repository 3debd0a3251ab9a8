"""The activations of a corpus: read from a store, from the model beside, or written to a store."""

import logging
import shutil
from pathlib import Path

from ghosttrack.config import ExtractProgram, TrainProgram
from ghosttrack.data.config import TextCorpus
from ghosttrack.data.ready import convert
from ghosttrack.data.source import ActivationSource
from ghosttrack.data.store import ActivationStore, StoreSource, disk_bytes
from ghosttrack.data.store_write import write_store
from ghosttrack.data.stream import Split, StreamSource
from ghosttrack.data.windows import TOKEN_BYTES
from ghosttrack.pipelines.extract import activations
from ghosttrack.pipelines.setup import Setup
from ghosttrack.processes import place
from ghosttrack.sae.config import Source

log = logging.getLogger(__name__)


def activation_source(
    setup: Setup[TrainProgram], shares: list[list[str]], rank: int
) -> ActivationSource:
    """Open the activations of a rank's hook points, extracting a store where it is missing.

    Args:
        setup: Of all.
        shares: Hook points of every rank; one list of all where none has its own.
        rank: Whose they are.
    """
    config = setup.config
    if config.train.source is Source.store:
        return StoreSource(ActivationStore(activations(setup).path), shares[rank])
    extractor, split = setup.extractor.of(setup.layers), None
    if len(shares) > 1:
        names = dict(zip(setup.hooks, setup.layers, strict=True))
        split = Split([[names[hook] for hook in hooks] for hooks in shares], rank)
    return StreamSource(extractor, setup.corpus, config.train.buffer_tokens, split)


def stream_source(
    setup: Setup[ExtractProgram], buffer_tokens: int, hooks: list[str] | None = None
) -> StreamSource:
    """Let the model run beside whoever asks for activations, of all hook points or of some."""
    names = zip(setup.layers, setup.hooks, strict=True)
    layers = [layer for layer, name in names if hooks is None or name in hooks]
    return StreamSource(setup.extractor.of(layers), setup.corpus, buffer_tokens)


def write_activations(setup: Setup[ExtractProgram], folder: Path) -> None:
    """Let the model read the corpus, or convert what is there already; every rank its share."""
    config = setup.config
    if not config.corpus.is_text:
        convert(folder, setup.corpus_path, setup.layers, config.store, config.seed)
        return
    if place().rank == 0:
        _say_plan(setup, folder)
    write_store(folder, setup.extractor, setup.corpus, config.store, place())


def _say_plan(setup: Setup[ExtractProgram], folder: Path) -> None:
    """Say what extraction takes before the corpus is tokenised; its first second tells the time."""
    corpus, store, lm = setup.config.corpus, setup.config.store, setup.lm
    assert isinstance(corpus, TextCorpus), corpus
    n_tokens = corpus.num_tokens + corpus.heldout_tokens
    weights = sum(parameter.nbytes for parameter in lm.model.parameters())
    log.info(
        "extraction: up to %s tokens at %d layers: %.2f GB, and %.2f GB of token ids, of the"
        " %.1f GB free on the disk; the model takes %.2f GB of memory",
        *(f"{n_tokens:,}", len(setup.layers)),
        disk_bytes(n_tokens, len(setup.layers), lm.d_model, store.dtype) / 1e9,
        TOKEN_BYTES * n_tokens / 1e9,
        shutil.disk_usage(folder).free / 1e9,
        weights / 1e9,
    )
