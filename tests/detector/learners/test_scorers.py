import numpy as np
import pytest

from ghosttrack.detector.learners.classifiers import FUSED, MOST_LOGIT, SHRUNK, Columns, Option
from ghosttrack.detector.learners.fitted import Linear, Trees, fit_scorer, scores
from ghosttrack.evaluation.scores import plain_auroc
from tests.detector.learners.options import TABULAR

TRAIN, TEST = np.arange(400), np.arange(400, 900)


def sample(seed: int = 0, holes: bool = True):
    """Columns of which two tell, with holes that tell too, single precision feels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 900)
    values = generator.normal(size=(900, 4))
    values[:, 1] += labels
    values[:, 2] = 1e4 + 1e-2 * (values[:, 2] - 1.5 * labels)
    if holes:
        values[generator.random((900, 4)) < 0.1] = np.nan
        values[(labels == 1) & (generator.random(900) < 0.3), 3] = np.nan
    return values, labels


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("option", [*TABULAR, *SHRUNK, *FUSED], ids=lambda option: option.label)
def test_parameters_alone_score_as_the_learner_does(option: Option, holes: bool):
    values, labels = sample(holes=holes)
    if not holes:
        values[TEST[::5], 1] = np.nan  # a hole that training never saw
    wanted = Columns(values).fit_predict(option, labels, TRAIN, TEST, 0)
    learned = fit_scorer(option, values[TRAIN], labels[TRAIN], 0)
    found = scores(learned, values[TEST])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    assert np.abs(found).max() <= MOST_LOGIT
    least = 0.65 if option == FUSED[0] else 0.75  # the mean leaves out the column that falls
    assert plain_auroc(labels[TEST], wanted) > least


@pytest.mark.parametrize("option", TABULAR, ids=lambda option: option.label)
def test_what_the_columns_add_and_the_base_make_the_score(option: Option):
    values, labels = sample()
    learned = fit_scorer(option, values[TRAIN], labels[TRAIN], 0)
    base, of = learned.parts(values[TEST])
    wanted = Columns(values).fit_predict(option, labels, TRAIN, TEST, 0)
    np.testing.assert_allclose(base + of.sum(axis=1), wanted, rtol=0, atol=1e-8)
    shares = np.abs(of).mean(axis=0)
    assert shares[[1, 2]].min() > 1.5 * shares[0]  # the columns that tell, against one of noise


def test_a_tree_s_parts_by_hand():
    # Column 0 at most 1 (NaN too) leads to -1; else column 1 at most 0 to 0, beyond to 4. Three of
    # four training rows went right, half of them to each leaf: 2 there, 1.25 at the root.
    tree = Trees(
        roots=np.array([0]),
        left=np.array([1, -1, 3, -1, -1]),
        right=np.array([2, -1, 4, -1, -1]),
        column=np.array([0, 0, 1, 0, 0]),
        cut=np.array([1.0, 0.0, 0.0, 0.0, 0.0]),
        nan_left=np.array([True, False, False, False, False]),
        value=np.array([1.25, -1.0, 2.0, 0.0, 4.0]),
        start=np.array(0.5),
        is_forest=np.array(False),
    )
    base, of = tree.parts(np.array([[np.nan, 9.0], [2.0, -1.0], [2.0, np.nan]]))
    assert base == 1.75
    np.testing.assert_allclose(of, [[-2.25, 0.0], [0.75, -2.0], [0.75, 2.0]])


def test_a_linear_model_needs_one_number_per_column():
    with pytest.raises(AssertionError):
        Linear(np.zeros(2), np.ones(2), np.ones(3), np.array(0.0)).check(2)
