"""What a report is made from."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.fitted import FittedDetector
from ghosttrack.detector.table import StatisticSpec, Table
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracks import Tracks

GENERAL_LIMITS = (
    "Labels come from matching the model's own answers with reference answers by words; an answer "
    "that is right in words that no reference has counts as hallucinated, one that denies the "
    'reference ("not Paris") as right.',
)
WRITTEN_LIMITS = (
    "Others wrote these answers, people for the most part, a right and a wrong one to each "
    "question; the model only read them. Nothing here says when the model itself hallucinates.",
    "Such pairs are told apart by how they are written: wrong answers are longer, or less hedged. "
    "A detector shows something only where it is better than control:surface and "
    "control:answer_tfidf, which understand nothing; canaries that see length or words are above "
    "chance for the same reason and no leak of the protocol.",
    "Residual streams, latents, lens and tracks are read just before the answer's last token.",
)


class TrackView(NamedTuple):
    """The tracks of answers and what each argues for."""

    tracks: Tracks
    observations: Observations
    layers: tuple[int, ...]
    """Block index of each layer axis entry."""
    promotes: Sequence[str]
    """Per track: the candidate token that it speaks for."""
    push: Float[np.ndarray, " track"]
    """Per track: its attribution to that candidate, in logits above the rivals' mean."""
    stay: Mapping[str, Float[np.ndarray, " track"]] = MappingProxyType({})
    """Per track: the share of it that stays under `paraphrase` and under `swap`; empty where ghosts
    were not looked for."""
    words: Mapping[str, str] = MappingProxyType({})
    """The tokens that a latent's direction speaks for most, by `<layer's place>/<latent>`."""
    answers: Sequence[int] | None = None
    """Numbers of the answers that it is about; None: all, from the first."""


class Owners(NamedTuple):
    """Whose answer it seems to be; empty where there is no owner test."""

    names: Sequence[str]
    """Per answer: the other subject that gives the answer most strongly; "" where untested."""
    gaps: Float[np.ndarray, " sample"]
    """Own log-probability of the answer minus that subject's, in nats."""


class Kept(NamedTuple):
    """What an artefact took when it was made."""

    seconds: float
    n_bytes: int


class ReportContents(NamedTuple):
    """Everything that the page, the figures and the tables show."""

    evaluation: Evaluation
    answers: Answers
    statistics: Mapping[str, Table]
    """Table name to statistics, those whose expected direction is tested."""
    specs: Sequence[StatisticSpec]
    facts: Mapping[str, str]
    """What was run: model, bank, questions, tracker, protocol, code."""
    seconds: Mapping[str, float]
    """Wall time of each stage of this run, those inside another counted in both."""
    duration: float
    """Wall time of this run so far."""
    view: TrackView | None = None
    """None where no model was looked into."""
    owners: Owners = Owners((), np.empty(0))
    hooks: Sequence[Mapping[str, float]] = ()
    """Held-out quality of the bank, one entry per hook point, as in its `metrics.json`."""
    fitted: FittedDetector | None = None
    """The detector that explains single answers, of the columns of `statistics`."""
    limits: Sequence[str] = GENERAL_LIMITS
    """What the numbers do not show, besides what goes for every generated world."""
    cautions: Sequence[str] = ()
    """What a reader must know before the numbers, one sentence each."""
    command: str = ""
    """The command that made it."""
    settings: str = ""
    """Every setting, as YAML."""
    kept: Mapping[str, Kept] = MappingProxyType({})
    """Artefacts that the run read or made."""
    passes: Mapping[str, float] = MappingProxyType({})
    """Forward passes per answer, by what is asked of the model."""
    token_risks: Sequence[Float[np.ndarray, " token"]] = ()
    """Per answer: risk after each of its first tokens, by models that did not learn from it."""
