"""Judge new prompts with the detectors that a run has fitted.

In Python:

    from ghosttrack.scoring.detector import Detector

    detector = Detector.load("outputs/ghostworld/detectors/<folder>")
    judgement = detector.score("Where was Divo Nainov born?")
    print(judgement.answer, judgement.probability, judgement.verdict)
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

from ghosttrack.artifacts import Artifact, read
from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.answers.answers import answer
from ghosttrack.detector.asking.interventions import intervene
from ghosttrack.detector.asking.roster import requested
from ghosttrack.detector.asking.subjects import find_subjects
from ghosttrack.detector.catalogue import SPECS
from ghosttrack.detector.config import SubjectSource
from ghosttrack.detector.judgement import Judgement
from ghosttrack.detector.table import StatisticSpec
from ghosttrack.detector.tracks.streaming import Instruments, Spoken, output_so_far, stream
from ghosttrack.errors import ConfigError, DataError, GhostTrackError
from ghosttrack.evaluation.roster import DETECTORS
from ghosttrack.models.hub import model_identity
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.detectors import Facts, read_kept
from ghosttrack.pipelines.instruments import read_instruments
from ghosttrack.pipelines.kept import fitted_for, other_settings
from ghosttrack.pipelines.model_folders import embedded_folder, world_folder
from ghosttrack.pipelines.setup import Setup
from ghosttrack.questions.asking import templated
from ghosttrack.questions.config import QuestionKind
from ghosttrack.questions.prompts import bare_prompt
from ghosttrack.questions.sets import Question, QuestionSet
from ghosttrack.report.live import Shown
from ghosttrack.run import Run
from ghosttrack.sae.bank import Bank
from ghosttrack.scoring.features import AnswerFeatures, further_tables
from ghosttrack.scoring.predict import RankedDetectors, read_words, track_view
from ghosttrack.world.facts import WorldSpec, load_spec
from ghosttrack.world.questions import recognise

SCORED = tuple(
    StatisticSpec(one.name, one.name, f"{one.title}, in log-odds", -inf, inf, 1)
    for one in DETECTORS
)
"""What a score means that another detector fuses."""

Tell = Callable[[Sequence[Judgement]], object]

log = logging.getLogger(__name__)


class Detector:
    """Fitted detectors with the model that they judge; nothing here is fitted.

    Use `Detector.load`.
    """

    def __init__(
        self,
        facts: Facts,
        lm: LM,
        instruments: Instruments | None,
        detectors: RankedDetectors,
        world: WorldSpec | None,
    ) -> None:
        self.facts, self.lm, self.instruments, self.detectors = facts, lm, instruments, detectors
        self.world = world

    @classmethod
    def load(
        cls, folder: Path | str, device: str = "auto", prevalence: float | None = None
    ) -> "Detector":
        """Read the detectors of an artefact, its bank and its model.

        Args:
            folder: `outputs/<model>/detectors/<name>-<id>`; bank and evaluation lie beside it.
            device: `cpu`, `cuda`, `cuda:<n>`, or `auto`: a GPU where there is one.
            prevalence: Share of hallucinated answers that risks are said for; None: as it learned.

        Raises:
            DataError: A part is gone, broken, or of another model.
            ConfigError: The model cannot be found.
        """
        folder = Path(folder)
        read(folder, "detectors")
        facts, fitted = read_kept(folder)
        root = folder.resolve().parents[1]
        bank = read(root / "saes" / facts.bank, "saes") if facts.bank else None
        embedded = embedded_folder(facts.model, root)
        if model_identity(facts.model, embedded) != facts.model_identity:
            raise DataError(
                f"{folder}: fitted on another model than lies in {facts.model.path or embedded};"
                " fit it again by detect.py"
            )
        lm = load_lm(facts.model, embedded, device)
        instruments = None
        if bank is not None:
            weights = Bank.load(bank.path).to(lm.device)
            instruments = read_instruments(folder, weights, facts.layers, facts.detector)
        if prevalence is not None:
            fitted = tuple(one.at(prevalence) for one in fitted)
        detectors = RankedDetectors.of(
            fitted, (*SPECS, *SCORED), root / "evaluations" / facts.evaluation
        )
        is_world = facts.questions.kind is QuestionKind.ghostworld
        world = load_spec(world_folder(facts.model, embedded)) if is_world else None
        return cls(facts, lm, instruments, detectors, world)

    def score(self, prompt: str) -> Judgement:
        """Let the model answer one prompt, and judge the answer.

        Raises:
            DataError: The prompt is too long, or the model knows no word of it.
        """
        return self.judge([bare_prompt(prompt)]).judgements[0]

    def judge(self, questions: Sequence[Question], tell: Tell = lambda _: None) -> Shown:
        """Judge many prompts as one batch.

        Args:
            questions: Bare, without the template that the model is asked by. In the generated world
                subject and wordings are found out where the question does not bring them.
            tell: Told the verdicts before what else there is to say of them is worked out.

        Raises:
            DataError: As in `score`.
        """
        started = time.perf_counter()
        understood = [self._read(question) for question in questions]
        notes = [said for _, said in understood]
        features = self._features(self._templated([question for question, _ in understood]))
        judged = self.detectors.verdicts(features, notes)
        if judged is None:
            features = self._followed(features)
            judged = self.detectors.verdicts(features, notes)
        assert judged is not None, "nothing is left to look at"
        share = (time.perf_counter() - started) / len(judged)
        judged = tuple(replace(one, seconds=share) for one in judged)
        tell(judged)
        features = self._followed(features)
        judged = self.detectors.complete(self.lm, features, judged)
        streamed = features.stream
        assert streamed is not None, "just looked at"
        return Shown(judged, track_view(self.lm, streamed), streamed.first)

    def _features(self, asked: QuestionSet) -> AnswerFeatures:
        """Let the model answer, and measure what the detectors read that may have to speak."""
        answers = answer(self.lm, asked)
        settings, reads = self.facts.interventions, self.detectors.reads
        families = {one: n for one, n in requested(settings.copies).items() if one.name in reads}
        known = asked
        if settings.subjects is SubjectSource.found and families:
            known = find_subjects(self.lm, asked, answers).questions
        found = intervene(
            *(self.lm, known, answers, families, self.facts.seed),
            siblings_again=settings.siblings_again,
        )
        template = self.facts.asking.template
        bank = self.instruments.bank if self.instruments else None
        read = self.detectors.asked, answers, template, self.facts.layers, bank
        return AnswerFeatures(asked, answers, found, template, further_tables(self.lm, *read))

    def _followed(self, features: AnswerFeatures) -> AnswerFeatures:
        """Look at every token of the answers, unless that is done."""
        if features.stream is not None:
            return features
        answers = features.answers
        spoken = [
            Spoken(self.lm.encode(one.prompt), ids, one.subject)
            for one, ids in zip(features.questions.questions, answers.token_ids, strict=True)
        ]
        output = output_so_far(answers, max(map(len, answers.token_ids)))
        return features._replace(stream=stream(self.lm, self.instruments, spoken, output))

    def _read(self, question: Question) -> tuple[Question, tuple[str, ...]]:
        """Find out what a bare prompt asks, as far as that can be told, and say what cannot.

        Its content becomes its id: the names that the owner test draws do not hang on what else is
        asked. A name that the model cannot read is as good as none: to it all such are the same.
        """
        known, unknown = read_words(self.lm, question.prompt)
        if not known and (unknown or not question.prompt.strip()):
            raise DataError(f"prompt: the model knows no word of it: {question.prompt.strip()!r}")
        notes = []
        if unknown:
            unk = self.lm.tokenizer.unk_token
            notes.append(f"not in the model's vocabulary, read as {unk}: {', '.join(unknown)}")
        if self.world and not question.subject:
            found = recognise(question.prompt, self.world)
            if found is None:
                notes.append(
                    "none of the world's wordings: whom the prompt asks about is not known"
                )
            elif not found.answers:
                notes.append(f"the world has no {found.kind} of the name {found.subject}")
            question = found or question
        if read_words(self.lm, question.subject)[1]:
            question = replace(question, subject="", wordings=(), short="")
        content = (question.prompt, question.subject, question.wordings, question.short)
        return replace(question, id=repr(content)), tuple(notes)

    def _templated(self, questions: Sequence[Question]) -> QuestionSet:
        names, templates = self.facts.names, self.facts.templates
        bare = QuestionSet("live", tuple(questions), names, (), 1, {}, templates=templates)
        return templated(bare, self.facts.asking)


def find_detector(config: DetectProgram, kept: Path | None = None) -> tuple[Run, Artifact]:
    """Return the fitted detectors of this configuration, building all that is missing.

    Those of the folder `kept` instead, where one is given.

    Raises:
        ConfigError: They are missing and `auto` is off, or others are there of the same real model.
    """
    run = Run.start("detect")
    if kept is not None:
        artifact = read(kept, "detectors")
        run.keep(artifact)
        return run, artifact
    stages = Detection(Setup(config, run))
    try:
        is_there = stages.detectors.exists
    except GhostTrackError as error:
        if not (found := fitted_for(config)):
            raise
        raise ConfigError(f"{error}; {other_settings(found)}") from error
    if not is_there:
        if not config.auto:
            raise ConfigError(
                "auto=false and there is no detector for this configuration; run"
                " `python detect.py` with the same settings, or set auto=true"
            )
        if found := fitted_for(config):
            raise ConfigError(other_settings(found))
        needed = stages.bank, stages.answers, stages.again, stages.checks, stages.states
        missing = [one.title or "train" for one in needed if one is not None and not one.exists]
        log.info(
            "no detector for this configuration yet: fitting it; still missing: %s",
            ", ".join([*missing, "fit", "evaluate"]),
        )
        stages.make()
    return run, stages.detectors.make()
