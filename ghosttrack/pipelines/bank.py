"""The bank that answers are looked at through: trained by these settings, or one that there is."""

import logging
from pathlib import Path

from ghosttrack.artifacts import Artifact, Key
from ghosttrack.config import DetectProgram
from ghosttrack.errors import ConfigError
from ghosttrack.files import hash_path
from ghosttrack.models.load import sizes
from ghosttrack.pipelines import train
from ghosttrack.pipelines.check import HELDOUT, chosen, heldout_id, measured
from ghosttrack.pipelines.setup import Study
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.formats.read import read_saes
from ghosttrack.sae.formats.weights import HookSAE
from ghosttrack.sae.hooks import layer_of

log = logging.getLogger(__name__)


def bank(study: Study, config: DetectProgram) -> Artifact:
    """Return the bank, training or taking it over where it is missing.

    Raises:
        ConfigError: `bank` names nothing, or not an SAE for each of `layers`.
        DataError: Its files cannot be read, or are of another model.
    """
    if config.bank is not None:
        return _taken_over(study, config, Path(config.bank))
    key = bank_key(study, config)
    study.upstream(key.kind, key.name, key.identity, "train")
    return train.bank(study, config)


def bank_key(study: Study, config: DetectProgram) -> Key:
    """Work out where the bank lies among the model's artefacts."""
    if config.bank is None:
        return Key(study.root, "saes", train.bank_name(config), train.bank_identity(study, config))
    return _key(study, Path(config.bank), _saes(study, Path(config.bank)))


def _taken_over(study: Study, config: DetectProgram, path: Path) -> Artifact:
    """Copy SAEs in our format, measured on held-out tokens as trained ones are."""
    saes = _saes(study, path)
    key = _key(study, path, saes)

    def write(folder: Path) -> None:
        log.info("measuring %s on held-out text; settings of sae and trainer do not count", path)
        adopted = Bank.of(saes)
        rows = measured(adopted, study, config, path)
        rows = train.with_fidelity(rows, adopted, study)
        facts = {"source": path.name, HELDOUT: heldout_id(study)}
        adopted.save(folder, rows, {"model_name": config.model.name, **facts})

    with study.run.stage("take over"):
        return study.build(key.kind, key.name, key.identity, write)


def _saes(study: Study, path: Path) -> list[HookSAE]:
    if not path.exists():
        raise ConfigError(f"bank={path}: no such file or folder")
    given = read_saes(path)
    d_model, width = sizes(study.config.model, study.embedded).d_model, given[0].W_enc.shape[0]
    if width != d_model:
        raise ConfigError(
            f"bank={path} is of d_model {width}, {study.config.model.name} of {d_model}"
        )
    saes = chosen(given, study, path)
    if [sae.hook for sae in saes] != study.hooks:
        layers = ",".join(str(layer_of(sae.hook)) for sae in saes)
        raise ConfigError(f"bank={path} has SAEs of some layers alone; set layers=[{layers}]")
    return saes


def _key(study: Study, path: Path, saes: list[HookSAE]) -> Key:
    architecture, _, d_sae, k = saes[0].shape
    identity = {
        "taken_over": hash_path(path),
        "hooks": [sae.hook for sae in saes],
        HELDOUT: heldout_id(study),
    }
    return Key(study.root, "saes", f"{architecture}-{d_sae}-{k}", identity)
