from typing import NamedTuple

import numpy as np
import pytest

from ghosttrack.detector.learners.classifiers import LINEAR, Columns, Option
from ghosttrack.evaluation.crossfit import assemble, fit_fold, stacked_column
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.splits import grouped_folds, nested_folds

N = 300


def sample(seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, N)
    values = generator.normal(size=(N, 3))
    values[:, 0] += 1.5 * labels
    groups = [f"g{one}" for one in generator.integers(100, size=N)]
    texts = [str(index) for index in range(N)]
    return (
        values,
        labels,
        nested_folds(grouped_folds(labels, groups, texts, 4, 0), labels, groups, 0),
    )


class Spy(NamedTuple):
    """Remembers what it was asked to learn from and to score."""

    calls: list[tuple[set[int], set[int]]]

    def options(self):
        return (Option("first"), Option("second"))

    def refine(self, option: Option):
        return (Option(f"{option.label}, refined"),)

    def fit_predict(self, option: Option, labels, train, test, seed):
        self.calls.append((set(train.tolist()), set(test.tolist())))
        # "second" knows the labels, so that it must be chosen; the others are hopeless.
        return labels[test] * 1.0 if option.label == "second" else np.zeros(len(test))


def test_choices_are_made_without_the_held_out_rows():
    _, labels, folds = sample()
    spy = Spy([])
    fit = fit_fold(spy, labels, folds[0], 0)
    held_out = set(folds[0].test.tolist())
    assert fit.option.label == "second"
    # Three inner folds of the second option, one each of the others, and the last fit.
    assert len(spy.calls) == 3 + 1 + 1 + 1
    for train, test in spy.calls[:-1]:
        assert not held_out & (train | test)
        assert not train & test
    assert spy.calls[-1] == (set(folds[0].train.tolist()), held_out)


def test_labels_of_the_held_out_rows_change_no_probability():
    values, labels, folds = sample()
    other = labels.copy()
    other[folds[1].test] = 1 - other[folds[1].test]
    one, two = (fit_fold(Columns(values, LINEAR), some, folds[1], 0) for some in (labels, other))
    np.testing.assert_array_equal(one.prob, two.prob)
    np.testing.assert_array_equal(one.flagged, two.flagged)


def test_every_answer_is_scored_once_by_a_fold_that_held_it_out():
    values, labels, folds = sample()
    fits = [fit_fold(Columns(values, LINEAR), labels, fold, 0) for fold in folds]
    whole = assemble(fits, folds, N)
    for fit, fold in zip(fits, folds, strict=True):
        np.testing.assert_array_equal(whole.prob[fold.test], fit.prob)
    assert plain_auroc(labels, whole.prob) == pytest.approx(0.856, abs=0.05)
    assert len(whole.chosen) == len(folds)


def test_a_stack_learns_from_scores_that_never_saw_their_row():
    # Noise of 60 columns: in-sample scores would tell labels apart, out-of-fold ones do not.
    _, labels, folds = sample()
    noise = np.random.default_rng(1).normal(size=(N, 60))
    fit = fit_fold(Columns(noise, LINEAR[1:]), labels, folds[0], 0)
    column = stacked_column(fit, folds[0], N)
    assert plain_auroc(labels[folds[0].train], column[folds[0].train]) < 0.6
    in_sample = Columns(noise).fit_predict(LINEAR[1], labels, *[folds[0].train] * 2, 0)
    assert plain_auroc(labels[folds[0].train], in_sample) > 0.7


def test_a_given_option_is_not_chosen_again():
    values, labels, folds = sample()
    fit = fit_fold(Columns(values), labels, folds[0], 0, LINEAR[0])
    assert fit.option == LINEAR[0]
