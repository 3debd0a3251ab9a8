"""Answers that some model gave elsewhere in; an evaluation and its report out, no model needed."""

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import ConfigError
from ghosttrack.evaluation.roster import check_names
from ghosttrack.files import hash_path
from ghosttrack.pipelines.conclude import conclude, judged_stage
from ghosttrack.pipelines.fingerprint import hashed
from ghosttrack.pipelines.setup import check_logger
from ghosttrack.pipelines.stage import Deferred, Outputs, Stage
from ghosttrack.questions.config import QuestionKind, ReadyAnswers
from ghosttrack.run import Run

if TYPE_CHECKING:
    from ghosttrack.pipelines.ready_evaluation import GivenAnswers

READING = "ghosttrack.pipelines.ready_evaluation"
"""What reads and judges them, by a function of each kind's name; imported where it is missing."""

log = logging.getLogger(__name__)


class ReadyDetection:
    """The evaluation of ready answers, which are read where it is missing."""

    def __init__(self, run: Run, config: DetectProgram) -> None:
        self.run, self.config, self.chosen = run, config, _chosen(config)

    @cached_property
    def given(self) -> "GivenAnswers":
        """The answers, with enough that are right and wrong.

        Raises:
            DataError: A row is malformed, or there are not enough.
        """
        from ghosttrack.evaluation.subsets import check_answers
        from ghosttrack.pipelines.ready_evaluation import READERS

        with self.run.stage("read"):
            found = READERS[self.chosen.kind](self.chosen)
        check_answers(found.said, self.config.evaluation.n_folds)
        return found

    @cached_property
    def evaluation(self) -> Stage[dict[str, Any]]:
        """How well each detector tells wrong answers from right ones, with its report."""
        config, chosen = self.config, self.chosen
        settings = {
            "questions": {
                "kind": chosen.kind.name,
                "content": hash_path(Path(chosen.path)),
                "labels": chosen.labels.name,
            },
            "reading": hashed(READING, chosen.kind.name),
        }
        outputs = Outputs(Path(config.output_root) / config.model.name, self.run, config.verify)
        return judged_stage(outputs, config, settings, Deferred(READING, "write_evaluation", self))


def detect_ready(config: DetectProgram) -> None:
    """Run the program on answers that are there already."""
    check_logger(config)
    check_names(config.evaluation.compare)
    run = Run.start("detect")
    log.info("no model runs; whose answers these are says model.name=%s", config.model.name)
    stages = ReadyDetection(run, config)
    if not stages.evaluation.exists:
        _ = stages.given  # a fault of theirs is found before anything is built
    conclude(run, stages.evaluation.make(), config.evaluation.canaries)


def _chosen(config: DetectProgram) -> ReadyAnswers:
    assert isinstance(config.questions, ReadyAnswers), config.questions
    path = Path(config.questions.path)
    if config.questions.kind is QuestionKind.option_scores and not path.is_dir():
        raise ConfigError(
            f"questions.path={path} is not a folder; give that of LM-Pub-Quiz's files"
        )
    if config.questions.kind is QuestionKind.answered and not path.is_file():
        raise ConfigError(f"questions.path={path} is not a file; give a .jsonl file")
    return config.questions
