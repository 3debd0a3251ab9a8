import numpy as np
import pytest
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import LogisticRegression

from ghosttrack.detector.learners.classifiers import (
    BestColumn,
    Columns,
    LabelFree,
    Option,
    fit_logistic,
    screen,
    standardise,
)
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.scores import plain_auroc
from tests.detector.learners.options import TABULAR

TRAIN, TEST = np.arange(300), np.arange(300, 500)


def sample(seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 500)
    values = generator.normal(size=(500, 4))
    values[:, 2] -= 1.5 * labels
    return values, labels


@pytest.mark.parametrize("option", TABULAR, ids=lambda option: option.label)
def test_labels_of_test_rows_are_not_looked_at(option: Option):
    values, labels = sample()
    other = labels.copy()
    other[TEST] = 1 - other[TEST]
    learner = Columns(values)
    np.testing.assert_array_equal(
        learner.fit_predict(option, labels, TRAIN, TEST, 0),
        learner.fit_predict(option, other, TRAIN, TEST, 0),
    )


def test_where_newton_s_steps_fail_the_fit_goes_on_without_a_word():
    values, labels = sample()
    twins = np.hstack([values, values])
    with pytest.warns(LinAlgWarning, match="resort to lbfgs"):
        LogisticRegression(C=1e20, solver="newton-cholesky").fit(twins, labels)
    scores = fit_logistic(twins, labels, 1e20).decision_function(twins)
    wanted = fit_logistic(values, labels, 1e20).decision_function(values)
    np.testing.assert_allclose(scores, wanted, atol=0.01)


def test_the_best_column_is_turned_by_the_training_rows():
    values, labels = sample()
    learner = BestColumn(values, ("a", "b", "c", "d"))
    scores = learner.fit_predict(learner.options()[2], labels, TRAIN, TEST, 0)
    assert plain_auroc(labels[TEST], scores) == plain_auroc(labels[TEST], -values[TEST, 2])


def test_label_free_is_blind_to_labels():
    values, labels = sample()
    learner = LabelFree(values[:, :3], np.array([1, -1, -1]))
    (option,) = learner.options()
    scores = learner.fit_predict(option, labels, TRAIN, TEST, 0)
    assert plain_auroc(labels[TEST], scores) > 0.65
    np.testing.assert_array_equal(scores, learner.fit_predict(option, 1 - labels, TRAIN, TEST, 0))


def test_label_free_by_hand():
    # Training columns (0, 2) and (1, 5): mean 1 and 3, deviation 1 and 2; the row (3, 3) is
    # (+2, 0) deviations off, with signs +1 and -1 its score is (2 - 0) / 2.
    values = np.array([[0.0, 1.0], [2.0, 5.0], [3.0, 3.0]])
    learner = LabelFree(values, np.array([1, -1]))
    train, test = np.array([0, 1]), np.array([2])
    assert learner.fit_predict(Option(""), np.array([0, 1, 0]), train, test, 0) == pytest.approx(1)


def test_screening_names_every_column_that_says_nothing_new():
    values = np.column_stack(
        [
            np.arange(6.0),
            np.full(6, 2.0),
            np.full(6, np.nan),
            -3 * np.arange(6.0) + 1,
            [0, 1, 0, 1, 0, np.inf],
        ]
    )
    kept, dropped = screen(Table(("a", "b", "c", "d", "e"), values), np.arange(6))
    assert kept == (0, 4)
    assert dropped == ("b: constant", "c: never defined", "d: same as a")


def test_screening_only_looks_at_training_rows():
    values = np.column_stack([[1.0, 1.0, 5.0], [1.0, 2.0, 3.0]])
    assert screen(Table(("a", "b"), values), np.array([0, 1])).dropped == ("a: constant",)


def test_standardising_takes_the_mean_for_what_is_not_finite():
    known, asked = standardise(np.array([[1.0], [3.0], [np.nan]]), np.array([[np.inf], [5.0]]))
    np.testing.assert_allclose(known[:, 0], [-1, 1, 0])
    np.testing.assert_allclose(asked[:, 0], [0, 3])
