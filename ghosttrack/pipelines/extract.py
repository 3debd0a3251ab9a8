"""A model reads a corpus, or ready-made activations are converted: a store comes out."""

import logging
from pathlib import Path

from ghosttrack.artifacts import Artifact
from ghosttrack.config import ExtractProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.data.convert import convert
from ghosttrack.data.store import write_store
from ghosttrack.pipelines.run import Run
from ghosttrack.pipelines.study import Study

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Run the program."""
    study = Study(config, Run.start("extract"))
    artifact = activations(study)
    gigabytes = sum(file["bytes"] for file in artifact.manifest["files"].values()) / 1e9
    log.info("%d layers, %.2f GB in %s", len(study.layers), gigabytes, artifact.path)
    study.run.metrics["extract"] = {"gigabytes": gigabytes, "store": str(artifact.path)}
    study.run.finish()


def activations(study: Study) -> Artifact:
    """Return the store of this configuration, making it where it is missing."""
    config = study.config

    def write(folder: Path) -> None:
        if config.corpus.kind is CorpusKind.activations:
            convert(folder, study.corpus_path, study.layers, config.store, config.seed)
            return
        write_store(folder, study.lm, study.corpus, study.layers, config.store, config.extract)

    with study.run.stage("extract"):
        return study.build("activations", config.corpus.name, activations_identity(study), write)


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
