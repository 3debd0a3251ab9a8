import numpy as np
import pytest
from scipy.special import expit

from ghosttrack.detector.learners.calibration import calibrate, threshold
from ghosttrack.evaluation.bootstrap import once
from ghosttrack.evaluation.scores import score, tabulate


def drawn(n: int, seed: int, truth):
    """Scores, labels drawn from the true probability of each, and inner folds."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=n)
    labels = (generator.random(n) < truth(scores)).astype(np.int64)
    return scores, labels, generator.integers(0, 3, n)


def ece(labels, prob) -> float:
    return float(score(tabulate(labels, prob, prob > 0.5), once(len(labels))).ece[0])


def steps(scores):
    """A shape that no logistic curve has."""
    return np.where(scores < 0, 0.15, np.where(scores < 1, 0.25, 0.95))


@pytest.mark.parametrize(
    ("truth", "name"), [(lambda s: expit(2 * s - 1), "Platt"), (steps, "isotonic")]
)
def test_the_better_calibration_is_chosen_and_holds_on_new_answers(truth, name: str):
    fitted = calibrate(*drawn(3000, 0, truth))
    scores, labels, _ = drawn(20_000, 1, truth)
    assert fitted.name == name
    assert ece(labels, fitted.prob(scores)) < 0.03
    assert ece(labels, expit(scores)) > 0.08


@pytest.mark.parametrize("truth", [lambda s: expit(s), steps])
def test_calibration_ties_no_two_scores(truth):
    fitted = calibrate(*drawn(500, 0, truth))
    scores = np.linspace(-3, 3, 200)
    prob = fitted.prob(scores)
    assert (np.diff(prob) > 0).all()
    assert prob.min() > 0
    assert prob.max() < 1


def test_a_detector_that_is_wrong_in_training_is_not_turned_round():
    fitted = calibrate(*drawn(500, 0, lambda s: expit(-2 * s)))
    low, high = fitted.prob(np.array([-1.0, 1.0]))
    assert low < high


def test_equal_scores_give_the_base_rate():
    labels = np.array([1, 1, 1, 0] * 15)
    fitted = calibrate(np.full(60, 3.0), labels, np.arange(60) % 3)
    assert fitted.prob(np.array([3.0]))[0] == pytest.approx(0.75, abs=0.01)


def test_separable_scores_stay_finite():
    labels = np.array([0, 1] * 30)
    fitted = calibrate(labels * 2.0, labels, np.arange(60) % 3)
    assert np.isfinite(fitted.prob(np.array([0.0, 2.0, 50.0]))).all()


def test_threshold_by_hand():
    # Calling 0.6 and 0.9 hallucinated catches both of two and one of three right answers:
    # balanced accuracy (1 + 2/3) / 2; from 0.9 on it is (1/2 + 1) / 2.
    labels, prob = np.array([0, 0, 1, 0, 1]), np.array([0.1, 0.3, 0.6, 0.7, 0.9])
    assert threshold(prob, labels) == 0.6
