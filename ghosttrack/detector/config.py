"""Settings of tracking, statistics and classifiers."""

from dataclasses import dataclass
from enum import Enum

from ghosttrack.errors import ConfigError, check_folder_name


class Association(Enum):
    """How observations of one layer are linked to the tracks of the layers above."""

    hungarian = "hungarian"
    greedy = "greedy"
    identity = "identity"
    murty = "murty"


class Position(Enum):
    """Where the statistics of tracks are taken (`detector/tracks/positions.py`)."""

    prompt_last = "prompt_last"
    subject_last = "subject_last"
    answer_first = "answer_first"
    answer_each = "answer_each"
    answer_span = "answer_span"
    max_pool = "max_pool"


class Clue(Enum):
    """What may count for a link besides the direction that it keeps."""

    coactivation = "coactivation"
    magnitude = "magnitude"


class Null(Enum):
    """Association that must find nothing: the same tracker on links that mean nothing."""

    none = "none"
    shuffled = "shuffled"
    random_dictionary = "random_dictionary"
    permuted_layers = "permuted_layers"


class HeldOut(Enum):
    """What the rows that a detector is judged on share with none that it learned from."""

    group = "group"
    """The question or entity alone."""
    wording = "wording"
    """The words of the question around its subject, too."""
    relation = "relation"
    """What is asked of the subject, too."""


@dataclass
class DetectorConfig:
    """From residual streams to a calibrated probability of hallucination."""

    name: str
    position: Position
    """Where tracks are followed for their statistics, and where probes and raw latents look."""
    top_k: int
    """Observations per layer, ranked by pre-activation; may exceed the SAE's k."""
    gate: float
    """Least cosine of two decoder directions that may be linked."""
    max_misses: int
    """Layers that a track may coast without an observation before it dies."""
    confirm_hits: int
    """Observations that confirm a track."""
    association: Association
    hypotheses: int
    """Joint assignments that association `murty` keeps per sample; no other reads it."""
    clues: list[Clue]
    """What counts for a link besides its direction."""
    nulls: list[Null]
    """Null associations that run beside the real one; `shuffled` always does."""
    compare: list[str] | None
    """Detectors that are judged, with those that they build on; null: all that can be fed."""
    held_out: HeldOut
    """What outer folds keep together, beside question or entity."""
    n_folds: int
    """Outer folds."""
    n_bootstrap: int
    """Cluster bootstrap resamples behind every interval."""
    seed: int
    """Of folds, classifiers and resamples."""
    samples: int
    """Further answers per question at temperature 1, for their agreement; 0: none."""
    p_true: str | None
    """Prompt with {question} and {answer} that " True" or " False" continues; null: the model
    cannot be asked about its answers."""

    def __post_init__(self) -> None:
        check_folder_name("detector.name", self.name)
        for field in ("top_k", "confirm_hits", "hypotheses", "n_bootstrap"):
            if getattr(self, field) < 1:
                raise ConfigError(
                    f"detector.{field} must be at least 1, got {getattr(self, field)}"
                )
        if self.compare is not None and not self.compare:
            raise ConfigError("detector.compare must name a detector, or be null for all")
        for field in ("max_misses", "samples"):
            if getattr(self, field) < 0:
                raise ConfigError(
                    f"detector.{field} must be at least 0, got {getattr(self, field)}"
                )
        if not -1 <= self.gate <= 1:
            raise ConfigError(f"detector.gate must be a cosine in -1..1, got {self.gate}")
        _check_p_true(self.p_true)
        if self.n_folds < 2:
            raise ConfigError(f"detector.n_folds must be at least 2, got {self.n_folds}")


def _check_p_true(prompt: str | None) -> None:
    for place in ("{question}", "{answer}"):
        if prompt is not None and place not in prompt:
            raise ConfigError(f"detector.p_true must contain {place}")
