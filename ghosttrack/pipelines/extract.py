"""A model reads a corpus, or ready-made activations are converted: a store comes out."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ghosttrack.artifacts import Artifact, artifact_id
from ghosttrack.config import ExtractProgram
from ghosttrack.data.config import StoreConfig
from ghosttrack.pipelines.fingerprint import hashed
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Deferred, Stage
from ghosttrack.processes import place
from ghosttrack.run import Run

if TYPE_CHECKING:
    from ghosttrack.data.store import ActivationStore

SCHEMA = 1
"""Version of the files of a store."""
WRITER = "ghosttrack.pipelines.activations", "write_activations"
HELDOUT = "heldout"
"""Where a bank's metadata names the tokens that its metrics were measured on."""

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Run the program."""
    from ghosttrack.data.store import ActivationStore
    from ghosttrack.pipelines.workers import use_own_gpu

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
    is_text = config.corpus.is_text
    if is_text and config.extract.devices > place().world_size == 1 and not stage.exists:
        from ghosttrack.pipelines.workers import together

        with setup.run.stage(stage.title):
            together(activations, setup, config.extract.devices)
    return stage.make()


def store_stage(setup: Setup[ExtractProgram]) -> "Stage[ActivationStore]":
    """The activations of a corpus, on disk."""
    config = setup.config
    return Stage(
        setup.outputs,
        "activations",
        config.corpus.name,
        store_settings(setup),
        Deferred(*WRITER, setup),
        Deferred("ghosttrack.data.store", "ActivationStore"),
        title="extract",
        distributed=config.corpus.is_text,
    )


def store_settings(setup: Setup[ExtractProgram]) -> dict[str, object]:
    """What determines the bytes of a store; of ready-made activations no model is part."""
    config = setup.config
    model = setup.model_identity if config.corpus.is_text else None
    return store_identity(setup.corpus_identity, setup.layers, config.store, config.seed, model)


def store_identity(
    corpus: Mapping[str, object],
    layers: Sequence[int],
    store: StoreConfig,
    seed: int,
    model: Mapping[str, str] | None,
) -> dict[str, object]:
    """Give what determines the bytes of a store, and the code that writes it.

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
        "code": hashed(*WRITER),
    }
    if model is None:
        return identity
    read = {"skip_first": store.skip_first, "products": store.products.name}
    return {**identity, "model": model, **read}


def heldout_id(setup: Setup[ExtractProgram]) -> str:
    """Name the held-out tokens of a configuration, whichever layers and shards they are kept in."""
    kept = {"layers", "shard_tokens", "schema", "code"}
    identity = store_settings(setup)
    return artifact_id({name: identity[name] for name in identity if name not in kept})
