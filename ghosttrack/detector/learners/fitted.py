"""A fitted detector: parameters alone, in files that are read without executing anything.

Every scorer scores in log-odds, without scikit-learn, and says what each column adds:

- logistic regression: coefficient times standardised value;
- trees: along a row's path through a tree, the change of the mean training score from node to node
  belongs to the column that the node asks about (Saabas 2014), summed over the trees. A forest
  votes with probabilities: its parts are stretched so that they add up to log-odds.

The parts and the base, the score of a row that says nothing, add up to the score exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from ghosttrack.detector.learners.calibration import Calibration, Steps, log_odds_ratio, shifted
from ghosttrack.detector.learners.classifiers import (
    MOST_LOGIT,
    WEIGHED,
    Option,
    PerColumn,
    RowLabels,
    Values,
    fit_classifier,
    fit_weights,
    moments,
    safe_logit,
    z,
)
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json, write_json

FACTS, ARRAYS = "detectors.json", "detectors.safetensors"
TOKEN_RISKS = "token-risks.parquet"
"""Beside them, where tokens are judged: of each token, by models that did not learn from it."""
PLAIN = ("name", "columns", "option", "threshold", "prevalence")
"""Fields of a detector that JSON holds as they are."""
PerRow = Float[np.ndarray, " row"]
PerNode = Float[np.ndarray, " node"]
NodeIndex = Int[np.ndarray, " node"]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of every column among right and among hallucinated answers, to say what is usual."""
LEAF = -1
SCORES = "scores"
"""Table of the scores of other detectors, among the columns of one that fuses them."""


class Contributions(NamedTuple):
    """What a score is made of, in log-odds: `base + of.sum(axis=1)`."""

    base: float
    of: Values


class Linear(NamedTuple):
    """score = intercept + sum_j coef_j z_j with z_j = (value_j - center_j) / scale_j."""

    center: PerColumn
    scale: PerColumn
    coef: PerColumn
    intercept: Float[np.ndarray, ""]

    def parts(self, values: Values) -> Contributions:
        """Attribute the score to the columns."""
        return Contributions(float(self.intercept), z(values, self.center, self.scale) * self.coef)

    def check(self, n_columns: int) -> None:
        """Make sure that there is one number per column."""
        assert all(field.shape == (n_columns,) for field in self[:3]), "one number per column"


class Trees(NamedTuple):
    """Binary trees whose nodes stand in common arrays, children after their parents."""

    roots: Int[np.ndarray, " tree"]
    left: NodeIndex
    """Child where the value is at most `cut`; -1 in a leaf."""
    right: NodeIndex
    column: NodeIndex
    cut: PerNode
    nan_left: Bool[np.ndarray, " node"]
    """Where a row goes that lacks the value."""
    value: PerNode
    """Mean score of the training rows in the node: the tree's share of the sum over trees."""
    start: Float[np.ndarray, ""]
    """Added to the sum over trees."""
    is_forest: Bool[np.ndarray, ""]
    """The sum is a probability, of values compared in single precision; else log-odds."""

    def parts(self, values: Values) -> Contributions:
        """Attribute the score to the columns."""
        base = float(self.start + self.value[self.roots].sum())
        of = self._changes(values)
        if not self.is_forest:
            return Contributions(base, of)
        votes = base + of.sum(axis=1)
        rise = safe_logit(votes) - safe_logit(np.array([base]))
        away = np.abs(votes - base) > np.finfo(np.float32).eps
        flat = 1 / (base * (1 - base)) if 0 < base < 1 else 0.0
        stretch = np.where(away, rise / np.where(away, votes - base, 1.0), flat)
        return Contributions(float(safe_logit(np.array([base]))[0]), of * stretch[:, None])

    def _changes(self, values: Values) -> Values:
        """Walk all trees at once, and add each step's change of the mean score to its column."""
        narrow = values.astype(np.float32).astype(np.float64) if self.is_forest else values
        changes = np.zeros(values.shape)
        row = np.repeat(np.arange(len(values)), len(self.roots))
        node = np.tile(self.roots, len(values))
        while len(node):
            inner = self.left[node] != LEAF
            row, node = row[inner], node[inner]
            column = self.column[node]
            asked = narrow[row, column]
            goes_left = np.where(np.isnan(asked), self.nan_left[node], asked <= self.cut[node])
            child = np.where(goes_left, self.left[node], self.right[node])
            np.add.at(changes, (row, column), self.value[child] - self.value[node])
            node = child
        return changes

    def check(self, n_columns: int) -> None:
        """Make sure that every path ends, at nodes and columns that there are."""
        n_nodes = len(self.value)
        assert all(len(field) == n_nodes for field in self[1:7]), "one entry per node"
        inner = np.flatnonzero(self.left != LEAF)
        for child in (self.left[inner], self.right[inner]):
            assert (child > inner).all(), "a child before its parent"
            assert (child < n_nodes).all(), "a child that is not there"
        assert ((self.column[inner] >= 0) & (self.column[inner] < n_columns)).all(), "no column"
        assert ((self.roots >= 0) & (self.roots < n_nodes)).all(), "a root that is not there"


Scorer = Linear | Trees
KINDS: Mapping[str, type[Linear] | type[Trees]] = {"linear": Linear, "trees": Trees}


def scores(scorer: Scorer, values: Values) -> PerRow:
    """Score in log-odds, at most `MOST_LOGIT` away from 0."""
    base, of = scorer.parts(values)
    return np.clip(base + of.sum(axis=1), -MOST_LOGIT, MOST_LOGIT)


def fit_scorer(option: Option, values: Values, labels: RowLabels, seed: int) -> Scorer:
    """Learn what `Columns.fit_predict` learns, and keep the parameters alone."""
    center, scale = moments(values)
    if option.kind in WEIGHED:
        coef, intercept = fit_weights(option, z(values, center, scale), labels)
        return Linear(center, scale, coef, np.array(intercept))
    if option.kind == "logistic":
        model = fit_classifier(option, z(values, center, scale), labels, seed)
        assert isinstance(model, LogisticRegression), model
        return Linear(center, scale, model.coef_[0], np.array(np.ravel(model.intercept_)[0]))
    model = fit_classifier(option, values, labels, seed)
    if isinstance(model, RandomForestClassifier):
        return _forest(model)
    assert isinstance(model, HistGradientBoostingClassifier), model
    return _boosting(model)


def _forest(model: RandomForestClassifier) -> Trees:
    """Take each tree's nodes; its vote counts as one of many."""
    held = [one.tree_ for one in model.estimators_]
    return _join(
        [
            (
                *(tree.children_left, tree.children_right, np.maximum(tree.feature, 0)),
                *(tree.threshold, tree.missing_go_to_left, tree.value[:, 0, 1] / len(held)),
            )
            for tree in held
        ],
        start=0.0,
        is_forest=True,
    )


def _boosting(model: HistGradientBoostingClassifier) -> Trees:
    """Take each tree's nodes."""
    trees = []
    for (stage,) in model._predictors:
        nodes = stage.nodes
        left, right = (
            np.where(nodes["is_leaf"], LEAF, nodes[side].astype(np.int64))
            for side in ("left", "right")
        )
        trees.append(
            (
                *(left, right, nodes["feature_idx"], nodes["num_threshold"]),
                *(nodes["missing_go_to_left"], _means(nodes, left, right)),
            )
        )
    return _join(trees, start=float(model._baseline_prediction.item()), is_forest=False)


def _means(nodes: Shaped[np.ndarray, " node"], left: NodeIndex, right: NodeIndex) -> PerNode:
    """Give every node the mean score of its leaves, weighted by their rows."""
    value, count = nodes["value"].astype(np.float64), nodes["count"].astype(np.float64)
    for node in np.flatnonzero(left != LEAF)[::-1]:  # children stand after their parents
        both = [left[node], right[node]]
        value[node] = np.average(value[both], weights=count[both])
    return value


def _join(
    trees: Sequence[tuple[Shaped[np.ndarray, " _"], ...]], start: float, is_forest: bool
) -> Trees:
    """Set the trees' nodes in common arrays; each has `left` to `value` of `Trees`."""
    sizes = [len(one[0]) for one in trees]
    roots = np.cumsum([0, *sizes[:-1]])
    left, right, column, cut, nan_left, value = map(np.concatenate, zip(*trees, strict=True))
    left, right = (
        np.where(child == LEAF, LEAF, child + np.repeat(roots, sizes)).astype(np.int64)
        for child in (left, right)
    )
    return Trees(
        roots=roots.astype(np.int64),
        left=left,
        right=right,
        column=column.astype(np.int64),
        cut=cut.astype(np.float64),
        nan_left=nan_left.astype(bool),
        value=value,
        start=np.array(start),
        is_forest=np.array(is_forest),
    )


@dataclass(frozen=True)
class FittedDetector:
    """One detector, fitted on all labelled answers.

    Attributes:
        name: As in the evaluation.
        columns: `<table>:<column>` of what it sees, in the order of its values.
        scorer: Scores in log-odds.
        option: What the inner folds chose, as reports name it.
        calibration: Fitted on out-of-fold scores.
        threshold: Probability from which on an answer is called hallucinated.
        prevalence: Share of hallucinated answers among those that it was fitted on.
        has_holes: Whether some of those lacked the column.
        quantiles: `QUANTILES` of the columns among right (0) and hallucinated (1) answers; NaN
            where all lack it.
    """

    name: str
    columns: tuple[str, ...]
    scorer: Scorer
    option: str
    calibration: Calibration
    threshold: float
    prevalence: float
    has_holes: Bool[np.ndarray, " column"]
    quantiles: Float[np.ndarray, "label quantile column"]

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables that it reads."""
        return tuple(dict.fromkeys(column.partition(":")[0] for column in self.columns))

    @property
    def parts(self) -> tuple[str, ...]:
        """Detectors whose scores it fuses."""
        split = (column.partition(":") for column in self.columns)
        return tuple(name for table, _, name in split if table == SCORES)

    def values(self, tables: Mapping[str, Table]) -> Values:
        """Look its columns up; NaN where a table or a column is missing or not finite."""
        n_rows = len(next(iter(tables.values())))
        found = np.full((n_rows, len(self.columns)), np.nan)
        held = {
            f"{name}:{column}": values
            for name in self.tables
            if name in tables
            for column, values in zip(tables[name].names, tables[name].values.T, strict=True)
        }
        for at, column in enumerate(self.columns):
            if column in held:
                found[:, at] = held[column]
        return np.where(np.isfinite(found), found, np.nan)

    def lacks(self, values: Values) -> Bool[np.ndarray, " row"]:
        """Tell which rows miss a value that no answer missed on which the detector was fitted."""
        return np.logical_or.reduce(np.isnan(values) & ~self.has_holes, axis=1)

    def at(self, prevalence: float) -> "FittedDetector":
        """Say risks for where this share of answers is hallucinated; it flags the same answers."""
        shift = log_odds_ratio(self.prevalence, prevalence)
        threshold = float(shifted(np.array([self.threshold]), shift)[0])
        calibration = self.calibration._replace(shift=shift)
        return replace(self, calibration=calibration, threshold=threshold)

    def prob(self, values: Values) -> PerRow:
        """Calibrated probability of hallucination."""
        return self.calibration.prob(scores(self.scorer, values))


def with_parts(one: FittedDetector, named: Mapping[str, FittedDetector]) -> list[FittedDetector]:
    """List a detector and those that it fuses, theirs too."""
    return [one, *(each for name in one.parts for each in with_parts(named[name], named))]


def signed(values: Values, directions: Int[np.ndarray, " column"]) -> Linear:
    """Score as `LabelFree` does."""
    center, scale = moments(values)
    return Linear(center, scale, directions / len(directions), np.array(0.0))


def uncut(weights: PerColumn, intercept: float) -> Linear:
    """Score by weighted values as they are, however large."""
    scale = np.full(len(weights), 1e6)
    return Linear(np.zeros(len(weights)), scale, weights * scale, np.array(intercept))


def values_of(
    detectors: Sequence[FittedDetector], tables: Mapping[str, Table]
) -> dict[str, Values]:
    """Look the columns of all detectors up, by their names; parts of others are scored first."""
    named = {one.name: one for one in detectors}
    found: dict[str, Values] = {}
    for one in (part for each in detectors for part in reversed(with_parts(each, named))):
        if one.name in found:
            continue
        parts = [(named[name], found[name]) for name in one.parts]
        said = [np.where(part.lacks(x), np.nan, scores(part.scorer, x)) for part, x in parts]
        fused = {SCORES: Table(one.parts, np.column_stack(said))} if parts else {}
        found[one.name] = one.values({**tables, **fused})
    return {one.name: found[one.name] for one in detectors}


def quantiles(values: Values, labels: RowLabels) -> Float[np.ndarray, "label quantile column"]:
    """Measure `QUANTILES` of each column among right and hallucinated answers."""
    found = np.full((2, len(QUANTILES), values.shape[1]), np.nan)
    known = np.where(np.isfinite(values), values, np.nan)
    for label in (0, 1):
        mine = known[labels == label]
        there = np.flatnonzero(~np.isnan(mine).all(axis=0))
        found[label][:, there] = np.nanquantile(mine[:, there], QUANTILES, axis=0)
    return found


def save(folder: Path, detectors: Sequence[FittedDetector]) -> None:
    """Write every detector of the folder: JSON for facts, safetensors for numbers."""
    facts, arrays = [], {}
    for place, one in enumerate(detectors):
        kind = "linear" if isinstance(one.scorer, Linear) else "trees"
        calibration = one.calibration._asdict()
        steps = calibration.pop("steps")
        parts = {
            **{f"scorer.{name}": held for name, held in one.scorer._asdict().items()},
            **({f"steps.{name}": held for name, held in steps._asdict().items()} if steps else {}),
            "has_holes": one.has_holes,
            "quantiles": one.quantiles,
        }
        arrays |= {f"{place}.{name}": np.array(held, order="C") for name, held in parts.items()}
        own = {name: getattr(one, name) for name in PLAIN}
        facts.append({**own, "scorer": kind, "calibration": calibration})
    save_file(arrays, folder / ARRAYS)
    write_json(folder / FACTS, facts)


def load(folder: Path) -> tuple[FittedDetector, ...]:
    """Read what `save` wrote.

    Raises:
        DataError: A file is missing, or holds anything else.
    """
    facts = read_json(folder / FACTS)
    if not (folder / ARRAYS).is_file():
        raise DataError(f"{folder / ARRAYS}: is missing; delete the folder to build it again")
    with whole(folder):
        arrays = load_file(folder / ARRAYS)
        return tuple(_load_one(one, _below(arrays, f"{place}.")) for place, one in enumerate(facts))


def _load_one(
    facts: Mapping[str, Any], arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> FittedDetector:
    scorer = KINDS[facts["scorer"]](**_below(arrays, "scorer."))
    scorer.check(len(facts["columns"]))
    steps = _below(arrays, "steps.")
    calibration = Calibration(**facts["calibration"], steps=Steps(**steps) if steps else None)
    held: dict[str, Any] = {name: facts[name] for name in PLAIN}
    held |= {"columns": tuple(facts["columns"]), "scorer": scorer, "calibration": calibration}
    return FittedDetector(**held, has_holes=arrays["has_holes"], quantiles=arrays["quantiles"])


def _below(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], prefix: str
) -> dict[str, Shaped[np.ndarray, "..."]]:
    return {
        name.removeprefix(prefix): held for name, held in arrays.items() if name.startswith(prefix)
    }
