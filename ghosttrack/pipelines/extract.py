"""A model reads a corpus; an activation store comes out."""

import logging
from pathlib import Path

from ghosttrack.artifacts import Artifact
from ghosttrack.config import ExtractProgram
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
    """Return the store of this configuration, extracting it where it is missing."""
    config = study.config

    def write(folder: Path) -> None:
        write_store(folder, study.lm, study.corpus, study.layers, config.store, config.extract)

    with study.run.stage("extract"):
        return study.build("activations", config.corpus.name, activations_identity(study), write)


def activations_identity(study: Study) -> dict[str, object]:
    """What determines the bytes of a store."""
    store = study.config.store
    return {
        "model": study.model_identity,
        "corpus": study.corpus_identity,
        "layers": study.layers,
        "dtype": store.dtype.name,
        "skip_first": store.skip_first,
        "shard_tokens": store.shard_tokens,
        "seed": study.config.seed,
    }
