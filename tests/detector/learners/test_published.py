"""Published learners on data whose answer is known."""

import numpy as np
import pytest

from ghosttrack.detector.learners.published import (
    AdditiveLatents,
    EntropyProbe,
    Perceptron,
    best_cut,
    information,
)
from ghosttrack.evaluation.crossfit import fit_fold
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.splits import Fold

N = 400
FOLD = Fold(0, np.arange(300), np.arange(300, N), np.arange(300) % 3)


def drawn(seed: int = 0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 2, N), generator.normal(size=(2, N, 6)).astype(np.float32)


def held_out(learner, labels):
    fit = fit_fold(learner, labels, FOLD, 0)
    return fit.option.label, plain_auroc(labels[FOLD.test], fit.test)


def test_a_perceptron_finds_what_no_linear_probe_does():
    labels, residuals = drawn()
    # Wrong where two dimensions have the same sign: no direction tells it.
    residuals[1, :, 1] = np.abs(residuals[1, :, 1]) * np.sign(residuals[1, :, 0])
    residuals[1, :, 1] *= np.where(labels == 1, 1, -1)
    learner = Perceptron(residuals, (2, 5))
    (option,) = learner.refine(learner.options()[1])
    assert option.label == "layer 5, 20 epochs"
    found = learner.fit_predict(option, labels, FOLD.train, FOLD.test, 0)
    assert plain_auroc(labels[FOLD.test], found) > 0.9


def test_an_entropy_probe_never_sees_which_answers_are_wrong():
    labels, residuals = drawn()
    entropies = np.where(residuals[1, :, 3] > 0, 1.1, 0.2)
    probe = EntropyProbe(residuals, (2, 5), entropies)
    option = probe.options()[1]
    one, other = (
        probe.fit_predict(option, told, FOLD.train, FOLD.test, 0) for told in (labels, 1 - labels)
    )
    np.testing.assert_array_equal(one, other)
    assert plain_auroc((entropies[FOLD.test] > 1).astype(int), one) > 0.95
    flat = EntropyProbe(residuals, (2, 5), np.ones(N))
    assert not flat.fit_predict(option, labels, FOLD.train, FOLD.test, 0).any()


@pytest.mark.parametrize("seed", range(3))
def test_entropies_are_cut_where_the_parts_vary_least(seed: int):
    values = np.random.default_rng(seed).exponential(size=30).round(1)

    def left(cut: float) -> float:
        parts = values[values <= cut], values[values > cut]
        return sum(((one - one.mean()) ** 2).sum() for one in parts)

    every = np.unique(values)[:-1]
    assert left(best_cut(values)) == pytest.approx(min(map(left, every)))


def test_an_additive_model_bends_each_latent_and_finds_its_layer():
    labels, residuals = drawn()
    weights = np.random.default_rng(1).normal(size=(2, 6, 40)).astype(np.float32)
    biases = np.zeros((2, 40), np.float32)
    # Wrong answers lie far from 0 along one latent, on either side.
    axis = weights[0, :, 7] / np.linalg.norm(weights[0, :, 7])
    along = residuals[0] @ axis
    wanted = np.sign(along) * np.where(labels == 1, 2.0 + np.abs(along), 0.5 * np.abs(along))
    residuals[0] += (wanted - along)[:, None] * axis
    label, auroc = held_out(AdditiveLatents(residuals, (2, 5), weights, biases), labels)
    assert label.startswith("layer 2, ")
    assert auroc > 0.95


def test_information_is_that_of_scikit_learn_on_the_same_parts():
    from sklearn.metrics import mutual_info_score

    labels, residuals = drawn()
    values = residuals[0] + labels[:, None] * np.arange(6) * 0.3
    parts = (values.argsort(axis=0).argsort(axis=0)) * 8 // N
    wanted = [mutual_info_score(labels, part) for part in parts.T]
    np.testing.assert_allclose(information(values, labels), wanted, atol=1e-12)
