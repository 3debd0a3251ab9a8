"""Output scores by hand, and that none of them tells the number of tokens."""

import numpy as np
import pytest

from ghosttrack.detector.answers.output_scores import OUTPUT_SCORES, output_scores
from ghosttrack.models.score import TokenScores
from tests.detector.scenes import keeps_ranges


def scores(logprobs, entropies, max_probs, margins):
    columns = (np.array(column, dtype=np.float32) for column in (logprobs, entropies, max_probs))
    return TokenScores(*columns, np.array(margins, dtype=np.float32), True)


def test_scores_of_two_tokens_by_hand():
    table = output_scores([scores([-0.5, -1.5], [0.25, 0.75], [0.5, 0.25], [2.0, 1.0])])
    found = dict(zip(table.names, table.values[0], strict=True))
    assert found == pytest.approx(
        {
            "mean_logprob": -1.0,  # (-0.5 - 1.5) / 2
            "min_logprob": -1.5,
            "first_logprob": -0.5,
            "answer_logprob": -2.0,
            "mean_entropy": 0.5,
            "max_entropy": 0.75,
            "first_entropy": 0.25,
            "min_margin": 1.0,
            "first_margin": 2.0,
            "min_max_prob": 0.25,
        }
    )


def test_certain_answers_of_any_length_have_the_same_scores():
    one, three = (scores([0.0] * n, [0.0] * n, [1.0] * n, [9.0] * n) for n in (1, 3))
    table = output_scores([one, three])
    assert np.array_equal(table.values[0], table.values[1])


def test_a_score_moves_in_its_expected_direction_when_the_model_is_less_sure():
    table = output_scores(
        [scores([-0.1], [0.2], [0.9], [3.0]), scores([-2.0], [2.5], [0.13], [0.1])]
    )
    for score, change in zip(OUTPUT_SCORES, table.values[1] - table.values[0], strict=True):
        assert change * score.spec.direction > 0, score.spec.name


def test_scores_stay_in_their_stated_range():
    table = output_scores([scores([-3.0, -0.1], [0.0, 2.0], [0.05, 0.9], [0.0, 4.0])])
    keeps_ranges(table, [score.spec for score in OUTPUT_SCORES])
