"""What a row of the roster says of a detector, and what learns from the columns that it reads."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int

from ghosttrack.detector.learners.baselines import SubjectKnown
from ghosttrack.detector.learners.classifiers import (
    BOOSTING,
    FOREST,
    FUSED,
    LINEAR,
    SHRUNK,
    Columns,
    LabelFree,
    Learner,
    Option,
    TokenClassifier,
    Values,
)
from ghosttrack.detector.learners.kernel_ridge import Gram
from ghosttrack.detector.learners.ridge import RidgeProbe

if TYPE_CHECKING:
    from ghosttrack.evaluation.data import EvaluationData

NEEDS = {
    "output": "token probabilities",
    "owner": "owner test",
    "subject": "subject in its prompts",
    "sampling": "sampled answers",
    "prior": "probability of the answer without its question",
    "reverse": "a template of a line with the question and a line with the answer",
    "p_true": "p(True), as asking.p_true is null: a model that cannot be asked",
    "probes": "residual streams",
    "states": "residual streams of the answers",
    "latents": "SAE latents",
    "tokens": "tokens of own answers",
    "subject_latents": "SAE latents at subjects",
    "encoders": "SAE encoders",
    "masked": "residual streams with the answer masked",
    "rauq": "attention weights",
    "lookback": "attention weights",
    "verbalised": "verbalised confidence, as with p(True)",
    "eigenscore": "residual streams of sampled answers",
    "entailment": "entailment between sampled answers: no asking.entailment",
    "relations": "more than one relation",
}
"""What a table, or another thing that detectors need, is made from, where its name does not say
it."""
OUTPUT = ("output",)
LENS_TABLES, ATTENTION_TABLES, MASKED = ("lens", "lens_trajectory"), ("rauq", "lookback"), "masked"
"""What one pass over the answers leaves beside residual streams."""
OF_STATES = "states:"
PLACES = {
    "prompt_last": "last token of the prompt",
    "answer_mean": "mean over the answer",
    "answer_last": "last token of the answer",
}
"""Of the residual streams that `states` holds, with what stands there."""
Reads = Mapping[str, tuple[str, ...]]


class Inputs(NamedTuple):
    """What a learner is made from: the columns that a detector reads, and all that is there."""

    names: tuple[str, ...]
    """Of the columns: `<column>`, or `<table>:<column>` where several tables are read."""
    values: Values
    """NaN where a column is not defined; rows are answers, or tokens where these are read."""
    directions: Int[np.ndarray, " column"]
    """Expected direction of each column, fixed before any label was seen; 0: none."""
    data: "EvaluationData"


Factory = Callable[[Inputs], Learner | None]
"""Makes a learner from what is read; None where nothing that it can use is there."""


def columns(*options: Option, challengers: tuple[Option, ...] = ()) -> Factory:
    """Let these classifiers of columns compete."""
    return lambda x: Columns(x.values, options, challengers)


light = columns(*LINEAR, *BOOSTING)
"""For few columns, or many detectors."""
trees = columns(*LINEAR, *BOOSTING, challengers=FOREST)
"""With the slowest classifier where trees win."""
boosting = columns(*BOOSTING)
shrunk = columns(*SHRUNK)
"""Does not lose to the best of the columns, however few the rows."""
fused = columns(*FUSED)
"""Fuses scores late: by their mean, or by a regression of them."""


def by_token(n_tokens: int) -> Factory:
    """Judge an answer by its first tokens."""
    return lambda x: TokenClassifier(Columns(x.values), x.data.token_answer, n_tokens)


def signs_only(x: Inputs) -> Learner | None:
    """Add up the columns of an expected direction."""
    kept = np.flatnonzero(x.directions)
    return LabelFree(x.values[:, kept], x.directions[kept]) if kept.size else None


def state_probe(x: Inputs, places: Sequence[str] = tuple(PLACES)) -> Learner:
    """Look at the residual streams of every layer, at these places."""
    gram = Gram.mean([x.data.grams[place] for place in places])
    return RidgeProbe({place: x.data.states[place] for place in places}, x.data.layers, gram)


def subject_known(x: Inputs) -> Learner:
    """Look for latents that tell known subjects, whatever the relation."""
    _, relation = np.unique(x.data.answers.relations, return_inverse=True)
    return SubjectKnown(tuple(x.data.subject_latents), x.data.layers, relation)


class DetectorSpec(NamedTuple):
    """One detector: what it reads, what learns from it, and where it is shown."""

    name: str
    title: str
    """What it is, for people."""
    reads: Reads = MappingProxyType({})
    """Table to the columns that are looked at; no name takes all of them."""
    learner: Factory = trees
    needs: tuple[str, ...] = ()
    """What else must be there, as `NEEDS` names it."""
    stacked: tuple[str, ...] = ()
    """Detectors whose inner out-of-fold scores are columns too."""
    is_open: bool = False
    """It does with those of its tables that are there, `any_of` them at least one."""
    any_of: tuple[str, ...] = ()
    forwards: float = 1.0
    """Forward passes per answer beyond those of its tables."""
    passes: Mapping[str, float] = MappingProxyType({})
    """By table, where the columns need fewer passes than the table does."""
    option_of: str = ""
    """It takes the classifier that inner folds chose for this detector."""
    within: float = 0.0
    """It is, fold by fold, the detector that the inner folds rank first among those that compete
    and take no more passes."""
    competes: bool = False
    """It may be recommended."""
    headline: bool = False
    """It is evaluated by default."""
    kept: bool = False
    """It is fitted on all answers for use on new prompts; of those, later rows need more."""
    chief: bool = False
    """It stands for the others where there is room for few."""
    curve: bool = False
    """Its curves are drawn; of many, none could be told apart."""
    compare_with: tuple[str, ...] = ()
    """Detectors that its AUROC is compared with, on the same resamples."""
    color: str = ""
    """In figures, for rows of the closing table; others are grey."""


def whole(*tables: str) -> Reads:
    """Read all columns of these tables."""
    return dict.fromkeys(tables, ())


def untrained(name: str, title: str, column: tuple[str, str], sign: int) -> DetectorSpec:
    """Make the row of one column of a table, +1: higher where hallucinated, -1: lower."""
    table, names = column[0], (column[1],)
    return DetectorSpec(
        name, title, {table: names}, lambda x: LabelFree(x.values, np.array([sign]))
    )
