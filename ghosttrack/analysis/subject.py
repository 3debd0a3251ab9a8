"""The model, the SAE bank and the held-out text of one run, found again by what made them."""

from pathlib import Path
from typing import NamedTuple

from ghosttrack.analysis.runs import artifact_folder, find_runs, read_yaml
from ghosttrack.artifacts import Artifact, artifact_id, read
from ghosttrack.config import restore
from ghosttrack.data.config import StoreConfig
from ghosttrack.data.corpora import read_corpus
from ghosttrack.data.windows import StoredWindows
from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json
from ghosttrack.models.config import ModelConfig
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm, model_identity
from ghosttrack.pipelines.extract import store_identity
from ghosttrack.pipelines.worlds import embedded_folder
from ghosttrack.sae.formats.read import BANK
from ghosttrack.sae.hooks import layer_of


class Subject(NamedTuple):
    """What a bank was trained beside."""

    bank: Path
    model: ModelConfig
    embedded: Path
    """Where the model lies if its settings name neither folder nor hub."""
    heldout: StoredWindows

    def load_lm(self) -> LM:
        """Load the model."""
        return load_lm(self.model, self.embedded)


def find_subject(folder: Path) -> Subject:
    """Read a run's folder; of a folder of several, the newest run that has a bank.

    Raises:
        ConfigError: The model cannot be found.
        DataError: No run there made a bank, or it had no text; or what belongs to the bank is
            gone or has changed.
    """
    made = [run for run in find_runs(folder) if run.bank is not None]
    if not made:
        raise DataError(f"{folder}: no run there made an SAE bank; give one of train or detect.py")
    run = max(made, key=lambda one: (one.folder / "metrics.json").stat().st_mtime_ns)
    assert run.bank is not None
    bank = read(artifact_folder(run.folder, run.model, "saes", run.bank.name), "saes")
    config = read_yaml(run.folder / ".hydra" / "config.yaml")
    with whole(run.folder):
        if config["corpus"]["kind"] == "activations":
            raise DataError(f"{run.folder}: its bank is of ready activations, without a text")
        model = restore(ModelConfig, config["model"])
        store = restore(StoreConfig, config["store"])
    embedded = embedded_folder(model, bank.path.parents[1])
    corpus = _corpus(bank, store, model, model_identity(model, embedded))
    return Subject(bank.path, model, embedded, read_corpus(corpus.path).heldout)


def _corpus(
    bank: Artifact, store: StoreConfig, model: ModelConfig, identity: dict[str, str]
) -> Artifact:
    """Find the text from which this model makes the activations that a bank learned from."""
    corpora = bank.path.parents[1] / "corpora"
    wanted = bank.manifest["identity"].get("activations")
    layers = [layer_of(hook) for hook in read_json(bank.path / BANK)["hooks"]]
    tokens = {
        "tokenizer": identity["tokenizer"],
        "prepend_bos": model.prepend_bos,
        "skip_first": store.skip_first,
    }
    for manifest in sorted(corpora.glob("*/manifest.json")):
        corpus = read(manifest.parent, "corpora")
        with whole(corpus.path):
            about = corpus.manifest["identity"]
            made = store_identity(about["corpus"], layers, store, about["seed"], identity)
        if tokens.items() <= about.items() and artifact_id(made) == wanted:
            return corpus
    raise DataError(
        f"{corpora}: no text there gives, with this model as it is now, the activations {wanted} of"
        f" {bank.path.name}; run train.py again with the settings of the run"
    )
