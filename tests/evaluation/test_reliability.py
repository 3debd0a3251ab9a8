import numpy as np
import pytest

from ghosttrack.evaluation.reliability import PREVALENCES, reliability

N = 40_000


def test_risks_of_a_calibrated_detector_hold_at_another_base_rate_once_shifted():
    generator = np.random.default_rng(0)
    labels = (generator.random(N) < 0.61).astype(np.int64)
    evidence = generator.normal(size=N) + 1.5 * labels  # of equal variance: logit is linear in it
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
