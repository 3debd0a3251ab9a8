"""Classifiers as parameters: they score, and say what each column adds, without scikit-learn.

Every one scores in log-odds:

- logistic regression: coefficient times standardised value;
- trees: along a row's path through a tree, the change of the mean training score from node to node
  belongs to the column that the node asks about (Saabas 2014), summed over the trees. A forest
  votes with probabilities: its parts are stretched so that they add up to log-odds.

The parts and the base, the score of a row that says nothing, add up to the score exactly.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from ghosttrack.detector.learners.classifiers import (
    LEAST_PROB,
    Option,
    fit_classifier,
    moments,
    safe_logit,
    z,
)

MOST_LOGIT = float(logit(1 - LEAST_PROB))
"""Where the classifiers cut their scores."""
LEAF = -1


class Contributions(NamedTuple):
    """What a score is made of, in log-odds: `base + of.sum(axis=1)`."""

    base: float
    of: Float[np.ndarray, "row column"]


class Linear(NamedTuple):
    """score = intercept + sum_j coef_j z_j with z_j = (value_j - center_j) / scale_j."""

    center: Float[np.ndarray, " column"]
    scale: Float[np.ndarray, " column"]
    coef: Float[np.ndarray, " column"]
    intercept: Float[np.ndarray, ""]

    def parts(self, values: Float[np.ndarray, "row column"]) -> Contributions:
        """Attribute the score to the columns."""
        return Contributions(float(self.intercept), z(values, self.center, self.scale) * self.coef)

    def check(self, n_columns: int) -> None:
        """Make sure that there is one number per column."""
        assert all(field.shape == (n_columns,) for field in self[:3]), "one number per column"


class Trees(NamedTuple):
    """Binary trees whose nodes stand in common arrays, children after their parents."""

    roots: Int[np.ndarray, " tree"]
    left: Int[np.ndarray, " node"]
    """Child where the value is at most `cut`; -1 in a leaf."""
    right: Int[np.ndarray, " node"]
    column: Int[np.ndarray, " node"]
    cut: Float[np.ndarray, " node"]
    nan_left: Bool[np.ndarray, " node"]
    """Where a row goes that lacks the value."""
    value: Float[np.ndarray, " node"]
    """Mean score of the training rows in the node: the tree's share of the sum over trees."""
    start: Float[np.ndarray, ""]
    """Added to the sum over trees."""
    is_forest: Bool[np.ndarray, ""]
    """The sum is a probability, of values compared in single precision; else log-odds."""

    def parts(self, values: Float[np.ndarray, "row column"]) -> Contributions:
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

    def _changes(self, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
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


def scores(scorer: Scorer, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, " row"]:
    """Score in log-odds, at most `MOST_LOGIT` away from 0."""
    base, of = scorer.parts(values)
    return np.clip(base + of.sum(axis=1), -MOST_LOGIT, MOST_LOGIT)


def fit_scorer(
    option: Option,
    values: Float[np.ndarray, "row column"],
    labels: Int[np.ndarray, " row"],
    seed: int,
) -> Scorer:
    """Learn what `Columns.fit_predict` learns, and keep the parameters alone."""
    if option.kind == "logistic":
        center, scale = moments(values)
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
    sizes = [tree.node_count for tree in held]
    starts = np.cumsum([0, *sizes[:-1]])

    def children(name: str) -> Int[np.ndarray, " node"]:
        own = [getattr(tree, name) for tree in held]
        moved = [np.where(a < 0, LEAF, a + s) for a, s in zip(own, starts, strict=True)]
        return np.concatenate(moved).astype(np.int64)

    return Trees(
        roots=starts.astype(np.int64),
        left=children("children_left"),
        right=children("children_right"),
        column=np.concatenate([np.maximum(tree.feature, 0) for tree in held]).astype(np.int64),
        cut=np.concatenate([tree.threshold for tree in held]).astype(np.float64),
        nan_left=np.concatenate([tree.missing_go_to_left for tree in held]).astype(bool),
        value=np.concatenate([tree.value[:, 0, 1] for tree in held]) / len(held),
        start=np.array(0.0),
        is_forest=np.array(True),
    )


def _boosting(model: HistGradientBoostingClassifier) -> Trees:
    """Take each tree's nodes; a node's mean score is that of its leaves, weighted by their rows."""
    held = [stage[0].nodes for stage in model._predictors]
    starts = np.cumsum([0, *(len(nodes) for nodes in held[:-1])])
    nodes = np.concatenate(held)
    start = np.repeat(starts, [len(one) for one in held])
    is_leaf = nodes["is_leaf"].astype(bool)
    left = np.where(is_leaf, LEAF, nodes["left"] + start).astype(np.int64)
    right = np.where(is_leaf, LEAF, nodes["right"] + start).astype(np.int64)
    value, count = nodes["value"].astype(np.float64), nodes["count"].astype(np.float64)
    for node in np.flatnonzero(~is_leaf)[::-1]:  # children stand after their parents
        both = [left[node], right[node]]
        value[node] = np.average(value[both], weights=count[both])
    return Trees(
        roots=starts.astype(np.int64),
        left=left,
        right=right,
        column=nodes["feature_idx"].astype(np.int64),
        cut=nodes["num_threshold"].astype(np.float64),
        nan_left=nodes["missing_go_to_left"].astype(bool),
        value=value,
        start=np.array(float(model._baseline_prediction.item())),
        is_forest=np.array(False),
    )
