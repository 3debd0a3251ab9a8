"""`estimate=true`: a little of every phase is measured, and a table says what the whole takes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ghosttrack.config import DetectProgram, ExtractProgram, TrainProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.checks import TITLE as CHECKS
from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.estimate.bank import BankProbes
from ghosttrack.pipelines.estimate.costs import TABLE_WIDTH, Cost, print_costs, total
from ghosttrack.pipelines.estimate.detection import Rehearsals
from ghosttrack.pipelines.estimate.text import Probes
from ghosttrack.pipelines.extract import store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.train import trained_stage
from ghosttrack.run import Run
from ghosttrack.sae.config import Source

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Say what `extract.py` takes."""
    setup = Setup(config, Run.start("extract"))
    with _probes(setup) as probes:
        needs_store = not _has_store(setup)
        _say(setup, _text_costs(probes, needs_text=needs_store, needs_store=needs_store))


def train(config: TrainProgram) -> None:
    """Say what `train.py` takes."""
    setup = Setup(config, Run.start("train"))
    with _probes(setup) as probes:
        _say(setup, _bank_costs(BankProbes(probes, setup), needs_text=False))


def detect(config: DetectProgram) -> None:
    """Say what `detect.py` takes."""
    setup = Setup(config, Run.start("detect"))
    with _probes(setup) as probes:
        missing, banks = _missing(setup), BankProbes(probes, setup)
        costs = _bank_costs(banks, needs_text=missing["track"])
        if any(missing.values()):
            rehearsals = Rehearsals(probes, config, banks.saved())
            stages = ("answer", "ask again", CHECKS, "track")
            makers: dict[str, Callable[[], Cost]] = {
                **{name: lambda name=name: rehearsals.stage(name) for name in stages},
                "evaluate, report": rehearsals.evaluate,
            }
            costs += [make() if missing[name] else _found(name) for name, make in makers.items()]
        else:
            costs += [_found(name) for name in missing]
        _say(setup, costs)


@contextmanager
def _probes(setup: Setup[ExtractProgram]) -> Iterator[Probes]:
    """Measure in the run's folder, quietly, and leave nothing there."""
    if setup.config.corpus.kind is CorpusKind.activations and not _has_store(setup):
        raise ConfigError(
            "estimate=true cannot tell of corpus=activations before extract.py has converted it;"
            " that reads every file once and checks the disk before it writes"
        )
    log.info("measuring a little of every phase")
    setup.run.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=setup.run.folder, prefix="probes-") as folder:
        logging.disable(logging.WARNING)
        try:
            yield Probes(setup, Path(folder))
        finally:
            logging.disable(logging.NOTSET)


def _has_store(setup: Setup[ExtractProgram]) -> bool:
    return store_stage(setup).exists


def _found(phase: str) -> Cost:
    return Cost(phase, "found")


def _text_costs(probes: Probes, *, needs_text: bool, needs_store: bool) -> list[Cost]:
    """Say what it takes until there are activations."""
    if not needs_text:
        return [Cost("tokenise", "not needed"), _found("extract")]
    costs = [probes.load(), probes.tokenise()]
    return [*costs, probes.extract() if needs_store else _found("extract")]


def _bank_costs(banks: BankProbes, *, needs_text: bool) -> list[Cost]:
    """Say what it takes until there is a bank."""
    probes, config, setup = banks.probes, banks.config, banks.setup
    is_stream = config.train.source is Source.stream
    if trained_stage(setup).exists:
        costs = _text_costs(probes, needs_text=needs_text, needs_store=False)
        return [*costs, _found("train"), _found("measure")]
    has_text = config.corpus.kind is not CorpusKind.activations
    needs_store = not is_stream and not _has_store(setup)
    costs = _text_costs(probes, needs_text=has_text, needs_store=needs_store)
    if is_stream:
        costs[-1] = Cost("extract", "beside training: no store")
    return [*costs, banks.train(), banks.measure()]


def _missing(setup: Setup[DetectProgram]) -> dict[str, bool]:
    """Tell which of the detector's phases there are no artefacts of."""
    stages = Detection(setup)
    wanted = {
        "answer": stages.answers,
        "ask again": stages.again,
        CHECKS: stages.checks,
        "track": stages.tracks,
        "evaluate, report": stages.evaluation,
    }
    return {phase: not stage.exists for phase, stage in wanted.items()}


def _say(setup: Setup[ExtractProgram], costs: list[Cost]) -> None:
    """Print the table, and leave its numbers in the run's `metrics.json`."""
    setup.run.metrics["estimate"] = [cost.to_json() for cost in (*costs, total(costs))]
    setup.run.finish()
    print_costs(costs, Path(setup.config.output_root), Console(width=TABLE_WIDTH))
