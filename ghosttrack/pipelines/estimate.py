"""`estimate=true`: a small real run of a program's own stages tells what the whole of it takes."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from rich.console import Console

from ghosttrack.config import ExtractProgram, TrainProgram
from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.extract import store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.train import trained_stage
from ghosttrack.pipelines.trial import SmallRun, detection_phases
from ghosttrack.report.costs import TABLE_WIDTH, Cost, print_costs, total
from ghosttrack.run import Run

PROGRAMS = {"detect": DetectProgram, "train": TrainProgram, "extract": ExtractProgram}

log = logging.getLogger(__name__)


def estimate(config: ExtractProgram) -> None:
    """Say what each phase of a program takes, and build nothing.

    Raises:
        ConfigError: Ready-made activations have not been converted yet.
    """
    program = next(name for name, kind in PROGRAMS.items() if isinstance(config, kind))
    setup = Setup(config, Run.start(program))
    missing = _missing(setup)
    if not config.corpus.is_text and missing.get("extract"):
        raise ConfigError(
            "estimate=true cannot tell of corpus=activations before extract.py has converted it;"
            " that reads every file once and checks the disk before it writes"
        )
    phases = ("tokenise", *missing) if "extract" in missing else missing
    costs = [Cost(phase, "found") for phase in phases]
    if any(missing.values()):
        log.info("measuring a little of every phase")
        setup.run.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=setup.run.folder, prefix="small-") as folder:
            logging.disable(logging.WARNING)
            try:
                costs = SmallRun(setup, Path(folder), missing).costs()
            finally:
                logging.disable(logging.NOTSET)
    setup.run.metrics["estimate"] = [cost.to_json() for cost in (*costs, total(costs))]
    setup.run.finish()
    print_costs(costs, Path(config.output_root), Console(width=TABLE_WIDTH))


def _missing(setup: Setup[ExtractProgram]) -> dict[str, bool]:
    """Tell of each phase that leaves an artefact whether there is none yet."""
    has_bank = not isinstance(setup.config, DetectProgram) or setup.config.has_bank
    found = {"extract": store_stage(setup).exists} if has_bank else {}
    if isinstance(setup.config, TrainProgram) and has_bank:
        found["train"] = found["measure"] = trained_stage(cast("Setup[TrainProgram]", setup)).exists
        found["extract"] |= found["train"]
    if isinstance(setup.config, DetectProgram):
        stages = detection_phases(Detection(cast("Setup[DetectProgram]", setup)))
        found |= {phase: stage.exists for phase, stage in stages.items()}
    return {phase: not one for phase, one in found.items()}
