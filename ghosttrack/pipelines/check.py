"""Folders of SAEs in, out comes whether they are as good as they say."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ghosttrack.config import TrainProgram
from ghosttrack.data.source import ActivationSource
from ghosttrack.data.store import ActivationStore, StoreSource
from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import ConfigError, DataError, whole
from ghosttrack.files import read_json
from ghosttrack.models.hub import sizes
from ghosttrack.models.load import resolve_device
from ghosttrack.pipelines.activations import stream_source
from ghosttrack.pipelines.extract import HELDOUT, activations, heldout_id, store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.train_bank import with_fidelity
from ghosttrack.run import Run
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.bank_files import HookSAE
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.formats import read_saes
from ghosttrack.sae.hooks import layer_of
from ghosttrack.sae.metrics import METRICS, HookMetrics

CLAIMS = ("fvu", "l0")
AGREEMENT = 1e-3
"""Relative difference up to which a claim is met: activations may come in other batches."""

log = logging.getLogger(__name__)


class ClaimVerdict(NamedTuple):
    """A hook point's numbers beside what files say of them."""

    hook: str
    measured: dict[str, float]
    claims: list[dict[str, float]]
    """What each file says that says anything."""
    same_data: bool
    """The claims are about the tokens that were measured."""

    @property
    def broken(self) -> dict[str, float]:
        """A claim that is not met, or nothing; one about other tokens cannot be told to fail."""
        claims = self.claims if self.same_data else []
        return next((claim for claim in claims if not self._meets(claim)), {})

    def line(self) -> str:
        """Say it in a row of the table."""
        claimed = self.broken or (self.claims[0] if self.claims else {})
        cells = [
            f"{numbers[name]:10.4f}" if name in numbers else f"{'-':>10}"
            for name in CLAIMS
            for numbers in (self.measured, claimed)
        ]
        said = "DIFFERS" if self.broken else "agrees"
        if not self.same_data:
            said = "claimed on other data" if self.claims else "nothing claimed"
        return f"{self.hook:16}{''.join(cells)}  {said}"

    def _meets(self, claim: Mapping[str, float]) -> bool:
        return all(
            math.isclose(value, self.measured[name], rel_tol=AGREEMENT)
            for name, value in claim.items()
        )


def check(config: TrainProgram, path: Path) -> None:
    """Measure SAEs on held-out tokens, and train nothing.

    Raises:
        ConfigError: `layers` asks for what the files do not hold.
        DataError: The files cannot be read, are of another model, or a claim is not met.
    """
    setup = Setup(config, Run.start("check"))
    if not path.exists():
        raise ConfigError(f"check {path}: no such file or folder")
    asked = None if config.layers == "all" else setup.layers
    saes = chosen(read_saes(path, asked), setup, path)
    with setup.run.stage("check"):
        rows = measured(Bank.of(saes), setup, path)
    heldout = heldout_id(setup)
    verdicts = [
        ClaimVerdict(
            sae.hook,
            _numbers(row._asdict()),
            _claims(sae, path),
            same_data=sae.metadata.get(HELDOUT) == heldout,
        )
        for row, sae in zip(rows, saes, strict=True)
    ]
    log.info("%-16s%10s%10s%10s%10s", "", "FVU", "claimed", "L0", "claimed")
    for verdict in verdicts:
        log.info(verdict.line())
    setup.run.metrics["check"] = {"path": str(path), "hooks": [v._asdict() for v in verdicts]}
    setup.run.finish()
    if failed := [verdict.hook for verdict in verdicts if verdict.broken]:
        raise DataError(f"{path}: FVU or L0 is not as claimed at {', '.join(failed)}")


def chosen(saes: Sequence[HookSAE], setup: Setup[TrainProgram], path: Path) -> list[HookSAE]:
    """Take the SAEs of the layers that are asked for.

    Raises:
        ConfigError: `layers` asks for one that is not there.
        DataError: One is of a hook point that the model does not have.
    """
    by_hook = {sae.hook: sae for sae in saes}
    if setup.config.layers == "all":
        if outside := sorted(by_hook.keys() - set(setup.hooks)):
            raise DataError(
                f"{path}: has SAEs of {', '.join(outside)}; there are activations of"
                f" {setup.hooks[0]} to {setup.hooks[-1]}"
            )
    elif missing := sorted(set(setup.layers) - {layer_of(hook) for hook in by_hook}):
        raise ConfigError(f"layers: {path} has no SAE of {missing}, only of {', '.join(by_hook)}")
    return [by_hook[hook] for hook in setup.hooks if hook in by_hook]


def _claims(sae: HookSAE, path: Path) -> list[dict[str, float]]:
    """Read what the files say of an SAE: `metrics.json` of a bank, and `cfg.json`."""
    with whole(path):
        rows = read_json(path / METRICS)["hooks"] if (path / METRICS).is_file() else []
        said = [row for row in rows if row["hook"] == sae.hook]
        return [claim for one in (*said, sae.metadata) if (claim := _numbers(one))]


def _numbers(said: Mapping[str, object]) -> dict[str, float]:
    """Take the claims out of what a file says.

    >>> _numbers({"hook": "layer_0", "fvu": 0, "l0": 15.5})
    {'fvu': 0.0, 'l0': 15.5}
    """
    return {
        name: float(value)
        for name in CLAIMS
        if isinstance(value := said.get(name), int | float) and not isinstance(value, bool)
    }


def measured(bank: Bank, setup: Setup[TrainProgram], path: Path) -> list[HookMetrics]:
    """Measure a bank on held-out tokens.

    Raises:
        DataError: It is of another width than the activations.
    """
    source = _source(setup, bank.hooks)
    if source.d_model != bank.d_model:
        raise DataError(f"{path}: d_model is {bank.d_model}, activations have {source.d_model}")
    batches = source.heldout_batches(setup.config.sae.batch_size)
    return evaluate(bank, batches, resolve_device(setup.config.model.device))


def _source(setup: Setup[TrainProgram], hooks: list[str]) -> ActivationSource:
    """Open a store where it is made or can be made without a model; else let the model run."""
    config = setup.config
    if store_stage(setup).exists or not config.corpus.is_text:
        return StoreSource(ActivationStore(activations(setup).path), hooks)
    return stream_source(setup, config.train.buffer_tokens, hooks)


def take_over(setup: Setup[DetectProgram], path: Path, folder: Path) -> None:
    """Copy SAEs in our format, measured on held-out tokens as trained ones are."""
    adopted = Bank.of(saes_of(setup, path))
    log.info("measuring %s on held-out text; settings of sae and trainer do not count", path)
    rows = with_fidelity(measured(adopted, setup, path), adopted, setup)
    facts = {"source": path.name, HELDOUT: heldout_id(setup)}
    adopted.save(folder, rows, {"model_name": setup.config.model.name, **facts})


def saes_of(setup: Setup[DetectProgram], path: Path) -> list[HookSAE]:
    """Read the SAEs through which answers are to be looked at.

    Raises:
        ConfigError: There is not an SAE for each of `layers`, or they are of another width.
        DataError: The files cannot be read, or are of another model.
    """
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
