"""The schema of `detect.py`: that of training, and what is asked, followed and judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore

from ghosttrack.config import TrainProgram
from ghosttrack.detector.config import DetectorConfig, InterventionsConfig
from ghosttrack.errors import ConfigError
from ghosttrack.evaluation.config import EvaluationConfig
from ghosttrack.questions.config import (
    AskingConfig,
    FileQuestions,
    PublishedQuestions,
    QuestionsConfig,
    ReadyAnswers,
    WorldQuestions,
)

QUESTIONS: Mapping[str, type[QuestionsConfig]] = {
    "ghostworld": WorldQuestions,
    "file": FileQuestions,
    "published": PublishedQuestions,
    "ready": ReadyAnswers,
}
"""Schemas that an option of `questions` names in its defaults list."""
NO_BANK = "none"
"""`bank` of a detection that looks through none and follows no tracks."""


@dataclass
class DetectProgram(TrainProgram):
    """Settings of `detect.py`: questions in, answers, tracks and an evaluation out."""

    questions: QuestionsConfig
    asking: AskingConfig
    detector: DetectorConfig
    interventions: InterventionsConfig
    evaluation: EvaluationConfig
    bank: str | None
    """A folder or file of SAEs, ours or another library's, to look through; null trains a bank,
    `none` does without one, and so without tracks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bank()
        if self.estimate and self.questions.kind.is_ready:
            raise ConfigError(
                f"estimate=true says nothing of questions={self.questions.kind.name}: no model"
                " runs; just start it"
            )

    @property
    def has_bank(self) -> bool:
        """Tell whether answers are looked at through a bank, which tracks need."""
        return self.bank != NO_BANK

    @property
    def examined(self) -> list[str]:
        """Name what a run is about, for its tags."""
        bank = super().examined
        if self.questions.kind.is_ready:
            bank = [self.questions.name]
        elif self.bank is not None:
            bank = [Path(self.bank).name if self.has_bank else "no bank"]
        return [*bank, self.detector.name]

    @property
    def runs_model(self) -> bool:
        """Tell whether a language model reads anything."""
        return super().runs_model and not self.questions.kind.is_ready

    def _check_bank(self) -> None:
        if self.bank is None:
            return
        if self.estimate and self.has_bank:
            raise ConfigError(f"estimate=true has nothing to say of bank={self.bank}; drop one")
        if self.questions.kind.is_ready:
            raise ConfigError(
                f"questions={self.questions.kind.name} looks through no bank; drop bank="
            )


def register() -> None:
    """Make the schemas known to Hydra under the names that the primary config uses."""
    store = ConfigStore.instance()
    store.store(name="detect_schema", node=DetectProgram)
    for name, schema in QUESTIONS.items():
        store.store(group="schema/questions", name=name, node=schema)


register()
