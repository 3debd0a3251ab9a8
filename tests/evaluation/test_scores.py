import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    roc_auc_score,
    roc_curve,
)

from ghosttrack.evaluation import bootstrap
from ghosttrack.evaluation.bootstrap import Resamples
from ghosttrack.evaluation.scores import (
    bin_of,
    paired_auroc,
    score,
    tabulate,
)


def once(labels, prob, flagged=None):
    labels, prob = np.array(labels), np.array(prob, dtype=np.float64)
    flagged = prob >= 0.5 if flagged is None else np.array(flagged)
    found = score(tabulate(labels, prob, flagged), bootstrap.once(len(labels)))
    return {name: values[0] for name, values in found._asdict().items()}


def drawn(weights) -> Resamples:
    """Every answer a group of its own."""
    return Resamples(weights, np.arange(weights.shape[1]))


def sample(seed: int, n: int, levels: int):
    """Labels and scores with ties; both labels are there."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    labels[:2] = 0, 1
    return labels, generator.integers(0, levels, n) / levels, generator


@pytest.mark.parametrize("levels", [2, 5, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_every_weighted_score_agrees_with_scikit_learn(levels: int, seed: int):
    labels, prob, generator = sample(seed, 60, levels)
    weights = generator.integers(0, 4, (7, 60))
    weights[:, :2] = 1
    ours = score(tabulate(labels, prob, prob >= 0.5), drawn(weights))
    for draw, w in enumerate(weights):
        flagged = prob >= 0.5
        theirs = {
            "auroc": roc_auc_score(labels, prob, sample_weight=w),
            "auprc": average_precision_score(labels, prob, sample_weight=w),
            "auprc_correct": average_precision_score(1 - labels, -prob, sample_weight=w),
            "accuracy": np.average(flagged == labels, weights=w),
            "balanced_accuracy": balanced_accuracy_score(labels, flagged, sample_weight=w),
            "precision": precision_score(labels, flagged, sample_weight=w, zero_division=np.nan),
            "f1": f1_score(labels, flagged, sample_weight=w),
            "brier": brier_score_loss(labels, prob, sample_weight=w),
        }
        for name, value in theirs.items():
            np.testing.assert_allclose(getattr(ours, name)[draw], value, atol=1e-12, err_msg=name)


@given(seed=st.integers(0, 10_000), levels=st.integers(2, 50))
@settings(max_examples=30)
def test_fpr95_is_the_first_point_of_the_roc_curve_at_95_percent_recall(seed: int, levels: int):
    labels, prob, _ = sample(seed, 40, levels)
    false_alarms, hits, _ = roc_curve(labels, prob, drop_intermediate=False)
    assert once(labels, prob)["fpr95"] == pytest.approx(false_alarms[hits >= 0.95][0])


@pytest.mark.parametrize(
    ("name", "labels", "prob", "wanted"),
    [
        # 10 bins of equal mass over 4 answers: each answer has its own bin (places 0, 2, 5, 7).
        # |0.1 - 0| + |0.4 - 1| + |0.6 - 0| + |0.9 - 1| = 1.4, divided by 4 answers.
        ("ece", [0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9], 1.4 / 4),
        # Ties share a bin, so their errors cancel: |3 * 0.5 - 2| + |0.9 - 1| = 0.6, divided by 4.
        ("ece", [1, 0, 1, 1], [0.5, 0.5, 0.5, 0.9], 0.6 / 4),
        # From the most trusted (lowest probability) on: right, wrong, right, wrong.
        # Risks at coverage 1/4 .. 4/4: 0, 1/2, 1/3, 2/4; their mean is 1/3.
        ("aurc", [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], 1 / 3),
        # The two of 0.2 are accepted at once: risk 1/3 for both, after 0: (0 + 2/3) / 3.
        ("aurc", [0, 1, 0], [0.1, 0.2, 0.2], 2 / 9),
    ],
)
def test_scores_by_hand(name: str, labels: list[int], prob: list[float], wanted: float):
    assert once(labels, prob)[name] == pytest.approx(wanted)


def test_bins_hold_equal_mass():
    prob = np.random.default_rng(0).random(1000)
    assert np.bincount(bin_of(prob)).tolist() == [100] * 10


@pytest.mark.parametrize("seed", range(3))
def test_the_rejection_ratio_is_the_area_between_random_and_perfect_rejection(seed: int):
    generator = np.random.default_rng(seed)
    labels, prob = generator.integers(0, 2, 40), generator.permutation(40) / 40

    def area(order) -> float:
        """Mean share of right answers among those kept, as they are rejected one by one."""
        return float(np.mean(np.cumsum(1 - labels[order]) / np.arange(1, 41)))

    chance, best = 1 - labels.mean(), area(np.argsort(labels, kind="stable"))
    wanted = (area(np.argsort(prob)) - chance) / (best - chance)
    assert once(labels, prob)["prr"] == pytest.approx(wanted)
    assert once(labels, labels + prob / 100)["prr"] == pytest.approx(1)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_only_leaves_ranking_scores_undefined(label: int):
    values = once([label] * 3, [0.1, 0.5, 0.9])
    undefined = ("auroc", "balanced_accuracy", "fpr95", "prr")
    assert np.isnan([values[name] for name in undefined]).all()
    assert values["accuracy"] == pytest.approx([1 / 3, 2 / 3][label])


def test_precision_is_undefined_where_nothing_is_flagged():
    values = once([0, 1], [0.1, 0.2])
    assert np.isnan(values["precision"])
    assert values["f1"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_auroc_inside_strata_is_the_mean_of_scikit_learns_by_pairs(seed: int):
    labels, prob, generator = sample(seed, 90, 6)
    strata = 7 * generator.integers(0, 3, 90)  # numbers need not be neighbours
    weights = generator.integers(0, 4, (4, 90))
    ours = paired_auroc(labels, prob, drawn(weights), strata)
    for draw, w in enumerate(weights):
        members = [strata == one for one in np.unique(strata)]
        parts = [roc_auc_score(labels[m], prob[m], sample_weight=w[m]) for m in members]
        n_pairs = [w[m] @ labels[m] * (w[m] @ (1 - labels[m])) for m in members]
        assert ours[draw] == pytest.approx(np.average(parts, weights=n_pairs))


def test_without_a_pair_there_is_no_auroc():
    labels, prob, _ = sample(0, 40, 5)
    assert np.isnan(paired_auroc(labels, prob, bootstrap.once(40), np.arange(40)))


def calibrated(seed: int, shift: float) -> tuple[float, float, bootstrap.Interval]:
    """Plug-in error, corrected error and interval of a detector whose risks are `shift` too low."""
    generator = np.random.default_rng(seed)
    truth = generator.uniform(0.2, 1.0, 800)
    labels = (generator.random(800) < truth).astype(np.int64)
    tabulated = tabulate(labels, truth - shift, truth > 0.5)
    draws = bootstrap.resample([str(at) for at in range(800)], 200, seed)
    point = float(score(tabulated, bootstrap.once(800)).ece[0])
    return point, *bootstrap.unbiased(point, score(tabulated, draws).ece)


def test_the_calibration_error_of_a_calibrated_detector_is_not_above_0_by_noise():
    found = [calibrated(seed, 0.0) for seed in range(40)]
    plug_in, corrected, bounds = (list(column) for column in zip(*found, strict=True))
    assert np.mean(corrected) < np.mean(plug_in) / 2
    assert np.mean([one.low == 0 for one in bounds]) >= 0.9


def test_the_interval_of_a_calibration_error_holds_the_true_one():
    found = [calibrated(seed, 0.1) for seed in range(40)]
    assert np.mean([low <= 0.1 <= high for _, _, (low, high) in found]) >= 0.85
    assert np.mean([corrected for _, corrected, _ in found]) == pytest.approx(0.1, abs=0.01)
    assert all(low <= corrected <= high for _, corrected, (low, high) in found)
