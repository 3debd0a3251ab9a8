import numpy as np
import pytest

from ghosttrack.detector.learners.fitted import scores
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.fitting import fit_whole
from ghosttrack.evaluation.scores import plain_auroc
from tests.support.answers import made_up_answers

NAMES = ("interventions+output", "lens+output", "output")


def made_up(n: int = 600) -> EvaluationData:
    """A lens that tells, with one column that is constant and one twin."""
    answers = made_up_answers(n, n // 3)
    generator = np.random.default_rng(1)
    told = answers.labels + generator.normal(size=n)
    lens = np.column_stack([told, np.ones(n), 2 * told, generator.normal(size=n)])
    tables = {"output": answers.output, "lens": Table(("told", "flat", "twin", "noise"), lens)}
    return EvaluationData(answers=answers, tables=tables, forwards={})


def test_detectors_that_the_data_can_feed_are_fitted_on_columns_that_tell():
    data = made_up()
    both, alone = fit_whole(data, NAMES, 0, n_jobs=1)
    assert (both.name, alone.name) == ("lens+output", "output")
    assert both.columns == (
        *("lens:told", "lens:noise", "output:mean_logprob", "output:mean_entropy"),
    )
    assert alone.columns == ("output:mean_logprob", "output:mean_entropy")
    assert both.prevalence == pytest.approx(data.answers.labels.mean())


def test_a_fitted_detector_holds_on_new_answers_its_probability_too():
    (one,) = fit_whole(made_up(), ("lens+output",), 0, n_jobs=1)
    fresh = made_up_answers(2000, 700, seed=5)
    told = fresh.labels + np.random.default_rng(6).normal(size=2000)
    lens = Table(("told", "noise"), np.column_stack([told, np.zeros(2000)]))
    values = one.values({"lens": lens, "output": fresh.output})
    assert not one.lacks(values).any()
    prob = one.prob(values)
    assert plain_auroc(fresh.labels, prob) > 0.85
    assert prob.mean() == pytest.approx(fresh.labels.mean(), abs=0.05)
    flagged = prob >= one.threshold
    hits, alarms = flagged[fresh.labels == 1].mean(), flagged[fresh.labels == 0].mean()
    assert hits - alarms > 0.5


def test_the_same_seed_gives_the_same_detector():
    values = np.random.default_rng(0).normal(size=(50, 4))
    first, again = (fit_whole(made_up(), ("lens+output",), 3, n_jobs=1)[0] for _ in range(2))
    np.testing.assert_array_equal(scores(first.scorer, values), scores(again.scorer, values))
    assert first.threshold == again.threshold
