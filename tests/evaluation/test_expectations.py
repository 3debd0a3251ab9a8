import numpy as np
from joblib import Parallel

from ghosttrack.detector.table import Table
from ghosttrack.evaluation.bootstrap import resample
from ghosttrack.evaluation.expectations import expectations

N_GROUPS, N_EACH, N_COLUMNS = 60, 20, 100


def held(columns, labels, groups, direction: int = 1):
    names = tuple(f"c{at}" for at in range(columns.shape[1]))
    return expectations(
        {"t": Table(names, columns)},
        dict.fromkeys(names, direction),
        labels,
        resample(groups, 200, 0),
        Parallel(n_jobs=1),
    )


def test_what_entities_have_by_chance_is_not_shown():
    """Sixty entities of twenty answers each say no more than sixty answers, of a hundred columns
    five lie two standard errors from 0.5, and each by itself would be a finding."""
    generator = np.random.default_rng(0)
    of = np.repeat(np.arange(N_GROUPS), N_EACH)
    labels = generator.integers(0, 2, N_GROUPS)[of]
    columns = generator.normal(size=(N_GROUPS, N_COLUMNS))[of]
    found = held(columns, labels, of.astype(str).tolist())
    assert {one.verdict for one in found} == {"not shown"}
    beyond = [one for one in found if not one.ci.low <= 0.5 <= one.ci.high]
    assert 1 <= len(beyond) <= 15


def test_a_real_statistic_holds_or_fails_among_meaningless_ones_and_an_unknown_one_has_no_test():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 600)
    columns = generator.normal(size=(600, N_COLUMNS))
    columns[:, 7] += 0.5 * labels
    columns[:, 8] = np.where(labels == 1, 1.0, np.nan)
    groups = [str(one) for one in range(600)]
    for direction, verdict in ((1, "holds"), (-1, "fails")):
        found = {one.statistic: one for one in held(columns, labels, groups, direction)}
        assert found["c7"].verdict == verdict
        assert found["c7"].ci.low < found["c7"].auroc < found["c7"].ci.high
        assert [name for name, one in found.items() if one.verdict != "not shown"] == ["c7"]
        assert "c8" not in found
    assert held(columns, labels, groups, 0) == ()
