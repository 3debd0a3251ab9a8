"""A model reads a corpus, or ready-made activations are converted: a store comes out."""

import logging
import shutil
from pathlib import Path

from ghosttrack.artifacts import Artifact
from ghosttrack.config import ExtractProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.data.convert import convert
from ghosttrack.data.store import disk_bytes, write_store
from ghosttrack.pipelines.run import Run
from ghosttrack.pipelines.study import Study

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Run the program."""
    study = Study(config, Run.start("extract"))
    artifact = activations(study)
    gigabytes = artifact.n_bytes / 1e9
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
        _say_plan(study, folder)
        write_store(folder, study.lm, study.corpus, study.layers, config.store, config.extract)

    with study.run.stage("extract"):
        return study.build("activations", config.corpus.name, activations_identity(study), write)


def _say_plan(study: Study, folder: Path) -> None:
    """Say what extraction takes, but for the time, which its first batches tell."""
    config, lm = study.config, study.lm
    n_tokens = sum(int(part.kept(config.store.skip_first).sum()) for part in study.corpus)
    weights = sum(parameter.nbytes for parameter in lm.model.parameters())
    log.info(
        "extraction: %s tokens at %d layers: %.2f GB of the %.1f GB free on the disk; the model"
        " takes %.2f GB of memory",
        *(f"{n_tokens:,}", len(study.layers)),
        disk_bytes(n_tokens, len(study.layers), lm.d_model, config.store.dtype) / 1e9,
        shutil.disk_usage(folder).free / 1e9,
        weights / 1e9,
    )


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
