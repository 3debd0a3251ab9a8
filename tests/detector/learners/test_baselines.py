import numpy as np
import pytest
from scipy.sparse import csr_array

from ghosttrack.detector.learners.baselines import (
    Distance,
    Latents,
    LinearProbe,
    Words,
    exposure_table,
)
from ghosttrack.evaluation.crossfit import fit_fold
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.splits import Fold

N = 500
FOLD = Fold(0, np.arange(400), np.arange(400, N), np.arange(400) % 3)


def labels_and_noise(seed: int = 0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 2, N), generator


def test_the_probe_finds_the_layer_that_tells():
    labels, generator = labels_and_noise()
    residuals = generator.normal(size=(3, N, 12)).astype(np.float32)
    residuals[1, :, 4] += 2 * labels
    fit = fit_fold(LinearProbe(residuals, (0, 5, 9)), labels, FOLD, 0)
    assert fit.option.label.startswith("layer 5, C=")
    assert plain_auroc(labels[FOLD.test], fit.prob) > 0.85


def test_a_wide_probe_agrees_with_a_narrow_one_on_the_same_directions():
    # Columns of zeros beyond `WIDE` switch the solver and nothing else.
    labels, generator = labels_and_noise()
    narrow = generator.normal(size=(1, N, 10))
    narrow[0, :, 0] += labels
    wide = np.concatenate([narrow, np.zeros((1, N, 400))], axis=2)
    one, other = (
        LinearProbe(residuals, (0,)).fit_predict(
            LinearProbe(residuals, (0,)).options()[0], labels, FOLD.train, FOLD.test, 0
        )
        for residuals in (narrow, wide)
    )
    # L-BFGS stops at a gradient of 1e-4.
    np.testing.assert_allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("relative", [False, True])
def test_a_distance_from_right_answers_finds_the_layer_that_tells(relative: bool):
    labels, generator = labels_and_noise()
    residuals = generator.normal(size=(3, N, 12)).astype(np.float32)
    residuals[1] *= 1 + labels[:, None]  # wrong ones lie further out, in no direction
    fit = fit_fold(Distance(residuals, (0, 5, 9), relative), labels, FOLD, 0)
    assert fit.option.label == "layer 5"
    assert plain_auroc(labels[FOLD.test], fit.prob) > 0.85


def test_a_relative_distance_leaves_out_what_is_far_from_every_answer():
    labels, generator = labels_and_noise()
    residuals = generator.normal(size=(1, N, 6))
    residuals[0] *= np.exp(generator.normal(size=(N, 1)))  # far out, whatever the label
    residuals[0, :, 0] += labels
    plain, relative = (
        fit_fold(Distance(residuals, (0,), one), labels, FOLD, 0).test for one in (False, True)
    )
    assert plain_auroc(labels[FOLD.test], relative) > plain_auroc(labels[FOLD.test], plain) + 0.1


def test_labels_of_the_test_rows_change_no_distance():
    labels, generator = labels_and_noise()
    learner = Distance(generator.normal(size=(1, N, 6)), (0,), relative=True)
    flipped = labels.copy()
    flipped[FOLD.test] ^= 1
    (option,) = learner.options()
    one, other = (
        learner.fit_predict(option, given, FOLD.train, FOLD.test, 0) for given in (labels, flipped)
    )
    np.testing.assert_array_equal(one, other)


def test_sparse_latents_find_the_layer_that_tells():
    labels, generator = labels_and_noise()
    acts = generator.random((2, N, 40)) * (generator.random((2, N, 40)) < 0.1)
    acts[0, :, 7] = labels * (generator.random(N) < 0.7)
    learner = Latents(tuple(csr_array(layer) for layer in acts), (2, 4))
    fit = fit_fold(learner, labels, FOLD, 0)
    assert fit.option.label.startswith("layer 2, C=")
    assert plain_auroc(labels[FOLD.test], fit.prob) > 0.75


def test_latents_that_never_fire_tell_nothing():
    labels, _ = labels_and_noise()
    learner = Latents((csr_array((N, 40)),), (0,))
    assert plain_auroc(labels[FOLD.test], fit_fold(learner, labels, FOLD, 0).prob) == 0.5


@pytest.mark.parametrize("analyzer", ["word", "char_wb", "whole"])
def test_words_find_an_answer_that_gives_itself_away(analyzer: str):
    labels, generator = labels_and_noise()
    texts = tuple(
        ("", "certainly")[label] if generator.random() < 0.8 else "who knows" for label in labels
    )
    fit = fit_fold(Words(texts, analyzer), labels, FOLD, 0)
    assert plain_auroc(labels[FOLD.test], fit.prob) > 0.85


def test_unknown_exposure_leaves_no_table():
    assert exposure_table(np.array([3, -1])) is None


def test_exposure_counts_by_its_logarithm():
    table = exposure_table(np.array([0, 9]))
    assert table is not None
    np.testing.assert_allclose(table.column("log_exposure"), [0, np.log(10)])
