"""Settings of tracking, of where the statistics of tracks are taken, and of asking again."""

import difflib
import pkgutil
from dataclasses import dataclass
from enum import Enum

from ghosttrack.detector.asking import families
from ghosttrack.errors import ConfigError, check_folder_name, check_least


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


@dataclass
class DetectorConfig:
    """From residual streams to a calibrated probability of hallucination."""

    name: str
    position: Position
    """Where tracks are followed for their statistics, and where probes and raw latents look."""
    top_k: int
    """Observations per layer, ranked by pre-activation; may exceed the SAE's k."""
    gate: float | None
    """Least cosine of two decoder directions that may be linked; null: each pair of layers has its
    own, the cosine that unrelated latents rarely reach."""
    max_misses: int
    """Layers that a track may coast without an observation before it dies."""
    confirm_hits: int
    """Observations that confirm a track."""
    association: Association
    hypotheses: int | None
    """Joint assignments that association `murty` keeps per sample, null for 3; no other has any."""
    clues: list[Clue]
    """What counts for a link besides its direction."""
    nulls: list[Null]
    """Null associations that have statistics of their own beside those of the real one; `shuffled`
    always runs as the reference of lengths and persistence."""

    def __post_init__(self) -> None:
        check_folder_name("detector.name", self.name)
        check_least("detector", self, top_k=1, confirm_hits=1, max_misses=0)
        if self.gate is not None and not -1 <= self.gate <= 1:
            raise ConfigError(f"detector.gate must be null or a cosine in -1..1, got {self.gate}")
        if self.hypotheses is not None:
            check_least("detector", self, hypotheses=1)
            if self.association is not Association.murty:
                raise ConfigError(
                    f"detector.hypotheses={self.hypotheses} is for detector.association=murty,"
                    f" not {self.association.name}; drop it"
                )


class SubjectSource(Enum):
    """Who says what a question asks about."""

    given = "given"
    """The set; without it nothing is asked about other subjects."""
    found = "found"
    """The answer: of names, quoted strings, numbers and rare words of the question, the one that it
    hangs on most."""


@dataclass
class InterventionsConfig:
    """How the model is asked again (`detector/asking/families/`)."""

    name: str
    copies: dict[str, int | None]
    """Most copies that each family makes of a question; 0, or no entry, leaves the family out,
    null makes as many as the family does by itself."""
    subjects: SubjectSource
    siblings_again: bool
    """The answers to sibling questions are put through paraphrase, swap and owner test as well."""
    known_names: float
    """Share of the subjects' names, drawn at random, from which other names are taken."""

    def __post_init__(self) -> None:
        check_folder_name("interventions.name", self.name)
        if not 0 < self.known_names <= 1:
            raise ConfigError(
                f"interventions.known_names must be in (0, 1], got {self.known_names}"
            )
        names = [module.name for module in pkgutil.iter_modules(families.__path__)]
        for name, n_copies in self.copies.items():
            setting = f"interventions.copies.{name}"
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                what = f"did you mean {near[0]}?" if near else f"the families: {', '.join(names)}"
                raise ConfigError(f"{setting} is no family of interventions; {what}")
            if n_copies is not None and n_copies < 0:
                raise ConfigError(f"{setting} must be at least 0, got {n_copies}")
