"""A model reads a corpus, or ready-made activations are converted: a store comes out."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ghosttrack.artifacts import Artifact, artifact_id
from ghosttrack.config import ExtractProgram, TrainProgram
from ghosttrack.data.config import CorpusKind, StoreConfig, TextCorpus
from ghosttrack.data.ready import convert
from ghosttrack.data.source import ActivationSource
from ghosttrack.data.store import ActivationStore, StoreSource, disk_bytes
from ghosttrack.data.store_write import write_store
from ghosttrack.data.stream import Split, StreamSource
from ghosttrack.data.windows import TOKEN_BYTES
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage, coded
from ghosttrack.pipelines.workers import together, use_own_gpu
from ghosttrack.processes import place
from ghosttrack.run import Run
from ghosttrack.sae.config import Source

SCHEMA = 1
"""Version of the files of a store."""
HELDOUT = "heldout"
"""Where a bank's metadata names the tokens that its metrics were measured on."""

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Run the program."""
    use_own_gpu()
    setup = Setup(config, Run.start("extract"))
    artifact = activations(setup)
    gigabytes = artifact.n_bytes / 1e9
    log.info("%d layers, %.2f GB in %s", len(setup.layers), gigabytes, artifact.path)
    lost = ActivationStore(artifact.path).fvu
    for hook, fvu in lost.items():
        log.info("%s: int8 loses %.2e of the variance", hook, fvu)
    found = {"gigabytes": gigabytes, "store": str(artifact.path), "int8_fvu": lost}
    setup.run.metrics["extract"] = found
    setup.run.finish()


def activations(setup: Setup[ExtractProgram]) -> Artifact:
    """Return the store of this configuration, making it where it is missing."""
    config, stage = setup.config, store_stage(setup)
    is_text = config.corpus.kind is not CorpusKind.activations
    if is_text and config.extract.devices > place().world_size == 1 and not stage.exists:
        with setup.run.stage(stage.title):
            together(activations, setup, config.extract.devices)
    return stage.make()


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
    names = dict(zip(setup.hooks, setup.layers, strict=True))
    split = Split([[names[hook] for hook in hooks] for hooks in shares], rank)
    extractor, buffer_tokens = setup.extractor.of(setup.layers), config.train.buffer_tokens
    return StreamSource(extractor, setup.corpus, buffer_tokens, split if len(shares) > 1 else None)


def stream_source(
    setup: Setup[ExtractProgram], buffer_tokens: int, hooks: list[str] | None = None
) -> StreamSource:
    """Let the model run beside whoever asks for activations, of all hook points or of some."""
    names = zip(setup.layers, setup.hooks, strict=True)
    layers = [layer for layer, name in names if hooks is None or name in hooks]
    return StreamSource(setup.extractor.of(layers), setup.corpus, buffer_tokens)


def store_stage(setup: Setup[ExtractProgram]) -> Stage[ActivationStore]:
    """The activations of a corpus, on disk."""
    config = setup.config
    return Stage(
        setup.outputs,
        "activations",
        config.corpus.name,
        store_settings(setup),
        partial(write_activations, setup),
        ActivationStore,
        title="extract",
        distributed=config.corpus.kind is not CorpusKind.activations,
    )


def write_activations(setup: Setup[ExtractProgram], folder: Path) -> None:
    """Let the model read the corpus, or convert what is there already; every rank its share."""
    config = setup.config
    if config.corpus.kind is CorpusKind.activations:
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


def store_settings(setup: Setup[ExtractProgram]) -> dict[str, object]:
    """What determines the bytes of a store; of ready-made activations no model is part."""
    config = setup.config
    is_text = config.corpus.kind is not CorpusKind.activations
    model = setup.model_identity if is_text else None
    return _settings(setup.corpus_identity, setup.layers, config.store, config.seed, model)


def _settings(
    corpus: Mapping[str, object],
    layers: Sequence[int],
    store: StoreConfig,
    seed: int,
    model: Mapping[str, str] | None,
) -> dict[str, object]:
    """Put together what determines the bytes of a store, the code aside.

    Args:
        corpus: What determines its windows, besides a tokenizer.
        layers: Block indices of the hook points.
        store: How activations rest there.
        seed: Of the shuffle.
        model: What determines the numbers of the model that read it; None where none did.
    """
    identity = {
        "corpus": corpus,
        "layers": layers,
        "dtype": store.dtype.name,
        "shard_tokens": store.shard_tokens,
        "seed": seed,
        "schema": SCHEMA,
    }
    if model is None:
        return identity
    read = {"skip_first": store.skip_first, "products": store.products.name}
    return {**identity, "model": model, **read}


def heldout_id(setup: Setup[ExtractProgram]) -> str:
    """Name the held-out tokens of a configuration, whichever layers and shards they are kept in."""
    kept = {"layers", "shard_tokens", "schema"}
    identity = store_settings(setup)
    return artifact_id({name: identity[name] for name in identity if name not in kept})


def store_identity(
    corpus: Mapping[str, object],
    layers: Sequence[int],
    store: StoreConfig,
    seed: int,
    model: Mapping[str, str] | None,
) -> dict[str, object]:
    """Give the identity of a store that this code would write of these (see `_settings`)."""
    return coded(_settings(corpus, layers, store, seed, model), write_activations)
