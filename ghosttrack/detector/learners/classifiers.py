"""Classifiers over columns of numbers, behind the form that every learner has.

scikit-learn is imported where it fits: a list of detectors alone does not need it.
"""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr, logit

from ghosttrack.detector.table import Table

Labels = Int[np.ndarray, " sample"]
Known = Int[np.ndarray, " known"]
Asked = Int[np.ndarray, " asked"]
Values = Float[np.ndarray, "row column"]
RowLabels = Int[np.ndarray, " row"]
PerColumn = Float[np.ndarray, " column"]
Scores = Float[np.ndarray, " asked"]
SAME_RHO = 0.999
"""Columns that correlate more than this say one thing twice."""
LEAST_PROB = 1e-4
"""Forests give 0 and 1; the logit must stay finite."""
MOST_LOGIT = float(logit(1 - LEAST_PROB))
"""Where the classifiers cut their scores."""
MOST_Z = 10.0
"""Standardised values are cut here, lest one outlier rule a linear model."""
STREAMING = "streaming"
"""Risk by the tokens so far, output scores and tracks: after the last one; `streaming:<t>`: after
t, or after the last where the answer is shorter."""
MOST_TOKENS = 8
"""Tokens of an answer that are looked at, from the first."""
WEAK_PENALTY = 100.0
"""Inverse strength of the L2 penalty on one score: bounds the slope on separable ones, else
unfelt."""
NEWTON_GOES_ON = r"(Line search of Newton solver|The inner solver of Newton)[\s\S]*resort to lbfgs"


class Option(NamedTuple):
    """One thing that inner folds can choose; the learner knows what its fields mean."""

    label: str
    """As reports name it."""
    kind: str = "logistic"
    place: int = 0
    """Of a column or layer among those held."""
    strength: float = 1.0
    """Inverse regularisation."""
    margin: float = 0.0
    """By how much it must beat options before it, in AUROC times the root of the number of answers
    of the rarer label."""


@runtime_checkable
class Learner(Protocol):
    """Something that learns from some rows of what it holds and scores others."""

    def options(self) -> tuple[Option, ...]:
        """What to choose from."""
        ...

    def refine(self, option: Option) -> tuple[Option, ...]:
        """Name the options to try beside the best of the first round; by default none."""
        return ()

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Learn from the training rows' labels; score the test rows, hallucinated higher."""
        ...


WEIGHED = frozenset({"lead", "mean"})
"""Kinds of options that `fit_weights` knows."""
LINEAR: tuple[Option, ...] = (
    Option("logistic regression, C=0.03", "logistic", strength=0.03),
    Option("logistic regression, C=1", "logistic", strength=1.0),
)
FOREST: tuple[Option, ...] = (Option("random forest", "forest"),)
BOOSTING: tuple[Option, ...] = (Option("gradient boosting", "boosting"),)
SHRUNK: tuple[Option, ...] = tuple(
    Option(f"towards the best column, C={strength:g}", "lead", 0, strength, margin=0.1)
    for strength in (0.0001, 0.001, 0.01, 0.1, 1.0)
)
"""For few rows, on which a free regression of many columns falls behind the best of them. Two
scores that correlate differ by chance by about .15 over the root of the rarer label's answers: a
weaker penalty must win by two thirds of that."""
FUSED: tuple[Option, ...] = (
    Option("mean of log-odds", "mean"),
    Option("regression, C=0.01", "logistic", strength=0.01),
    Option("regression, C=1", "logistic", strength=1.0),
)
"""For columns that are scores already."""
LEAD = 30.0
"""How much larger the best column stands in a regression that is shrunk towards it: the penalty
hardly feels its coefficient."""


@dataclass(frozen=True)
class Columns(Learner):
    """Classify by columns; NaN is a value that trees use and linear models take for the mean."""

    values: Float[np.ndarray, "sample column"]
    candidates: tuple[Option, ...] = LINEAR + BOOSTING
    challengers: tuple[Option, ...] = ()
    """Other trees, slow ones, that are tried where boosted trees have won."""

    def options(self) -> tuple[Option, ...]:
        """The classifiers that compete."""
        return self.candidates

    def refine(self, option: Option) -> tuple[Option, ...]:
        """The challengers, where trees beat what is linear."""
        return self.challengers if option.kind == "boosting" else ()

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the logit of the predicted probability."""
        known, asked = self.values[train], self.values[test]
        if option.kind in WEIGHED:
            known, asked = standardise(known, asked)
            coef, intercept = fit_weights(option, known, labels[train])
            return np.clip(asked @ coef + intercept, -MOST_LOGIT, MOST_LOGIT)
        if option.kind == "logistic":
            known, asked = standardise(known, asked)
        model = fit_classifier(option, known, labels[train], seed)
        return safe_logit(np.asarray(model.predict_proba(asked))[:, 1])


@dataclass(frozen=True)
class BestColumn(Learner):
    """Take one column as it is; which one, inner folds choose, its sign the training rows."""

    values: Float[np.ndarray, "sample column"]
    names: tuple[str, ...]

    def options(self) -> tuple[Option, ...]:
        """The columns."""
        return tuple(Option(name, place=place) for place, name in enumerate(self.names))

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the column, turned so that it rises with hallucination in training."""
        known, asked = standardise(self.values[train], self.values[test])
        rises = separation(known[:, [option.place]], labels[train])[0] >= 0
        return asked[:, option.place] if rises else -asked[:, option.place]


@dataclass(frozen=True)
class LabelFree(Learner):
    """score = mean_j direction_j * z_j; no label is looked at."""

    values: Float[np.ndarray, "sample column"]
    directions: Int[np.ndarray, " column"]
    """+1 or -1 per column, fixed in advance."""

    def options(self) -> tuple[Option, ...]:
        """One."""
        return (Option("signs fixed in advance"),)

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score with mean and deviation of the training rows."""
        asked = standardise(self.values[train], self.values[test])[1]
        return asked @ self.directions / len(self.directions)


@dataclass(frozen=True)
class TokenClassifier(Learner):
    """Classify tokens, and let an answer's risk be that of the last token it has so far.

    Every token of a training answer is a row with the answer's label.
    """

    columns: Columns
    """Of tokens, those of one answer after those of the one before."""
    answer: Int[np.ndarray, " token"]
    """Number of the answer that each token is of; each answer has at least one."""
    n_tokens: int
    """How many tokens of an answer are there."""

    def options(self) -> tuple[Option, ...]:
        """The classifiers that compete."""
        return self.columns.options()

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score each answer at its token `n_tokens`, or at its last where it is shorter."""
        rows = np.flatnonzero(np.isin(self.answer, train))
        first, end = (np.searchsorted(self.answer, test, side) for side in ("left", "right"))
        reached = np.minimum(first + self.n_tokens, end) - 1
        return self.columns.fit_predict(option, labels[self.answer], rows, reached, seed)


class Screened(NamedTuple):
    """Columns that carry something, and those that do not, with the reason."""

    kept: tuple[int, ...]
    dropped: tuple[str, ...]


def screen(table: Table, train: Known) -> Screened:
    """Find columns that say nothing, or nothing that an earlier column does not say.

    Constant or never-defined columns and those with |rho| > 0.999 to an earlier kept column are
    dropped, judged on training rows.
    """
    values = np.where(np.isfinite(table.values[train]), table.values[train], np.nan)
    same = standardise(values, values)[0]
    norms = np.linalg.norm(same, axis=0)
    rho = np.abs(same.T @ same) / np.maximum(np.outer(norms, norms), 1e-30)
    kept: list[int] = []
    dropped: list[str] = []
    for index, name in enumerate(table.names):
        column = values[:, index]
        known = column[~np.isnan(column)]
        twin = next((other for other in kept if rho[other, index] > SAME_RHO), None)
        if not known.size:
            dropped.append(f"{name}: never defined")
        elif np.ptp(known) == 0 and known.size == column.size:
            dropped.append(f"{name}: constant")
        elif twin is not None:
            dropped.append(f"{name}: same as {table.names[twin]}")
        else:
            kept.append(index)
    return Screened(tuple(kept), tuple(dropped))


def effective_rank(table: Table) -> float:
    """Say in how many directions the columns vary.

    exp of the entropy of the correlation matrix's spectrum, from 1 to the number of columns; 0
    where none varies.

    Source: Roy and Vetterli 2007.

    >>> column = np.array([[0.0], [1.0], [0.0], [1.0]])
    >>> other = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> round(effective_rank(Table(("a", "b", "c"), np.hstack([column, 2 * column, other]))), 3)
    1.89
    """
    z = standardise(table.values, table.values)[0]
    spectrum = np.linalg.svd(z, compute_uv=False) ** 2
    return float(np.exp(entr(spectrum / spectrum.sum()).sum())) if spectrum.any() else 0.0


def standardise(
    known: Float[np.ndarray, "known column"], asked: Float[np.ndarray, "asked column"]
) -> tuple[Float[np.ndarray, "known column"], Float[np.ndarray, "asked column"]]:
    """Give both the mean 0 and deviation 1 of the first; what is not finite becomes the mean."""
    center, scale = moments(known)
    return z(known, center, scale), z(asked, center, scale)


def moments(known: Float[np.ndarray, "known column"]) -> tuple[PerColumn, PerColumn]:
    """Measure mean and deviation of what is finite; a deviation of 0 counts as 1."""
    defined = np.isfinite(known)
    n = np.maximum(defined.sum(axis=0), 1)
    center = np.where(defined, known, 0.0).sum(axis=0) / n
    spread = np.sqrt((np.where(defined, known - center, 0.0) ** 2).sum(axis=0) / n)
    return center, np.where(spread > 0, spread, 1.0)


def safe_logit(prob: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Log-odds, finite at 0 and 1."""
    return logit(np.clip(prob.astype(np.float64), LEAST_PROB, 1 - LEAST_PROB))


def z(
    values: Float[np.ndarray, "rows column"], center: PerColumn, scale: PerColumn
) -> Float[np.ndarray, "rows column"]:
    """Standardise, and cut at `MOST_Z`; what is not finite becomes the mean."""
    standardised = np.where(np.isfinite(values), (values - center) / scale, 0.0)
    return np.clip(standardised, -MOST_Z, MOST_Z)


def fit_classifier(option: Option, values: Values, labels: RowLabels, seed: int) -> Any:  # noqa: ANN401 - scikit-learn's
    """Fit the classifier that an option of `Columns` names."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    if option.kind == "logistic":
        return fit_logistic(values, labels, option.strength)
    if option.kind == "forest":
        return RandomForestClassifier(
            n_estimators=40,
            min_samples_leaf=5,
            max_samples=max(1, int(0.3 * len(values))),
            random_state=seed,
        ).fit(values, labels)
    assert option.kind == "boosting", f"no classifier of kind {option.kind}"
    return HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=6,
        max_bins=31,
        early_stopping=False,  # pyright: ignore[reportArgumentType]
        random_state=seed,
    ).fit(values, labels)


def fit_logistic(
    values: Values, labels: RowLabels, strength: float, solver: str = "newton-cholesky"
) -> Any:  # noqa: ANN401 - scikit-learn's
    """Fit a logistic regression; where Newton's steps end in rounding, L-BFGS goes on from there.

    They do so where the start is the optimum already (scores without information, as many right
    answers as wrong ones), or where columns are collinear. Whether rounding decides is the
    machine's affair: scikit-learn's word on it is kept from users, one on L-BFGS failing is not.
    """
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NEWTON_GOES_ON)
        return LogisticRegression(C=strength, solver=solver, max_iter=1000).fit(values, labels)


class LinearWeights(NamedTuple):
    """score = intercept + sum_j coef_j z_j."""

    coef: PerColumn
    intercept: float


def fit_weights(option: Option, z: Values, labels: RowLabels) -> LinearWeights:
    """Weigh standardised columns.

    `mean`: the mean of what each column says by itself, in log-odds; one that says nothing, or
    falls with hallucination, says 0. `lead`: a logistic regression whose penalty spares the column
    that tells best: the stronger it is, the closer the score comes to that column alone.
    """
    if option.kind == "mean":
        alone = [fit_logistic(column[:, None], labels, WEAK_PENALTY) for column in z.T]
        coef = np.array([max(float(one.coef_[0, 0]), 0.0) for one in alone]) / len(alone)
        return LinearWeights(coef, float(np.mean([np.ravel(one.intercept_)[0] for one in alone])))
    assert option.kind == "lead", f"no weights of kind {option.kind}"
    best = int(np.argmax(np.abs(separation(z, labels))))
    model = fit_logistic(np.column_stack([z, LEAD * z[:, best]]), labels, option.strength)
    coef = model.coef_[0, :-1].astype(np.float64)
    coef[best] += LEAD * model.coef_[0, -1]
    return LinearWeights(coef, float(np.ravel(model.intercept_)[0]))


def separation(values: Values, labels: RowLabels) -> PerColumn:
    """Give each column's AUROC, less a half: above 0 where it rises with hallucination."""
    from scipy.stats import rankdata

    ranks, hallucinated = rankdata(values, axis=0), labels == 1
    apart = ranks[hallucinated].mean(axis=0) - ranks[~hallucinated].mean(axis=0)
    return apart / len(values)
