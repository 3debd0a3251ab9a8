from typing import NamedTuple

import numpy as np
import pytest

from ghosttrack.detector.learners.classifiers import Option
from ghosttrack.evaluation.crossfit import HOPELESS, Inner, choose
from ghosttrack.evaluation.splits import INNER_FOLDS, Fold

N = 600


class Noisy(NamedTuple):
    """Scores labels with as much noise as an option's strength says; notes what it was asked."""

    first: tuple[Option, ...]
    second: tuple[Option, ...]
    asked: list[tuple[str, int]]

    def options(self):
        return self.first

    def refine(self, option: Option):
        return self.second

    def fit_predict(self, option: Option, labels, train, test, seed):
        self.asked.append((option.label, len(test)))
        return labels[test] + option.strength * np.random.default_rng(7).normal(size=len(test))


def inner(learner: Noisy) -> Inner:
    rows = np.arange(N)
    labels = np.random.default_rng(0).integers(0, 2, N)
    return Inner(learner, labels, Fold(0, rows, rows[:0], rows % INNER_FOLDS), 0)


def test_the_option_of_highest_mean_auroc_wins_and_the_hopeless_are_tried_once():
    learner = Noisy((Option("poor", strength=4), Option("good", strength=0.3)), (), [])
    tried = choose(inner(learner))
    assert tried.option.label == "good"
    counts = {name: sum(label == name for label, _ in learner.asked) for name in ("poor", "good")}
    assert counts == {"poor": 1, "good": INNER_FOLDS}


def test_close_ones_are_tried_in_every_fold():
    learner = Noisy((Option("a", strength=1.0), Option("b", strength=1.001)), (), [])
    first, second = (inner(learner).auroc(inner(learner).scores(o, 0), 0) for o in learner.first)
    assert abs(first - second) < HOPELESS
    learner.asked.clear()
    choose(inner(learner))
    assert len(learner.asked) == 2 * INNER_FOLDS


def test_neighbours_of_the_best_compete_with_it():
    best = Option("best", strength=0.5)
    better = Noisy((best,), (Option("better", strength=0.1),), [])
    assert choose(inner(better)).option.label == "better"
    worse = Noisy((best,), (Option("worse", strength=3),), [])
    assert choose(inner(worse)).option.label == "best"
    assert sum(label == "worse" for label, _ in worse.asked) == 1


def test_out_of_fold_scores_are_those_of_models_that_did_not_see_the_row():
    learner = Noisy((Option("one", strength=0),), (), [])
    tried = choose(inner(learner))
    np.testing.assert_array_equal(tried.oof, inner(learner).labels)
    assert tried.auroc == pytest.approx(1)
