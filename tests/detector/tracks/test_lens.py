import numpy as np

from ghosttrack.detector.tracks.lens import LENS_STATISTICS, commitment, trajectory
from ghosttrack.models.readings import Lens
from tests.detector.scenes import keeps_ranges


def lens(ranks, **other) -> Lens:
    ranks = np.array(ranks)
    zeros = np.zeros(ranks.shape)
    top1 = np.where(ranks == 0, 7, ranks)
    fields = {"logprobs": zeros, "ranks": ranks, "top1": top1, "margins": zeros, "kl": zeros}
    fields |= {"best": zeros}
    return Lens(**{**fields, **other})


def test_commit_depth_counts_the_layers_before_the_answer_is_best_for_good():
    ranks = [
        [0, 0, 0, 0],  # best from the start
        [0, 3, 0, 0],  # best, lost, best again at layer 2 of 4
        [9, 9, 9, 0],
        [0, 0, 0, 1],  # never for good
    ]
    np.testing.assert_allclose(
        commitment(lens(ranks), 10).column("commit_depth"), [0, 0.5, 0.75, 1]
    )


def test_commit_jump_is_the_greatest_single_rise():
    logprobs = np.array([[-8.0, -7.0, -2.0, -1.0], [-1.0, -2.0, -2.5, -4.0]])
    found = commitment(lens(np.zeros((2, 4), dtype=int), logprobs=logprobs), 10)
    np.testing.assert_allclose(found.column("commit_jump"), [5.0, -0.5])


def test_rank_area_is_one_when_every_other_token_is_better():
    worst = np.full((1, 6), 99)
    np.testing.assert_allclose(commitment(lens(worst), 100).column("rank_area"), 1.0)
    # log(1 + 9) / log(100) at one of four layers: 0.5 / 4
    np.testing.assert_allclose(commitment(lens([[9, 0, 0, 0]]), 100).column("rank_area"), 0.125)


def test_flips_count_only_in_the_last_half():
    top1 = np.array([[1, 2, 3, 3], [1, 1, 2, 1], [1, 1, 1, 1]])
    found = commitment(lens(np.zeros((3, 4), dtype=int), top1=top1), 10)
    np.testing.assert_allclose(found.column("lens_flips"), [0.5, 1.0, 0.0])


def test_late_windows_average_the_last_layers():
    margins = np.array([[9.0, 9.0, 9.0, 9.0, 1.0, 3.0]])
    kl = np.array([[9.0, 9.0, 9.0, 9.0, 4.0, 0.0]])
    found = commitment(lens(np.zeros((1, 6), dtype=int), margins=margins, kl=kl), 10)
    assert found.column("late_margin") == 2.0  # depths 5/6 and 1
    assert found.column("settle_kl") == 2.0


def test_a_model_of_one_layer_has_no_jump_and_no_flip():
    found = commitment(lens([[3]]), 10)
    assert found.column("commit_jump") == 0
    assert found.column("lens_flips") == 0
    assert found.column("commit_depth") == 1


def test_a_trajectory_is_every_layer_as_it_is():
    logprobs = np.log([[0.1, 0.5], [0.2, 0.3]])
    table = trajectory(lens([[4, 0], [1, 1]], logprobs=logprobs, best=np.log([[0.4, 0.5]] * 2)))
    assert table.names == ("logprob_0", "logprob_1", "rank_0", "rank_1", "best_0", "best_1")
    np.testing.assert_allclose(
        table.values,
        [
            [*logprobs[0], np.log(5), 0, 0.4, 0.5],
            [*logprobs[1], np.log(2), np.log(2), 0.4, 0.5],
        ],
    )


def test_lens_statistics_keep_their_range():
    rng = np.random.default_rng(0)
    shape = (50, 6)
    drawn = Lens(
        logprobs=-rng.gamma(2.0, size=shape),
        ranks=rng.integers(0, 30, shape),
        top1=rng.integers(0, 3, shape),
        margins=rng.gamma(1.0, size=shape),
        kl=rng.gamma(1.0, size=shape),
        best=-rng.gamma(1.0, size=shape),
    )
    table = commitment(drawn, 30)
    keeps_ranges(table, LENS_STATISTICS)
    assert (np.ptp(table.values, axis=0) > 0).all()
