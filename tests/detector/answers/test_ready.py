import numpy as np
import pytest

from ghosttrack.detector.answers.ready import given_answers
from ghosttrack.questions.ready_answers import ReadyAnswer


def row(response: str = "Rome", label: int | None = None, logprobs=()) -> ReadyAnswer:
    return ReadyAnswer("which city?", response, ("Rome", "Roma"), label, (), logprobs, "g")


def test_a_label_stands_above_the_references():
    said = [row("It is Roma."), row("Oslo"), row("Rome", 1), row("Oslo", 0)]
    answers = given_answers(said)
    assert answers.labels.tolist() == [0, 1, 1, 0]
    assert answers.categories == ("correct", "wrong", "wrong", "correct")


def test_output_scores_are_those_that_log_probabilities_give():
    answers = given_answers([row(logprobs=(-0.5, -1.5)), row()])
    assert dict(zip(answers.output.names, answers.output.values[0], strict=True)) == pytest.approx(
        {"mean_logprob": -1, "min_logprob": -1.5, "first_logprob": -0.5, "answer_logprob": -2}
    )
    assert answers.prob[0] == pytest.approx(np.exp(-2))
    assert np.isnan([answers.prob[1], *answers.output.values[1]]).all()
