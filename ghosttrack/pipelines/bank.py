"""The bank that answers are looked at through: trained by these settings, or one that there is."""

import logging
from functools import partial
from pathlib import Path

from ghosttrack.config import DetectProgram
from ghosttrack.errors import ConfigError
from ghosttrack.files import hash_path
from ghosttrack.models.load import sizes
from ghosttrack.pipelines.check import chosen, measured
from ghosttrack.pipelines.extract import HELDOUT, heldout_id
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage
from ghosttrack.pipelines.train import SCHEMA, trained_stage, with_fidelity
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.bank_files import HookSAE
from ghosttrack.sae.formats import read_saes
from ghosttrack.sae.hooks import layer_of

log = logging.getLogger(__name__)


def bank_stage(setup: Setup[DetectProgram]) -> Stage[Bank]:
    """The bank of the settings, trained or taken over.

    Raises:
        ConfigError: `bank` names nothing, or not an SAE for each of `layers`.
        DataError: Its files cannot be read, or are of another model.
    """
    if setup.config.bank is None:
        return trained_stage(setup)
    path = Path(setup.config.bank)
    saes = _saes(setup, path)
    architecture, _, d_sae, k = saes[0].shape
    settings = {
        "taken_over": hash_path(path),
        "hooks": [sae.hook for sae in saes],
        HELDOUT: heldout_id(setup),
        "schema": SCHEMA,
    }
    return Stage(
        setup.outputs,
        "saes",
        f"{architecture}-{d_sae}-{k}",
        settings,
        partial(take_over, setup, path, saes),
        Bank.load,
        title="take over",
    )


def take_over(setup: Setup[DetectProgram], path: Path, saes: list[HookSAE], folder: Path) -> None:
    """Copy SAEs in our format, measured on held-out tokens as trained ones are."""
    log.info("measuring %s on held-out text; settings of sae and trainer do not count", path)
    adopted = Bank.of(saes)
    rows = with_fidelity(measured(adopted, setup, path), adopted, setup)
    facts = {"source": path.name, HELDOUT: heldout_id(setup)}
    adopted.save(folder, rows, {"model_name": setup.config.model.name, **facts})


def _saes(setup: Setup[DetectProgram], path: Path) -> list[HookSAE]:
    if not path.exists():
        raise ConfigError(f"bank={path}: no such file or folder")
    asked = None if setup.config.layers == "all" else setup.layers
    given = read_saes(path, asked)
    d_model, width = sizes(setup.config.model, setup.embedded).d_model, given[0].W_enc.shape[0]
    if width != d_model:
        raise ConfigError(
            f"bank={path} is of d_model {width}, {setup.config.model.name} of {d_model}"
        )
    saes = chosen(given, setup, path)
    if [sae.hook for sae in saes] != setup.hooks:
        layers = ",".join(str(layer_of(sae.hook)) for sae in saes)
        raise ConfigError(f"bank={path} has SAEs of some layers alone; set layers=[{layers}]")
    return saes
