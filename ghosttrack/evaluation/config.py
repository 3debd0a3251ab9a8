"""Settings of how detectors are judged."""

from dataclasses import dataclass
from enum import Enum

from ghosttrack.errors import ConfigError, check_least, check_share


class HeldOut(Enum):
    """What the rows that a detector is judged on share with none that it learned from."""

    group = "group"
    """The question or entity alone."""
    wording = "wording"
    """The words of the question around its subject, too."""
    relation = "relation"
    """What is asked of the subject, too."""


class Singing(Enum):
    """What becomes of a run whose canaries sing."""

    fail = "fail"
    """It ends with exit status 1, after everything is written."""
    report = "report"
    """It says so, and no more."""


@dataclass
class EvaluationConfig:
    """Which detectors are judged, on what rows, and how surely."""

    compare: list[str] | None
    """Detectors that are judged, with those that they build on; `headline` stands for the default
    rows, null for all that can be fed."""
    held_out: HeldOut
    """What outer folds keep together, beside question or entity, and intervals draw."""
    n_folds: int
    """Outer folds."""
    n_bootstrap: int
    """Cluster bootstrap resamples behind every interval."""
    seed: int
    """Of folds, classifiers and resamples."""
    prevalence: float | None
    """Share of answers that are hallucinated where detectors will be used: risks of new answers are
    said for it, and how far they can be believed there; null: that of the answers."""
    canaries: Singing
    """What becomes of a run whose canaries find what they must not."""

    def __post_init__(self) -> None:
        if self.compare is not None and not self.compare:
            raise ConfigError("evaluation.compare must name a detector, or be null for all")
        if self.prevalence is not None:
            check_share("evaluation.prevalence", self.prevalence)
        check_least("evaluation", self, n_folds=2, n_bootstrap=1)
