"""A model reads a corpus, or ready-made activations are converted: a store comes out."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ghosttrack.artifacts import Artifact, Key, is_complete
from ghosttrack.config import ExtractProgram
from ghosttrack.data.config import CorpusKind, StoreConfig
from ghosttrack.data.convert import convert
from ghosttrack.data.store import ActivationStore, disk_bytes
from ghosttrack.data.store_write import write_store
from ghosttrack.data.tokens import TOKEN_BYTES
from ghosttrack.pipelines.setup import Study
from ghosttrack.pipelines.workers import together, use_own_gpu
from ghosttrack.processes import place
from ghosttrack.run import Run

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Run the program."""
    use_own_gpu()
    study = Study(config, Run.start("extract"))
    artifact = activations(study)
    gigabytes = artifact.n_bytes / 1e9
    log.info("%d layers, %.2f GB in %s", len(study.layers), gigabytes, artifact.path)
    lost = ActivationStore(artifact.path).fvu
    for hook, fvu in lost.items():
        log.info("%s: int8 loses %.2e of the variance", hook, fvu)
    found = {"gigabytes": gigabytes, "store": str(artifact.path), "int8_fvu": lost}
    study.run.metrics["extract"] = found
    study.run.finish()


def activations(study: Study) -> Artifact:
    """Return the store of this configuration, making it where it is missing."""
    config, identity = study.config, activations_identity(study)

    def write(folder: Path) -> None:
        if config.corpus.kind is CorpusKind.activations:
            convert(folder, study.corpus_path, study.layers, config.store, config.seed)
            return
        if place().rank == 0:
            _say_plan(study, folder)
        write_store(folder, study.extractor, study.corpus, config.store, place())

    key = Key(study.root, "activations", config.corpus.name, identity)
    is_text = config.corpus.kind is not CorpusKind.activations
    with study.run.stage("extract"):
        is_shared = is_text and config.extract.devices > place().world_size == 1
        if is_shared and not is_complete(key.folder):
            together(activations, study, config.extract.devices)
        return study.build(key.kind, key.name, identity, write, distributed=is_text)


def _say_plan(study: Study, folder: Path) -> None:
    """Say what extraction takes before the corpus is tokenised; its first second tells the time."""
    corpus, store, lm = study.config.corpus, study.config.store, study.lm
    assert corpus.num_tokens is not None
    assert corpus.heldout_tokens is not None
    n_tokens = corpus.num_tokens + corpus.heldout_tokens
    weights = sum(parameter.nbytes for parameter in lm.model.parameters())
    log.info(
        "extraction: up to %s tokens at %d layers: %.2f GB, and %.2f GB of token ids, of the"
        " %.1f GB free on the disk; the model takes %.2f GB of memory",
        *(f"{n_tokens:,}", len(study.layers)),
        disk_bytes(n_tokens, len(study.layers), lm.d_model, store.dtype) / 1e9,
        TOKEN_BYTES * n_tokens / 1e9,
        shutil.disk_usage(folder).free / 1e9,
        weights / 1e9,
    )


def activations_identity(study: Study) -> dict[str, object]:
    """What determines the bytes of a store; of ready-made activations no model is part."""
    config = study.config
    is_text = config.corpus.kind is not CorpusKind.activations
    model = study.model_identity if is_text else None
    return store_identity(study.corpus_identity, study.layers, config.store, config.seed, model)


def store_identity(
    corpus: Mapping[str, object],
    layers: Sequence[int],
    store: StoreConfig,
    seed: int,
    model: Mapping[str, str] | None,
) -> dict[str, object]:
    """Put together what determines the bytes of a store.

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
    }
    return (
        identity if model is None else {**identity, "model": model, "skip_first": store.skip_first}
    )
