"""Detectors that must find nothing: an AUROC above chance means that the protocol leaks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from joblib import Parallel

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.baselines import Words
from ghosttrack.detector.learners.classifiers import (
    BOOSTING,
    FOREST,
    LINEAR,
    SHRUNK,
    BestColumn,
    Columns,
    LabelFree,
    Learner,
    screen,
)
from ghosttrack.detector.learners.kernel_ridge import Gram
from ghosttrack.detector.learners.ridge import RidgeProbe
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.bootstrap import Resamples
from ghosttrack.evaluation.data import Available, EvaluationData
from ghosttrack.evaluation.fitting import Fits, Job, in_turn, prepare
from ghosttrack.evaluation.result import SHUFFLE, Interval
from ghosttrack.evaluation.roster import built_on
from ghosttrack.evaluation.spec import PLACES, DetectorSpec
from ghosttrack.evaluation.splits import Fold, learnable
from ghosttrack.evaluation.summary import canary_result

CANARY = "canary:"
CHANCE = 0.5
NOISE_COLUMNS = 16
UNTRAINED = {"untrained": "statistics", "untrained_again": "interventions"}


class Kind(NamedTuple):
    """What is said of a canary."""

    sees: str
    """What it knows of an answer."""
    song: str
    """What leaks where it finds something."""


KINDS = {
    "noise_by_text": Kind(
        "random numbers, the same for equal texts",
        "equal texts stand on both sides of a split",
    ),
    "index": Kind(
        "the place of the question in its file", "the order of the answers tells the wrong ones"
    ),
    "length": Kind(
        "how long question and answer are",
        "lengths of question and answer tell the wrong ones",
    ),
    SHUFFLE: Kind(
        "what a detector sees, but it learns and is judged by shuffled labels",
        "the protocol finds what is not there",
    ),
    "name_tfidf": Kind("the subject's name", "the subjects' names tell the wrong ones"),
    "shuffled_names": Kind(
        "the name of another group, the same for all of a group",
        "a question or an entity stands on both sides of a split",
    ),
    "untrained": Kind(
        "statistics of tracks in the same model with random weights",
        "a model that learned nothing tells the wrong ones by their prompts' words",
    ),
    "untrained_again": Kind(
        "what the same model with random weights says when asked again, of a part of the answers",
        "a model that learned nothing tells the wrong ones when it is asked again",
    ),
    "prior_of_another": Kind(
        "the probability of another answer without its question",
        "the probability of another answer tells the wrong ones",
    ),
    "reverse_of_another": Kind(
        "what another answer adds to the probability of its question",
        "the probability of another question tells the wrong ones",
    ),
    "states_of_another": Kind(
        "the residual streams at another answer",
        "the residual streams at another answer tell the wrong ones",
    ),
}
"""Every canary that there is."""
SIGNALS = {
    "index": "real questions stand in an order that tells some of the wrong ones",
    "length": "the length of an answer is a real signal here",
    "name_tfidf": "the names in real questions tell some of the wrong ones",
    "untrained": "the words of real questions tell some of the wrong ones",
}
"""What a canary finds where the answers may really be told by it: in real questions all of these,
in answers of one's own to questions of a generated world their length."""


class Canary(NamedTuple):
    """What a canary learns from; the labels are shuffled ones in `label_shuffle`."""

    name: str
    learner: Learner
    labels: Int[np.ndarray, " sample"]
    rows: Bool[np.ndarray, " sample"] | None = None
    """Those that it is judged on, if not all."""
    signal: Int[np.ndarray, " sample"] | None = None
    """What the answers may really be told by: what is found among those that share it is a leak."""

    @property
    def detector(self) -> str:
        """The detector that learns shuffled labels; empty where none does."""
        return self.name.partition(":")[2]

    def jobs(self, folds: Iterable[Fold]) -> list[Job]:
        """Prepare it for every fold."""
        return [Job(CANARY + self.name, fold, self.learner, self.labels) for fold in folds]


class CanaryVerdict(NamedTuple):
    """What became of a canary."""

    auroc: float
    ci: Interval
    sings: bool
    is_signal: bool
    """It is above chance for what the answers may really be told by."""


def canaries(data: EvaluationData, folds: tuple[Fold, ...], seed: int) -> Available[Canary]:
    """Build every canary that the data can feed by itself."""
    answers, labels = data.answers, data.answers.labels
    texts = [
        f"{prompt} {text}" for prompt, text in zip(answers.prompts, answers.texts, strict=True)
    ]
    index = np.arange(len(labels), dtype=np.float64)[:, None]
    own_length = np.array([len(text) for text in answers.texts])
    present = [
        Canary("noise_by_text", Columns(noise_by_text(texts, seed), FOREST), labels),
        Canary("index", Columns(index, BOOSTING), labels),
        Canary("length", Columns(_lengths(answers), BOOSTING), labels, signal=own_length),
    ]
    left_out = {}
    shuffled = _shuffled_labels(labels, folds, seed)
    if shuffled is not None:
        values = next(iter(data.tables.values())).values
        present.append(Canary(SHUFFLE, Columns(_finite(values), LINEAR[1:]), shuffled))
    else:
        left_out[SHUFFLE] = "too few answers of one label to shuffle"
    if len(set(answers.subjects)) > 1:
        present.append(Canary("name_tfidf", Words(answers.subjects, "char_wb"), labels))
    else:
        left_out["name_tfidf"] = "the questions name no subjects"
    names = Words(_shuffled_names(answers.groups, seed), "char_wb")
    present += [Canary("shuffled_names", names, labels), *_of_others(data, seed)]
    for name, what in UNTRAINED.items():
        table = data.tables.get(name)
        if table is not None and (values := _screened(table)).size:
            rows = np.logical_or.reduce(np.isfinite(table.values), axis=1)
            present.append(Canary(name, Columns(values, BOOSTING), labels, rows))
        else:
            left_out[name] = f"this data holds no {what} of a model without training"
    return Available(tuple(present), left_out)


def through_detectors(
    fits: Fits,
    specs: Sequence[DetectorSpec],
    shuffle: Canary,
    leader: str | None,
    parallel: Parallel,
    seed: int,
) -> list[tuple[Canary, Float[np.ndarray, " sample"]]]:
    """Let detectors learn shuffled labels by the classifiers that they have chosen.

    The leader, which a report opens with, takes part with all that it is fused or chosen from; of
    those that stand alone each that reads what none before it does. What looks at labels that it is
    to predict finds the shuffled ones.
    """
    rows = {spec.name: spec for spec in specs if spec.name in fits.fits}
    chosen = [
        Canary(f"{SHUFFLE}:{name}", shuffle.learner, shuffle.labels)
        for name in _of_every_family(fits, rows, leader)
    ]
    again = fits.anew(shuffle.labels)
    built = built_on([one.detector for one in chosen], rows)
    for now in in_turn(rows[name] for name in rows if name in built and not rows[name].within):
        again.run(parallel, map(fits.settled, again.jobs(now)), seed)
    if leader in fits.recommended:
        again.recommend(rows[leader], specs)
    return [(one, again.cross_fit(one.detector).prob) for one in chosen]


def _of_every_family(
    fits: Fits, rows: Mapping[str, DetectorSpec], leader: str | None
) -> Iterator[str]:
    """Name the leader and, in their order, those that read what none before them does."""
    seen = set[str]()
    for name, spec in rows.items():
        read = {*spec.reads, *spec.needs}
        is_whole = bool(spec.stacked or spec.within)
        is_new = not (read <= seen or is_whole or spec.option_of)
        if not (is_new or name == leader):
            continue
        one = None if is_whole else prepare(spec, fits.data, fits.folds[0].train, {})
        if one is None or not isinstance(one.learner, BestColumn | LabelFree):
            seen |= read
            yield name


class CanaryDesign(NamedTuple):
    """What canaries are judged on."""

    strata: Int[np.ndarray, " sample"]
    """Only pairs of answers of one are compared."""
    resamples: Resamples
    n_canaries: int
    """How many intervals are to hold at once."""
    is_real: bool
    """The answers may be told by all that `SIGNALS` names."""


def judge(
    canary: Canary, prob: Float[np.ndarray, " sample"], design: CanaryDesign
) -> CanaryVerdict:
    """Tell whether a canary sings: its interval lies above chance, and for no real signal."""
    rows = np.ones(len(prob), dtype=bool) if canary.rows is None else canary.rows
    kept = canary.labels[rows], prob[rows]
    drawn, strata = design.resamples.subset(rows), design.strata[rows]
    auroc, ci = canary_result(*kept, strata, drawn, design.n_canaries)
    if not ci.low > CHANCE:
        return CanaryVerdict(auroc, ci, sings=False, is_signal=False)
    is_signal = design.is_real and canary.name in SIGNALS
    if canary.signal is not None and not is_signal:
        alike = crossed(strata, canary.signal[rows])
        inside = canary_result(*kept, alike, drawn, design.n_canaries)[1]
        is_signal = not inside.low > CHANCE
    return CanaryVerdict(auroc, ci, sings=not is_signal, is_signal=is_signal)


def kind(name: str) -> Kind:
    """Look up what is said of a canary; that of a detector is of its kind."""
    return KINDS[name.partition(":")[0]]


def crossed(
    one: Int[np.ndarray, " sample"], other: Int[np.ndarray, " sample"]
) -> Int[np.ndarray, " sample"]:
    """Number the pairs of strata that there are."""
    return np.unique(np.stack([one, other]), axis=1, return_inverse=True)[1].ravel()


def noise_by_text(texts: Sequence[str], seed: int) -> Float[np.ndarray, "sample column"]:
    """Draw noise that only depends on the text: equal texts get equal rows.

    A forest turns it into a perfect score where texts repeat across a split.
    """
    keys = (sha256(f"{seed}:{text}".encode()).digest() for text in texts)
    draws = [
        np.random.default_rng(int.from_bytes(key[:8])).normal(size=NOISE_COLUMNS) for key in keys
    ]
    return np.array(draws)


def _of_others(data: EvaluationData, seed: int) -> list[Canary]:
    """Give every answer the prior, and the residual streams, of another."""
    labels, found = data.answers.labels, list[Canary]()
    others = np.random.default_rng(seed).permutation(len(labels))
    for name in filter(data.has, ("prior", "reverse")):
        values = _finite(data.tables[name].values[others])
        found.append(Canary(f"{name}_of_another", Columns(values, SHRUNK), labels))
    if data.has("states"):
        gram = Gram.mean([data.grams[place] for place in PLACES]).of_others(others)
        found.append(Canary("states_of_another", RidgeProbe({}, data.layers, gram), labels))
    return found


def _shuffled_labels(
    labels: Int[np.ndarray, " sample"], folds: tuple[Fold, ...], seed: int
) -> Int[np.ndarray, " sample"] | None:
    """Shuffle labels inside every fold, so that folds keep the shares they were dealt for.

    None where too few are of one label for every inner fold to hold both.
    """
    generator, shuffled = np.random.default_rng(seed), labels.copy()
    for fold in folds:
        shuffled[fold.test] = generator.permutation(labels[fold.test])
    return shuffled if all(learnable(fold, shuffled) for fold in folds) else None


def _shuffled_names(groups: Sequence[str], seed: int) -> tuple[str, ...]:
    """Give every group the name of another."""
    names = sorted(set(groups))
    others = np.random.default_rng(seed).permutation(names).tolist()
    given = dict(zip(names, others, strict=True))
    return tuple(given[group] for group in groups)


def _lengths(answers: Answers) -> Float[np.ndarray, "sample column"]:
    """Tokens and characters of the answer, characters and words of the question."""
    counts = [
        (len(ids), len(text), len(prompt), len(prompt.split()))
        for ids, text, prompt in zip(answers.token_ids, answers.texts, answers.prompts, strict=True)
    ]
    return np.array(counts, dtype=np.float64)


def _screened(table: Table) -> Float[np.ndarray, "sample column"]:
    kept = screen(table, np.arange(len(table))).kept
    return _finite(table.values[:, kept])


def _finite(values: Float[np.ndarray, "sample column"]) -> Float[np.ndarray, "sample column"]:
    return np.where(np.isfinite(values), values, np.nan).astype(np.float64)
