import numpy as np
import pytest

from ghosttrack.evaluation.bootstrap import resample
from ghosttrack.evaluation.crossfit import CrossFit
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.summary import (
    PREVALENCES,
    Entry,
    Subset,
    canary_result,
    difference,
    reliability,
    summarise,
)

N = 1300


def sample(seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, N)
    prob = np.clip(0.4 + 0.2 * labels + 0.2 * generator.normal(size=N), 0, 1)
    answer_prob = generator.random(N)
    groups = [f"g{one}" for one in generator.integers(600, size=N)]
    return labels, prob, answer_prob, resample(groups, 300, 0)


def entry(name: str, prob) -> Entry:
    return Entry(name, 3.0, CrossFit(prob, prob > 0.5, ()))


def confident(answer_prob) -> tuple[Subset, ...]:
    limits = {"all": -1, "p>0.5": 0.5, "p>0.8": 0.8}
    return tuple(Subset(name, answer_prob > least) for name, least in limits.items())


def test_subsets_are_those_of_confident_answers():
    labels, prob, answer_prob, resamples = sample()
    rows = [
        one.row for one in summarise(entry("a", prob), labels, confident(answer_prob), resamples)
    ]
    assert [row.subset for row in rows] == ["all", "p>0.5", "p>0.8"]
    for row, least in zip(rows, (-1, 0.5, 0.8), strict=True):
        mask = answer_prob > least
        assert row.n == mask.sum()
        assert row.auroc == pytest.approx(plain_auroc(labels[mask], prob[mask]))
        assert row.auroc_ci.low < row.auroc < row.auroc_ci.high
        for name, (low, high) in row.intervals.items():  # none misses its own number
            assert name == "ece" or low <= getattr(row, name) <= high, name
        assert row.forwards == 3
    assert rows[0].note == ""
    assert "below 500" in rows[2].note


def test_a_paired_difference_is_tighter_than_its_parts():
    labels, prob, answer_prob, resamples = sample()
    nudged = prob + 0.02 * labels
    a, b = (
        summarise(entry(name, one), labels, confident(answer_prob), resamples)[0]
        for name, one in (("a", nudged), ("b", prob))
    )
    pair = difference(a, b)
    assert pair.delta == a.row.auroc - b.row.auroc
    assert 0 < pair.ci.low < pair.delta < pair.ci.high
    assert pair.ci.high - pair.ci.low < 0.5 * (a.row.auroc_ci.high - a.row.auroc_ci.low)
    assert difference(a, a).ci == (0, 0)


def test_a_subset_of_one_label_is_said_plainly():
    labels, prob, _, resamples = sample()
    chosen = confident(np.where(labels == 0, 0.9, 0.1))
    rows = [one.row for one in summarise(entry("a", prob), labels, chosen, resamples)]
    assert rows[1].note == "right answers only: AUROC is not defined"
    assert np.isnan([rows[1].auroc, *rows[1].auroc_ci]).all()
    assert rows[1].accuracy > 0.5
    assert np.isfinite(rows[1].intervals["accuracy"]).all()


def test_an_empty_subset_has_no_numbers():
    labels, prob, _, resamples = sample()
    row = summarise(entry("a", prob), labels, confident(np.full(N, 0.1)), resamples)[2].row
    assert (row.n, row.note) == (0, "no answers")
    assert np.isnan(row.brier)


def test_one_group_has_no_interval():
    labels, prob, _, resamples = sample()
    one_group = resamples._replace(group_of=np.zeros(N, dtype=np.int64))
    row = summarise(entry("a", prob), labels, confident(np.ones(N)), one_group)[0].row
    assert row.note == "one group: no interval"
    assert np.isfinite(row.auroc)
    assert np.isnan(row.auroc_ci).all()


def test_inside_relations_their_difficulty_is_worth_nothing():
    labels, prob, _, resamples = sample()
    relation = np.random.default_rng(1).integers(5, size=N)
    known = np.where(np.isin(relation, (1, 3)), prob, 0.0)
    within = Subset("within relation", relation > 0, relation)
    (summary,) = summarise(entry("a", known), labels, (within,), resamples)
    parts = [plain_auroc(labels[relation == one], known[relation == one]) for one in (1, 2, 3, 4)]
    assert parts[1] == parts[3] == 0.5
    row = summary.row
    assert row.n == (relation > 0).sum()
    n_pairs = [np.prod(np.bincount(labels[relation == one])) for one in (1, 2, 3, 4)]
    assert row.auroc == pytest.approx(np.average(parts, weights=n_pairs))
    assert row.auroc_ci.low < row.auroc < row.auroc_ci.high
    assert summary.aurocs.shape == (300,)
    assert np.isnan([row.auprc, row.f1, row.ece, *row.intervals["f1"]]).all()


def test_a_canary_is_judged_like_any_detector_and_within_strata_where_asked():
    labels, prob, _, resamples = sample()
    everywhere = np.zeros(N, dtype=np.int64)
    auroc, ci = canary_result(labels, prob, everywhere, resamples, 1)
    (summary,) = summarise(entry("a", prob), labels, (Subset("all", everywhere == 0),), resamples)
    assert auroc == pytest.approx(summary.row.auroc)
    widths = [[auroc - one.low, one.high - auroc] for one in (ci, summary.row.auroc_ci)]
    assert widths[0] == pytest.approx(np.sqrt(2) * np.array(widths[1]))
    wider = canary_result(labels, prob, everywhere, resamples, 10)[1]
    assert wider.low < ci.low < ci.high < wider.high
    # Inside strata of one label there are no pairs.
    auroc, ci = canary_result(labels, prob, labels, resamples, 1)
    assert np.isnan(auroc)
    assert np.isnan(ci.low)


def test_a_canary_of_noise_is_above_chance_no_more_often_than_its_interval_says():
    n, folds, generator = 120, np.arange(120) % 3, np.random.default_rng(0)
    sung = 0
    for seed in range(200):
        values, labels = generator.normal(size=(n, 20)), generator.permutation(n) % 2
        like = (values @ values.T) * (folds[:, None] != folds)  # each fold learns from the others
        resamples = resample([str(row) for row in range(n)], 100, seed)
        sung += canary_result(labels, like @ (2 * labels - 1), folds, resamples, 1)[1].low > 0.5
    # 2.5 % of 200 are 5 with a standard deviation of 2.2; of what the draws alone say 8 %, 16.
    assert sung < 11


def test_risks_of_a_calibrated_detector_hold_at_another_base_rate_once_shifted():
    generator = np.random.default_rng(0)
    labels = (generator.random(40_000) < 0.61).astype(np.int64)
    evidence = (
        generator.normal(size=40_000) + 1.5 * labels
    )  # of equal variance: logit is linear in it
    log_odds = np.log(0.61 / 0.39) + 1.5 * evidence - 1.5**2 / 2
    prob = 1 / (1 + np.exp(-log_odds))
    found = {one.prevalence: one for one in reliability({"a": prob}, labels, (*PREVALENCES, 0.61))}
    assert [*found] == [0.1, 0.5, 0.61]
    assert found[0.1].error > 0.1
    assert found[0.5].error > 0.02
    for one in found.values():
        assert one.shifted_error < 0.015
    assert found[0.61].error == pytest.approx(found[0.61].shifted_error, abs=0.005)


def test_weights_stand_for_answers_that_are_there_as_often():
    generator = np.random.default_rng(1)
    labels, prob = np.repeat([1, 1, 0], 50), generator.random(150)
    # Two thirds are hallucinated; each right answer twice makes a half of them.
    twice = np.append(np.arange(150), np.arange(100, 150))
    weighted, repeated = (
        reliability({"a": prob[rows]}, labels[rows], (0.5,))[0].error
        for rows in (np.arange(150), twice)
    )
    assert weighted == pytest.approx(repeated)
