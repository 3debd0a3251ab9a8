"""A model reads a corpus, or ready-made activations are converted: a store comes out."""

import logging
from pathlib import Path

from ghosttrack.artifacts import Artifact, Key, is_complete
from ghosttrack.config import ExtractProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.data.convert import convert
from ghosttrack.data.store import ActivationStore
from ghosttrack.data.store_write import write_store
from ghosttrack.pipelines.run import Run
from ghosttrack.pipelines.study import Study
from ghosttrack.pipelines.together import together
from ghosttrack.processes import place

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Run the program."""
    study = Study(config, Run.start("extract"))
    artifact = activations(study)
    gigabytes = sum(file["bytes"] for file in artifact.manifest["files"].values()) / 1e9
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
        write_store(folder, study.extractor, study.corpus, config.store, place())

    key = Key(study.root, "activations", config.corpus.name, identity)
    is_text = config.corpus.kind is not CorpusKind.activations
    with study.run.stage("extract"):
        is_shared = is_text and config.extract.devices > place().world_size == 1
        if is_shared and not is_complete(key.folder):
            together(activations, study, config.extract.devices)
        return study.build(key.kind, key.name, identity, write, distributed=is_text)


def activations_identity(study: Study) -> dict[str, object]:
    """What determines the bytes of a store; of ready-made activations no model is part."""
    store = study.config.store
    identity = {
        "corpus": study.corpus_identity,
        "layers": study.layers,
        "dtype": store.dtype.name,
        "shard_tokens": store.shard_tokens,
        "seed": study.config.seed,
    }
    if study.config.corpus.kind is CorpusKind.activations:
        return identity
    return {**identity, "model": study.model_identity, "skip_first": store.skip_first}
