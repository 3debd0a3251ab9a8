"""`estimate=true`: a little of every phase is measured, and a table says what the whole takes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ghosttrack.artifacts import artifact_id, is_complete
from ghosttrack.config import DetectProgram, ExtractProgram, TrainProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.answers import again_identity, again_name, answers_identity
from ghosttrack.pipelines.checks import STAGE as CHECKS
from ghosttrack.pipelines.checks import checks_identity, checks_name
from ghosttrack.pipelines.detect import evaluation_identity, evaluation_name
from ghosttrack.pipelines.estimate.bank import BankProbes
from ghosttrack.pipelines.estimate.costs import TABLE_WIDTH, Cost, print_costs, total
from ghosttrack.pipelines.estimate.detection import Rehearsals
from ghosttrack.pipelines.estimate.text import Probes, store_key
from ghosttrack.pipelines.setup import Study
from ghosttrack.pipelines.tracks import tracks_identity
from ghosttrack.pipelines.train import bank_identity, bank_name
from ghosttrack.run import Run
from ghosttrack.sae.config import Source

log = logging.getLogger(__name__)


def extract(config: ExtractProgram) -> None:
    """Say what `extract.py` takes."""
    study = Study(config, Run.start("extract"))
    with _probes(study) as probes:
        needs_store = not _has_store(study)
        _say(study, _text_costs(probes, needs_text=needs_store, needs_store=needs_store))


def train(config: TrainProgram) -> None:
    """Say what `train.py` takes."""
    study = Study(config, Run.start("train"))
    with _probes(study) as probes:
        _say(study, _bank_costs(BankProbes(probes, config), needs_text=False))


def detect(config: DetectProgram) -> None:
    """Say what `detect.py` takes."""
    study = Study(config, Run.start("detect"))
    with _probes(study) as probes:
        missing, banks = _missing(study, config), BankProbes(probes, config)
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
        _say(study, costs)


@contextmanager
def _probes(study: Study) -> Iterator[Probes]:
    """Measure in the run's folder, quietly, and leave nothing there."""
    if study.config.corpus.kind is CorpusKind.activations and not _has_store(study):
        raise ConfigError(
            "estimate=true cannot tell of corpus=activations before extract.py has converted it;"
            " that reads every file once and checks the disk before it writes"
        )
    log.info("measuring a little of every phase")
    study.run.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=study.run.folder, prefix="probes-") as folder:
        logging.disable(logging.WARNING)
        try:
            yield Probes(study, Path(folder))
        finally:
            logging.disable(logging.NOTSET)


def _has_store(study: Study) -> bool:
    return is_complete(store_key(study).folder)


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
    probes, config, study = banks.probes, banks.config, banks.probes.study
    is_stream = config.train.source is Source.stream
    if study.has("saes", bank_name(config), bank_identity(study, config)):
        costs = _text_costs(probes, needs_text=needs_text, needs_store=False)
        return [*costs, _found("train"), _found("measure")]
    has_text = config.corpus.kind is not CorpusKind.activations
    needs_store = not is_stream and not _has_store(study)
    costs = _text_costs(probes, needs_text=has_text, needs_store=needs_store)
    if is_stream:
        costs[-1] = Cost("extract", "beside training: no store")
    return [*costs, banks.train(), banks.measure()]


def _missing(study: Study, config: DetectProgram) -> dict[str, bool]:
    """Tell which of the detector's phases there are no artefacts of."""
    questions = study.questions(config)
    answers, trained = answers_identity(study, questions), bank_identity(study, config)
    again = again_identity(config, artifact_id(answers))
    tracks = tracks_identity(config, artifact_id(trained), artifact_id(answers))
    checks = checks_identity(config, artifact_id(answers))
    ids = (artifact_id(one) for one in (answers, again, checks, tracks))
    wanted = {
        "answer": ("answers", questions.name, answers),
        "ask again": ("answers", again_name(questions), again),
        CHECKS: ("answers", checks_name(questions), checks),
        "track": ("tracks", config.detector.name, tracks),
        "evaluate, report": (
            *("evaluations", evaluation_name(config)),
            evaluation_identity(config, *ids),
        ),
    }
    return {phase: not study.has(*key) for phase, key in wanted.items()}


def _say(study: Study, costs: list[Cost]) -> None:
    """Print the table, and leave its numbers in the run's `metrics.json`."""
    study.run.metrics["estimate"] = [cost.to_json() for cost in (*costs, total(costs))]
    study.run.finish()
    print_costs(costs, Path(study.config.output_root), Console(width=TABLE_WIDTH))
