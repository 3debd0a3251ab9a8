import numpy as np

from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracker import link
from ghosttrack.tracking.tracks import Tracks, continued, persistence
from tests.tracking.worlds import flat_tracker, planted, seen


def three_samples():
    """A track over layers 0..2 and a lone observation; two lone ones; nothing."""
    ratios = np.where(np.eye(4, dtype=bool), 3.0, -9.0)
    empty = (-1, -1)
    each = seen((0, 1), (0, -1), (0, -1)), seen((0, 1), empty, empty), seen(empty, empty, empty)
    every = Observations(*(np.concatenate(one) for one in zip(*each, strict=True)))
    return link(every, *flat_tracker(3, 4, ratios))


def test_mean_lengths_of_samples_are_those_of_hand_arithmetic():
    lengths = persistence(three_samples())
    np.testing.assert_array_equal(lengths.confirmed, [3, np.nan, np.nan])
    np.testing.assert_array_equal(lengths.every, [(3 + 1) / 2, 1, np.nan])
    np.testing.assert_array_equal(lengths.hits, [4 / 2, 1, np.nan])


def test_tracks_are_numbered_by_sample_birth_and_slot():
    tracks = three_samples()
    assert tracks.sample.tolist() == [0, 0, 1, 1]
    assert tracks.track_of[0].tolist() == [[0, 1], [0, -1], [0, -1]]
    assert (tracks.birth.tolist(), tracks.last.tolist()) == ([0, 0, 0, 0], [2, 0, 0, 0])


def test_tracks_come_back_from_their_arrays():
    fitted = planted()
    tracks = link(fitted.test.observations, *fitted.tracker)
    back = Tracks.from_arrays(tracks.arrays())
    for name, values in tracks.arrays().items():
        np.testing.assert_array_equal(getattr(back, name), values)


def test_ratios_of_links_stand_at_every_observation_but_births():
    fitted = planted()
    tracks = link(fitted.test.observations, *fitted.tracker)
    n_links = int((tracks.n_obs - 1).sum())
    assert np.isfinite(tracks.link_llr).sum() == np.isfinite(tracks.innovation).sum() == n_links


def test_the_share_that_goes_on_counts_coasting_and_leaves_empty_layers_open():
    ratios = np.where(np.eye(4, dtype=bool), 3.0, -9.0)
    tracks = link(seen((0, 1), (1, -1), (0, -1), (-1, -1)), *flat_tracker(4, 4, ratios))
    # layer 0: latent 0 coasts to layer 2, latent 1 goes on to layer 1; nothing goes on from there
    np.testing.assert_array_equal(continued(tracks), [[1.0, 0.0, 0.0, np.nan]])
