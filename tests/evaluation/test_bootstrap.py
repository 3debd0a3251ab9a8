import numpy as np

from ghosttrack.evaluation.bootstrap import interval, once, resample
from ghosttrack.evaluation.result import UNDEFINED
from ghosttrack.evaluation.scores import plain_auroc, score, tabulate


def sample(n: int, n_groups: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    prob = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.2 * generator.normal(size=n), 0, 1)
    return labels, prob, [f"g{one}" for one in generator.integers(n_groups, size=n)]


def test_a_draw_takes_as_many_groups_as_there_are_and_whole_ones():
    _, _, groups = sample(100, 30)
    resamples = resample(groups, 50, seed=1)
    assert (resamples.counts.sum(axis=1) == len(set(groups))).all()
    assert len(set(zip(groups, resamples.group_of.tolist(), strict=True))) == len(set(groups))


def test_every_resampled_auroc_is_that_of_the_rows_drawn():
    labels, prob, groups = sample(80, 25)
    resamples = resample(groups, 20, seed=0)
    ours = score(tabulate(labels, prob, prob > 0.5), resamples).auroc
    weights = resamples.counts[:, resamples.group_of]
    for value, w in zip(ours, weights, strict=True):
        rows = np.repeat(np.arange(80), w)
        np.testing.assert_allclose(value, plain_auroc(labels[rows], prob[rows]), atol=1e-12)


def test_means_are_those_of_the_rows_drawn():
    generator = np.random.default_rng(0)
    values = generator.normal(size=60)
    values[::9] = np.nan
    resamples = resample([f"g{one}" for one in generator.integers(20, size=60)], 30, 0)
    weights = resamples.counts[:, resamples.group_of]
    for mean, w in zip(resamples.mean(values), weights, strict=True):
        np.testing.assert_allclose(mean, np.nanmean(np.repeat(values, w)))
    assert once(60).mean(values) == np.nanmean(values)


def test_clusters_of_copies_widen_the_interval():
    # Every answer 9 times under one group: 9 times the rows, and no more evidence.
    labels, prob, _ = sample(100, 100)
    names = [str(index) for index in range(100)]
    alone = interval(score(tabulate(labels, prob, prob > 0.5), resample(names, 500, 0)).auroc)
    labels, prob, names = np.repeat(labels, 9), np.repeat(prob, 9), names * 9
    names = [str(index // 9) for index in range(900)]
    copied = interval(score(tabulate(labels, prob, prob > 0.5), resample(names, 500, 0)).auroc)
    assert abs((copied.high - copied.low) / (alone.high - alone.low) - 1) < 1e-9


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # AUROC of N(1, 1) against N(0, 1) is 0.7602; 95 % intervals of 40 samples miss it twice on
    # average, more than 8 times once in 5,000.
    missed = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, 150)
        prob = labels + generator.normal(size=150)
        resamples = resample([str(one) for one in range(150)], 150, seed)
        low, high = interval(score(tabulate(labels, prob, prob > 0.5), resamples).auroc)
        missed += not low <= 0.7602 <= high
    assert missed <= 8


def test_few_undefined_resamples_are_left_out_and_many_leave_no_interval():
    values = np.linspace(0, 1, 1000)
    values[:40] = np.nan
    assert np.isfinite(interval(values)).all()
    values[:60] = np.nan
    assert interval(values) is UNDEFINED
