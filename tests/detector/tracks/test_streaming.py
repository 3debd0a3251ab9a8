import numpy as np
import pytest

from ghosttrack.detector.answers.output_scores import output_scores
from ghosttrack.detector.tracks.lens import LENS_STATISTICS
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS
from ghosttrack.detector.tracks.streaming import Instruments, Spoken, Stream, beginning, stream
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score


def spoken(lm: LM, answer: str, prompt: str = "where was anna born?") -> Spoken:
    return Spoken(lm.encode(prompt), tuple(lm.encode(answer, prefix=False)), "anna")


def follow(lm: LM, instruments: Instruments, said: list[Spoken]) -> Stream:
    scores = score(lm, [one.prompt for one in said], [one.answer for one in said])
    each = [beginning(one, t + 1) for one in scores for t in range(len(one.logprobs))]
    return stream(lm, instruments, said, output_scores(each))


def test_every_token_has_a_row_of_every_table(lm: LM, instruments: Instruments):
    found = follow(lm, instruments, [spoken(lm, "paris"), spoken(lm, "the old city of rome")])
    assert {name: len(table) for name, table in found.tables.items()} == {
        "output": 6, "lens": 6, "tracks": 6,
    }  # fmt: skip
    assert found.first.tolist() == [0, 1]
    assert found.tables["lens"].names == tuple(spec.name for spec in LENS_STATISTICS)
    assert found.tables["tracks"].names == tuple(spec.name for spec in TRACK_STATISTICS)


def test_what_follows_a_token_does_not_change_its_score(lm: LM, instruments: Instruments):
    short, long, other = (
        follow(lm, instruments, [spoken(lm, text)]).tables
        for text in ("the old", "the old city of rome", "the old piano")
    )
    for name, table in short.items():
        for later in (long, other):
            np.testing.assert_allclose(later[name].values[:2], table.values, rtol=1e-4, atol=1e-5)
    assert not np.allclose(long["output"].values[2], other["output"].values[2])


def test_output_scores_run_along_the_answer(lm: LM, instruments: Instruments):
    table = follow(lm, instruments, [spoken(lm, "the old city")]).tables["output"]
    least, whole = table.column("min_logprob"), table.column("answer_logprob")
    first = table.column("first_logprob")
    np.testing.assert_allclose(first, first[0])
    assert whole[0] == pytest.approx(first[0])
    assert (np.diff(whole) < 0).all()
    steps = np.diff(whole, prepend=0.0)
    np.testing.assert_allclose(least, np.minimum.accumulate(steps), rtol=1e-5)


def test_answers_do_not_touch_one_another(lm: LM, instruments: Instruments):
    one, two = spoken(lm, "paris"), spoken(lm, "the old city", "who works for anna?")
    alone = follow(lm, instruments, [two]).tables
    both = follow(lm, instruments, [one, two])
    rows = slice(int(both.first[1]), None)
    for name, table in alone.items():
        np.testing.assert_allclose(
            both.tables[name].values[rows], table.values, rtol=1e-4, atol=1e-5
        )
