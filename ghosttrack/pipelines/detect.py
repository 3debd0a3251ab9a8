"""Questions in; answers, tracks, an evaluation and its report out."""

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.asking import families
from ghosttrack.detector.asking.roster import RESCORED, ghost_counts, requested
from ghosttrack.detector.config import Association, Position, SubjectSource
from ghosttrack.evaluation.roster import KEPT, LIVE, check_names, needed, settled
from ghosttrack.evaluation.spec import ATTENTION_TABLES, LENS_TABLES, MASKED
from ghosttrack.files import hash_path
from ghosttrack.pipelines.conclude import conclude, judged_stage
from ghosttrack.pipelines.extract import HELDOUT, heldout_id
from ghosttrack.pipelines.fingerprint import fingerprint, hashed
from ghosttrack.pipelines.questions import asked_about, question_set
from ghosttrack.pipelines.setup import Setup, check_logger, existing
from ghosttrack.pipelines.stage import Deferred, Stage
from ghosttrack.pipelines.train import LOAD, SCHEMA, trained_stage
from ghosttrack.questions.asking import CONFIDENCE, P_TRUE
from ghosttrack.questions.config import QuestionKind
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.run import Run
from ghosttrack.tracking.observations import HYPOTHESES

if TYPE_CHECKING:
    from ghosttrack.detector.answers.answers import Answers
    from ghosttrack.detector.asking.interventions import Interventions
    from ghosttrack.detector.learners.fitted import FittedDetector
    from ghosttrack.pipelines.answers import SelfChecks
    from ghosttrack.pipelines.detectors import Facts
    from ghosttrack.pipelines.states import AnswerStates
    from ghosttrack.pipelines.track_files import AnswerTracks
    from ghosttrack.sae.bank import Bank

LONGEST_NAME = 40
"""Characters of a bank's folder that is taken over, in the name of its artefact."""
CHECKS, READ = "self-checks", "read answers"
FIT, TRY = "fit on text", "try links"
"""Stages, and parts of tracking that hang on no question, as times are written under."""
SCHEMAS = {"answers": 1, "again": 2, "checks": 1, "states": 1, "tracks": 2, "detectors": 2}
"""Versions of the files of the stages."""

log = logging.getLogger(__name__)


class Also(NamedTuple):
    """What one pass over the answers reads besides residual streams."""

    lens: bool
    attention: bool
    masked: bool
    """Residual streams once more, the answer masked."""


class Asked(NamedTuple):
    """What the model is asked about its answers."""

    p_true: str | None
    verbalised: str | None
    """Texts with `{question}` and `{answer}`; None: not asked."""
    eigenscore: bool
    """Its samples are read."""
    unasked: tuple[str, ...]
    """Tables that are made from the template alone."""


class Detection:
    """The stages of detection, each with those that it is made from.

    What writes and reads them is named, not imported: it is made, not found, that costs imports.
    """

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
    def bank(self) -> "Stage[Bank] | None":
        """Answers are read through it, trained or taken over; None where there is to be none.

        Raises:
            ConfigError: `bank` names nothing.
        """
        setup, named = self.setup, self.setup.config.bank
        if named is None:
            return trained_stage(setup)
        if not setup.config.has_bank:
            return None
        path = existing("bank", named)
        settings = {
            "taken_over": hash_path(path),
            "layers": setup.layers,
            HELDOUT: heldout_id(setup),
            "schema": SCHEMA,
        }
        write = Deferred("ghosttrack.pipelines.check", "take_over", setup, path)
        name = path.resolve().name.lstrip(".")[:LONGEST_NAME]
        return Stage(setup.outputs, "saes", name, settings, write, LOAD, title="take over")

    @cached_property
    def answers(self) -> "Stage[Answers]":
        """The model's greedy answers, judged; or what others wrote, read by the model."""
        setup, questions = self.setup, self.questions
        settings = {
            "model": setup.model_identity,
            "questions": dict(questions.identity),
            "reading": fingerprint(question_set),
            "stop": list(questions.stop),
            "max_new_tokens": questions.max_new_tokens,
            **({"seed": setup.config.seed} if questions.written else {}),
            "schema": SCHEMAS["answers"],
        }
        write = Deferred("ghosttrack.pipelines.answers", "write_answers", self)
        load = Deferred("ghosttrack.pipelines.answers", "read_answers")
        named = "answers", questions.name
        return Stage(setup.outputs, *named, settings, write, load, title="answer")

    @cached_property
    def again(self) -> "Stage[Interventions]":
        """The answers scored under every family of interventions but ghosts, the tracker's."""
        config, chosen = self.setup.config, self.setup.config.interventions
        copies = {
            one.name: [n, hashed(f"{families.__name__}.{one.name}", "FAMILY")]
            for one, n in requested(chosen.copies).items()
            if one.name in RESCORED
        }
        settings = {
            "answers": self.answers.id,
            "copies": copies,
            "siblings_again": chosen.siblings_again,
            "known_names": chosen.known_names,
            **({"subjects": "found"} if chosen.subjects is SubjectSource.found else {}),
            "seed": config.seed,
            "schema": SCHEMAS["again"],
        }
        write = Deferred("ghosttrack.pipelines.answers", "write_interventions", self)
        load = Deferred("ghosttrack.pipelines.answers", "read_interventions")
        named = "answers", f"{self.questions.name}-again"
        return Stage(self.setup.outputs, *named, settings, write, load, title="ask again")

    @cached_property
    def asked(self) -> Asked:
        """What the model is asked about its answers, where it can be and a detector reads it."""
        config, asking, questions = self.setup.config, self.setup.config.asking, self.questions
        knows_words = config.questions.kind is not QuestionKind.ghostworld
        read = self.read if knows_words else set[str]()
        p_true, confidence = (asking.p_true, P_TRUE), (asking.confidence, CONFIDENCE)
        return Asked(
            p_true=asked_about(questions, *p_true, is_read="p_true" in read),
            verbalised=asked_about(questions, *confidence, is_read="verbalised" in read),
            eigenscore=asking.samples > 1 and "eigenscore" in self.read,
            unasked=("prior", *({"reverse"} & self.read)),
        )

    @cached_property
    def checks(self) -> "Stage[SelfChecks]":
        """What it says of its answers."""
        config, asking = self.setup.config, self.setup.config.asking
        entailment = None
        if asking.entailment is not None:
            from ghosttrack.models.entailment import entailment_identity

            entailment = entailment_identity(asking.entailment)
        settings = {
            "answers": self.answers.id,
            "template": self.questions.template,
            **self.asked._asdict(),
            "samples": asking.samples,
            "seed": config.seed if asking.samples else None,
            "entailment": entailment,
            "schema": SCHEMAS["checks"],
        }
        write = Deferred("ghosttrack.pipelines.answers", "write_checks", self)
        load = Deferred("ghosttrack.pipelines.answers", "read_checks")
        named = "answers", f"{self.questions.name}-checks"
        return Stage(self.setup.outputs, *named, settings, write, load, title=CHECKS)

    @cached_property
    def also(self) -> Also:
        """What is read of the answers besides residual streams; the tracker leaves lenses too."""
        has_bank = self.setup.config.has_bank
        return Also(
            lens=not has_bank and not self.read.isdisjoint(LENS_TABLES),
            attention=not self.read.isdisjoint(ATTENTION_TABLES),
            masked=MASKED in self.read,
        )

    @cached_property
    def states(self) -> "Stage[AnswerStates] | None":
        """Residual streams at its answers; None where no detector that is judged reads them."""
        setup, also = self.setup, self.also
        wanted = {"states"} if setup.config.has_bank else {"states", "probes"}
        if not any(also) and self.read.isdisjoint(wanted):
            return None
        own = {"layers": setup.layers, **also._asdict(), "schema": SCHEMAS["states"]}
        settings = {"answers": self.answers.id, **own}
        write = Deferred("ghosttrack.pipelines.states", "write_states", self)
        load = Deferred("ghosttrack.pipelines.states", "read_kept")
        return Stage(setup.outputs, "states", "answers", settings, write, load, title=READ)

    @cached_property
    def tracks(self) -> "Stage[AnswerTracks] | None":
        """Latents that persist from layer to layer while it answers; None without a bank."""
        if self.bank is None:
            return None
        setup, detector = self.setup, self.setup.config.detector
        asked = setup.config.interventions
        is_murty = detector.association is Association.murty
        is_usual = detector.position is Position.prompt_last
        wordings, names = ghost_counts(asked.copies)
        ghosts = {"ghosts": [wordings, names], "known_names": asked.known_names}
        settings = {
            "bank": self.bank.id,
            "answers": self.answers.id,
            **({} if is_usual else {"position": detector.position.name}),
            "top_k": detector.top_k,
            "gate": detector.gate,
            "max_misses": detector.max_misses,
            "confirm_hits": detector.confirm_hits,
            "association": detector.association.name,
            **({"hypotheses": detector.hypotheses or HYPOTHESES} if is_murty else {}),
            "clues": sorted(clue.name for clue in detector.clues),
            "nulls": [null.name for null in detector.nulls],
            **(ghosts if names else {}),
            "seed": setup.config.seed,
            "schema": SCHEMAS["tracks"],
        }
        write = Deferred("ghosttrack.pipelines.tracks", "write_tracks", self)
        load = Deferred("ghosttrack.pipelines.track_files", "read_tracks", setup.layers)
        return Stage(setup.outputs, "tracks", detector.name, settings, write, load, title="track")

    @cached_property
    def evaluation(self) -> Stage[dict[str, Any]]:
        """How well each detector tells wrong answers from right ones, with its report."""
        reading = {"states": self.states, "tracks": self.tracks}
        settings = {
            "answers": self.answers.id,
            "interventions": self.again.id,
            "checks": self.checks.id,
            **{name: stage.id for name, stage in reading.items() if stage is not None},
        }
        write = Deferred("ghosttrack.pipelines.evaluation", "write_evaluation", self)
        return judged_stage(self.setup.outputs, self.setup.config, settings, write)

    @cached_property
    def detectors(self) -> "Stage[tuple[Facts, tuple[FittedDetector, ...]]]":
        """Those that are of use on new prompts, fitted on all answers."""
        evaluation, fitted = self.evaluation, [*KEPT, *LIVE]
        schema = {"schema": SCHEMAS["detectors"]}
        settings = {"evaluation": evaluation.id, "detectors": fitted, **schema}
        write = Deferred("ghosttrack.pipelines.detectors", "write_detectors", self)
        load = Deferred("ghosttrack.pipelines.detectors", "read_kept")
        return Stage(self.setup.outputs, "detectors", evaluation.name, settings, write, load)

    def make(self) -> None:
        """Make all that is missing, and conclude the run with the evaluation.

        Raises:
            ConfigError: A name or a folder of the settings is wrong, SAEs of some of `layers` are
                missing, or `auto` is off and the bank is.
            DataError: The questions are faulty, SAEs cannot be read or are of another model, or too
                few answers are right or wrong.
        """
        config, run = self.setup.config, self.setup.run
        check_logger(config)
        check_names(config.evaluation.compare)
        _ = self.questions  # a fault of theirs is found before anything is built
        trains = config.auto and config.bank is None
        if not trains:
            self._make_bank()
        if not self.evaluation.exists:
            self._check_answers()  # before what takes long
        if trains:
            self._make_bank()
        asked = self.answers, self.again, self.checks
        for stage in (*asked, self.states, self.tracks, self.detectors):
            if stage is not None:
                stage.make()
        conclude(run, self.evaluation.make(), config.evaluation.canaries)

    def _make_bank(self) -> None:
        """Train, or take over, what answers are looked at through."""
        if self.bank is not None:
            if self.setup.config.bank is None:
                self.bank.announce(auto=self.setup.config.auto)
            self.bank.make()

    def _check_answers(self) -> None:
        """Refuse answers that nothing can be judged on, and warn of few."""
        from ghosttrack.evaluation.subsets import check_answers
        from ghosttrack.pipelines.answers import read_all_answers
        from ghosttrack.report.first import thin

        said = read_all_answers(self.answers.make().path)
        check_answers(said, self.setup.config.evaluation.n_folds)
        for warning in thin(said.judged().labels):
            log.warning("%s", warning)


def detect(config: DetectProgram) -> None:
    """Run the program."""
    Detection(Setup(config, Run.start("detect"))).make()
