import numpy as np
import pytest
from sklearn.linear_model import Ridge

from ghosttrack.detector.learners import ridge as ridge_module
from ghosttrack.detector.learners.baselines import StateProbe
from ghosttrack.detector.learners.classifiers import (
    FUSED,
    SHRUNK,
    BestColumn,
    Columns,
    Option,
    fit_weights,
    standardise,
    z,
)
from ghosttrack.detector.learners.kernel_ridge import Gram
from ghosttrack.detector.learners.ridge import RidgeProbe, inner_products, quartiles
from ghosttrack.evaluation.crossfit import fit_fold
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.splits import Fold

N_TEST = 3000


def drawn(n_right: int, seed: int, gains: tuple[float, ...], shared: float):
    """Five wrong training answers to a right one; columns share noise, and rise with label."""
    generator = np.random.default_rng(seed)
    n = 6 * n_right
    labels = np.concatenate([np.arange(n) >= n_right, np.arange(N_TEST) % 2 == 0]).astype(np.int64)
    labels[:n] = generator.permutation(labels[:n])
    noise = np.sqrt(1 - shared) * generator.normal(size=(n + N_TEST, len(gains)))
    common = np.sqrt(shared) * generator.normal(size=(n + N_TEST, 1))
    values = labels[:, None] * np.array(gains) + noise + common
    return values, labels, Fold(0, np.arange(n), np.arange(n, n + N_TEST), np.arange(n) % 3)


def judged(learner, labels, fold: Fold) -> float:
    return plain_auroc(labels[fold.test], fit_fold(learner, labels, fold, 0).prob)


@pytest.mark.parametrize("n_right", [50, 100, 300])
@pytest.mark.parametrize(
    ("gains", "shared"), [((1.0, *[0.0] * 9), 0.0), ((1.0,) * 10, 0.9)], ids=["one tells", "all do"]
)
def test_a_shrunk_regression_does_not_lose_to_its_best_column(n_right, gains, shared):
    differences = []
    for seed in range(8):
        values, labels, fold = drawn(n_right, seed, gains, shared)
        best = BestColumn(values, tuple(map(str, range(10))))
        shrunk = Columns(values, SHRUNK)
        differences.append(judged(shrunk, labels, fold) - judged(best, labels, fold))
    # One test set of 1,500 against 1,500 tells a difference of like scores to .004, eight to .0015.
    assert np.mean(differences) > -0.003


def test_a_shrunk_regression_takes_what_many_columns_tell():
    values, labels, fold = drawn(100, 0, (1.0, *[0.6] * 9), 0.2)
    best = BestColumn(values, tuple(map(str, range(10))))
    assert judged(Columns(values, SHRUNK), labels, fold) > judged(best, labels, fold) + 0.03


def test_the_strongest_penalty_leaves_the_best_column_alone():
    values, labels, fold = drawn(100, 0, (0.3, 1.5, 0.3), 0.0)
    z = standardise(values[fold.train], values)[0]
    coef, _ = fit_weights(SHRUNK[0], z, labels[fold.train])
    assert np.abs(coef[[0, 2]]).max() < 0.02 * coef[1]


def test_the_mean_of_log_odds_is_that_of_each_score_and_leaves_out_what_falls():
    values, labels, fold = drawn(300, 0, (1.0, 2.0, -1.0), 0.0)
    z = standardise(values[fold.train], values)[0]
    coef, _ = fit_weights(FUSED[0], z, labels[fold.train])
    alone = [fit_weights(FUSED[0], z[:, [at]], labels[fold.train]).coef[0] for at in range(3)]
    np.testing.assert_allclose(coef, np.array(alone) / 3)
    assert coef[1] > coef[0] > 0
    assert coef[2] == 0


def planted(n: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and two places of three layers; 100 of 250 directions of one tell a little each."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, n)
    streams = generator.normal(size=(2, 3, n, 250)).astype(np.float32)
    streams[1, 1, :, :100] += 0.2 * labels[:, None]
    streams[1, 1, 0] = 1e5  # one answer beyond the range of fp16 does not rule
    return labels, streams


def ridge_probe(streams: np.ndarray) -> RidgeProbe:
    named = dict(zip(("prompt_last", "answer_last"), streams, strict=False))
    return RidgeProbe(named, (0, 4, 8), Gram.mean([inner_products(one) for one in streams]))


def test_a_probe_of_many_dimensions_learns_from_few_answers():
    labels, streams = planted()
    fold = Fold(0, np.arange(300), np.arange(300, 1200), np.arange(300) % 3)
    # d' = 2, AUROC .92 with all answers there are; of 300, .80 where the layer is known.
    of_one = fit_fold(StateProbe(streams[1], (0, 4, 8)), labels, fold, 0)
    assert of_one.option.label.startswith("layer 4, C=")
    assert plain_auroc(labels[fold.test], of_one.prob) > 0.75
    of_all = fit_fold(ridge_probe(streams[1:]), labels, fold, 0)
    assert plain_auroc(labels[fold.test], of_all.prob) > 0.7


@pytest.mark.parametrize(("ridge", "width"), [(0.1, 250), (10.0, 250), (0.1, 6), (10.0, 6)])
def test_a_ridge_probe_solves_the_regression_of_its_columns(ridge, width, monkeypatch):
    if width == 6:  # 36 columns in all, which 66 of the answers span, those among 50 too
        monkeypatch.setattr(ridge_module, "MOST_DUAL", 79)
        monkeypatch.setattr(ridge_module, "LANDMARKS", 66)
    labels, streams = planted(80)
    streams = streams[..., :width]
    probe, train, test = ridge_probe(streams), np.arange(50), np.arange(50, 80)
    option = Option("", strength=ridge)
    found = probe.fit_predict(option, labels, train, test, 0)
    values = probe.values()
    columns = z(values, *quartiles(values)) / np.sqrt(values.shape[1])
    wanted = Ridge(ridge).fit(columns[train], labels[train] - labels[train].mean())
    expected = wanted.predict(columns[test]) - wanted.predict(columns[train]).mean()
    atol = 1e-3 if width == 6 else 1e-4
    np.testing.assert_allclose(found, expected, atol=atol)
    weights, intercept = probe.weigh(option, labels)
    everything = probe.fit_predict(option, labels, np.arange(80), np.arange(80), 0)
    kept = z(values, *quartiles(values)) @ weights + intercept
    np.testing.assert_allclose(kept, everything, atol=atol)
    assert len(probe.gram.rows) == (66 if width == 6 else 80)
    used = probe.gram.rows[probe.gram.fit(labels, train, ridge).places]
    assert {*used} <= {*train}, "an answer that is asked about is looked through"
    assert probe.names()[width * 3 + width * 2 + 5] == "states:answer_last/8/5"


def test_by_landmarks_too_every_answer_stands_for_another(monkeypatch):
    _, (streams, _) = planted(80)
    monkeypatch.setattr(ridge_module, "MOST_DUAL", 100)
    everyone = inner_products(streams).values
    monkeypatch.setattr(ridge_module, "MOST_DUAL", 79)
    monkeypatch.setattr(ridge_module, "LANDMARKS", 20)
    others = np.random.default_rng(3).permutation(80)
    found = inner_products(streams).of_others(others)
    wanted = everyone[np.ix_(others, others)][:, found.rows]
    np.testing.assert_allclose(found.values, wanted, atol=1e-4)
