from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.config import Position
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.positions import Points, points
from ghosttrack.errors import DataError
from ghosttrack.models.lm import LM
from tests.support.answers import made_up_answers

PROMPTS = ("where was carla born ?", "bert lives in the city of", "the piano of carla")
SUBJECTS = ("carla", "", "carla")
IDS = ((20, 21, 22), (23,), (24, 25))


@pytest.fixture(scope="module")
def answers() -> Answers:
    return replace(made_up_answers(3, 3), prompts=PROMPTS, subjects=SUBJECTS, token_ids=IDS)


def places(found: Points, lm: LM) -> list[tuple[int, int, int]]:
    """Answer, tokens read beyond its prompt, tokens that are still to come; texts are checked."""
    rows = []
    for answer, text, spoken in zip(found.answer, found.texts, found.spoken, strict=True):
        prompt = lm.encode(PROMPTS[answer])
        assert text == [*prompt, *IDS[answer]][: len(text)]
        rows.append((int(answer), len(text) - len(prompt), len(spoken)))
    return rows


@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        (Position.prompt_last, [(0, 0, 3), (1, 0, 1), (2, 0, 2)]),
        (Position.max_pool, [(0, 0, 3), (1, 0, 1), (2, 0, 2)]),
        (Position.subject_last, [(0, -2, 3), (2, 0, 2)]),
        (Position.answer_first, [(0, 1, 2), (1, 1, 0), (2, 1, 1)]),
        (Position.answer_each, [(0, 0, 3), (0, 1, 2), (0, 2, 1), (1, 0, 1), (2, 0, 2), (2, 1, 1)]),
        (Position.answer_span, [(0, 1, 2), (0, 2, 1), (0, 3, 0), (1, 1, 0), (2, 1, 1), (2, 2, 0)]),
    ],
)
def test_a_point_reads_so_far_and_no_further(
    lm: LM, answers: Answers, position: Position, wanted: list[tuple[int, int, int]]
):
    found = points(lm, answers, position)
    assert places(found, lm) == wanted
    assert found.subjects == [SUBJECTS[answer] for answer, _, _ in wanted]


def test_subjects_that_no_prompt_holds_are_refused(lm: LM, answers: Answers):
    lost = replace(answers, subjects=("greta", "", ""))
    with pytest.raises(DataError, match=r"detector\.position=subject_last: no prompt holds"):
        points(lm, lost, Position.subject_last)


def two_of_three() -> Points:
    """The second answer has no point, the third has two."""
    return Points([[1], [2], [3]], [(), (), ()], ["", "", ""], np.array([0, 2, 2]), 3)


def test_an_answer_is_the_mean_of_its_points_and_the_span_their_greatest_too():
    table = Table(("a", "b"), np.array([[1.0, 5.0], [2.0, np.nan], [4.0, 0.0]]))
    means = two_of_three().table(table, Position.answer_each)
    np.testing.assert_array_equal(means.values, [[1, 5], [np.nan, np.nan], [3, np.nan]])
    span = two_of_three().table(table, Position.answer_span)
    assert span.names == ("a", "b", "peak_a", "peak_b")
    np.testing.assert_array_equal(span.values[:, :2], means.values)
    np.testing.assert_array_equal(span.column("peak_a"), [1, np.nan, 4])
    np.testing.assert_array_equal(span.column("peak_b"), [5, np.nan, np.nan])


def test_weights_take_the_same_mean():
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    mean = two_of_three().mean(values)
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(np.nan_to_num(mean), two_of_three().weights @ values)
    narrow = csr_array(values)
    narrow.indices, narrow.indptr = (
        held.astype(np.int32) for held in (narrow.indices, narrow.indptr)
    )
    assert (two_of_three().weights @ narrow).indices.dtype == np.int32  # for scikit-learn
