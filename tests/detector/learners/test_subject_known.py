import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import ttest_ind

from ghosttrack.detector.learners.baselines import SubjectKnown, t_statistics
from ghosttrack.detector.learners.classifiers import Option

N = 600
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 2
RELATIONS = np.arange(N) // 2 % 3


def acts(*shifts: tuple[float, ...]) -> csr_array:
    """A latent per triple: noise, less where the answer is right by so much in each relation."""
    noise = np.random.default_rng(1).normal(3.0, 1.0, size=(N, len(shifts)))
    return csr_array(noise + np.array(shifts).T[RELATIONS] * LABELS[:, None])


def test_statistics_are_those_of_welch_in_every_relation():
    table = acts((1.0, 0.0, -1.0), (0.2, 0.2, 0.2))
    t = t_statistics(table, LABELS, RELATIONS)
    assert t.shape == (3, 2)
    for relation in range(3):
        rows = table.toarray()[relation == RELATIONS]
        wrong = LABELS[relation == RELATIONS] == 1
        wanted = ttest_ind(rows[wrong], rows[~wrong], equal_var=False)[0]
        np.testing.assert_allclose(t[relation], wanted, rtol=0.01)


def test_a_relation_with_few_answers_of_a_label_has_no_say():
    relations = np.where(np.arange(N) < 12, 7, RELATIONS)
    assert len(t_statistics(acts((0.0, 0.0, 0.0)), LABELS, relations)) == 3
    assert len(t_statistics(acts((0.0, 0.0, 0.0)), LABELS, np.arange(N))) == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_what_separates_everywhere_goes_before_what_separates_most_somewhere(sign: int):
    everywhere, somewhere = (0.7 * sign,) * 3, (4.0, -4.0, 4.0)
    learner = SubjectKnown((acts(somewhere, everywhere, (0.0, 0.0, 0.0)),), (0,), RELATIONS)
    train, test = np.arange(0, 400), np.arange(400, N)
    (option,) = learner.options()
    one = learner.fit_predict(option._replace(strength=1), LABELS, train, test, 0)
    alone = sign * learner.acts[0][test].toarray()[:, 1]
    assert np.corrcoef(one, alone)[0, 1] == pytest.approx(1)


def test_labels_that_are_asked_about_are_not_looked_at():
    learner = SubjectKnown((acts((0.7, 0.7, 0.7), (0.0, 0.0, 0.0)),), (3,), RELATIONS)
    train, test = np.arange(0, 400), np.arange(400, N)
    turned = np.where(np.arange(N) < 400, LABELS, 1 - LABELS)
    one, other = (
        learner.fit_predict(Option("", strength=2), labels, train, test, 0)
        for labels in (LABELS, turned)
    )
    np.testing.assert_array_equal(one, other)


def test_latents_that_never_vary_say_nothing():
    learner = SubjectKnown((csr_array((N, 5)),), (0,), RELATIONS)
    train, test = np.arange(0, 400), np.arange(400, N)
    scores = learner.fit_predict(learner.options()[0], LABELS, train, test, 0)
    np.testing.assert_array_equal(scores, 0)
