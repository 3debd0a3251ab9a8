"""Questions in; answers, tracks, an evaluation and its report out."""

from functools import cached_property
from typing import Any

from ghosttrack.config import DetectProgram
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.interventions import Interventions
from ghosttrack.evaluation.roster import check_names, needed, settled
from ghosttrack.evaluation.subsets import check_answers
from ghosttrack.pipelines.answers import (
    SelfChecks,
    answers_stage,
    checks_stage,
    interventions_stage,
    question_set,
    read_all_answers,
)
from ghosttrack.pipelines.bank import bank_stage
from ghosttrack.pipelines.conclude import conclude
from ghosttrack.pipelines.detectors import detectors_stage
from ghosttrack.pipelines.evaluation import Sources, evaluation_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage
from ghosttrack.pipelines.states import (
    ATTENTION_TABLES,
    LENS_TABLES,
    MASKED,
    Also,
    AnswerStates,
    states_stage,
)
from ghosttrack.pipelines.track_files import AnswerTracks
from ghosttrack.pipelines.tracks import tracks_stage
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.run import Run
from ghosttrack.sae.bank import Bank
from ghosttrack.training.loggers import check_logger


class Detection:
    """The stages of detection, each with those that it is made from."""

    def __init__(self, setup: Setup[DetectProgram]) -> None:
        self.setup = setup

    @cached_property
    def questions(self) -> QuestionSet:
        """What the model is asked; no artefact."""
        return question_set(self.setup)

    @cached_property
    def read(self) -> set[str]:
        """Tables and other things that the detectors which are judged read."""
        config = self.setup.config
        usual = config.has_bank and not self.questions.written
        return needed(settled(config.evaluation.compare, usual=usual))

    @cached_property
    def bank(self) -> Stage[Bank] | None:
        """Answers are read through it; None where there is to be none."""
        return bank_stage(self.setup) if self.setup.config.has_bank else None

    @cached_property
    def answers(self) -> Stage[Answers]:
        """What the model says, and whether it is right."""
        return answers_stage(self.setup, self.questions)

    @cached_property
    def again(self) -> Stage[Interventions]:
        """What it says with one thing changed."""
        return interventions_stage(self.setup, self.questions, self.answers)

    @cached_property
    def checks(self) -> Stage[SelfChecks]:
        """What it says of its answers."""
        return checks_stage(self.setup, self.questions, self.answers, self.read)

    @cached_property
    def states(self) -> Stage[AnswerStates] | None:
        """Residual streams at its answers; None where no detector that is judged reads them."""
        has_bank = self.setup.config.has_bank
        also = Also(
            lens=not has_bank and not self.read.isdisjoint(LENS_TABLES),
            attention=not self.read.isdisjoint(ATTENTION_TABLES),
            masked=MASKED in self.read,
        )
        wanted = {"states"} if has_bank else {"states", "probes"}
        is_read = any(also) or not self.read.isdisjoint(wanted)
        return states_stage(self.setup, self.answers, also) if is_read else None

    @cached_property
    def tracks(self) -> Stage[AnswerTracks] | None:
        """Latents that persist from layer to layer while it answers; None without a bank."""
        if self.bank is None:
            return None
        return tracks_stage(self.setup, self.questions, self.bank, self.answers)

    @cached_property
    def sources(self) -> Sources:
        """All that detectors are judged and fitted on."""
        of_bank, of_answers = (self.bank, self.tracks), (self.answers, self.again, self.checks)
        return Sources(self.setup, self.questions, *of_answers, self.states, *of_bank, self.read)

    @cached_property
    def evaluation(self) -> Stage[dict[str, Any]]:
        """How well each detector tells wrong answers from right ones."""
        return evaluation_stage(self.sources, lambda: self.detectors)

    @cached_property
    def detectors(self) -> Stage[Any]:
        """Those that new prompts are judged by."""
        return detectors_stage(self.sources, self.evaluation)

    def make(self) -> None:
        """Make all that is missing, and conclude the run with the evaluation.

        Raises:
            ConfigError: A name or a folder of the settings is wrong, or `auto` is off and the bank
                is missing.
            DataError: The questions are faulty, or too few answers are right or wrong.
        """
        config, run = self.setup.config, self.setup.run
        check_logger(config)
        check_names(config.evaluation.compare)
        _ = self.questions  # a fault of theirs is found before anything is built
        if self.bank is not None:
            if config.bank is None:
                self.bank.announce(auto=config.auto)
            self.bank.make()  # first, as training takes longest
        if not self.evaluation.exists:
            check_answers(read_all_answers(self.answers.make().path), config.evaluation.n_folds)
        asked = self.answers, self.again, self.checks
        for stage in (*asked, self.states, self.tracks, self.detectors):
            if stage is not None:
                stage.make()
        conclude(run, self.evaluation.make(), config.evaluation.canaries)


def detect(config: DetectProgram) -> None:
    """Run the program."""
    Detection(Setup(config, Run.start("detect"))).make()
