import numpy as np
import pytest

from ghosttrack.detector.learners.fitted import scores, values_of
from ghosttrack.detector.learners.ridge import inner_products
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.fitting import fit_whole
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.spec import PLACES
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
    both, alone = (one.fitted for one in fit_whole(data, NAMES, 0, n_jobs=1))
    assert (both.name, alone.name) == ("lens+output", "output")
    assert both.columns == (
        *("lens:told", "lens:noise", "output:mean_logprob", "output:mean_entropy"),
    )
    assert alone.columns == ("output:mean_logprob", "output:mean_entropy")
    assert both.prevalence == pytest.approx(data.answers.labels.mean())


def test_a_fitted_detector_holds_on_new_answers_its_probability_too():
    ((one, *_),) = fit_whole(made_up(), ("lens+output",), 0, n_jobs=1)
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
    first, again = (fit_whole(made_up(), ("lens+output",), 3, n_jobs=1)[0].fitted for _ in range(2))
    np.testing.assert_array_equal(scores(first.scorer, values), scores(again.scorer, values))
    assert first.threshold == again.threshold


def fused_data(n: int = 600) -> EvaluationData:
    """Output scores and a residual stream, each of which tells a part."""
    data = made_up(n)
    streams = np.random.default_rng(2).normal(size=(3, 2, n, 12)).astype(np.float32)
    streams[:, 1, :, 3] += 1.5 * data.answers.labels
    states = dict(zip(PLACES, streams, strict=True))
    grams = {place: inner_products(held) for place, held in states.items()}
    return data._replace(states=states, grams=grams, layers=(4, 9))


def test_a_fused_detector_comes_first_with_the_parts_that_it_is_scored_by():
    data = fused_data()
    found = [one.fitted for one in fit_whole(data, ("output", "probe+output"), 0, n_jobs=1)]
    names = [one.name for one in found]
    assert names[:2] == ["probe+output", "output"]
    assert names[2:] == ["probe_states"]
    probe = next(one for one in found if one.name == "probe_states")
    assert "states:answer_last/9/3" in probe.columns
    units = tuple(column.removeprefix("states:") for one in found for column in one.columns
                  if column.startswith("states:"))  # fmt: skip
    told = [data.states[place][data.layers.index(int(layer)), :, int(at)]
            for place, layer, at in (unit.split("/") for unit in units)]  # fmt: skip
    states = Table(units, np.column_stack(told).astype(np.float64))
    tables = {"output": data.answers.output, "states": states}
    values = values_of(found, tables)
    scored = {one.name: one.prob(values[one.name]) for one in found}
    labels = data.answers.labels
    both, alone = (plain_auroc(labels, scored[name]) for name in ("probe+output", "output"))
    assert both > alone + 0.05
    lacking = values_of(found, {"output": data.answers.output})
    assert found[0].lacks(lacking["probe+output"]).all()
    assert not found[1].lacks(lacking["output"]).any()
