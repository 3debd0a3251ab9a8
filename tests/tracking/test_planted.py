from dataclasses import replace

import numpy as np

from ghosttrack.tracking.nulls import null_tracks
from ghosttrack.tracking.tracks import build_tracks, no_decisions
from tests.tracking.planted import PlantedSpec, plant, sample, score
from tests.tracking.worlds import planted


def tracks_of(track_of, confirmed):
    """Tracks of which only the owner of every observation and confirmation are asked for."""
    track_of = np.array(track_of)
    base = build_tracks(track_of < -1, no_decisions(track_of.shape), 2)
    zeros = {
        name: np.zeros(len(confirmed), values.dtype)
        for name, values in base.arrays().items()
        if values.ndim == 1
    }
    return replace(base, **zeros | {"track_of": track_of, "confirmed": np.array(confirmed)})


def test_the_truth_scores_one():
    truth = planted().test.truth
    result = score(truth, tracks_of(truth, np.ones(truth.max() + 1, bool)))
    assert result == (1.0, 1.0)


def test_reporting_nothing_scores_zero():
    fitted = planted()
    null = null_tracks(
        "none", fitted.test.observations, fitted.tracker, fitted.world.directions, fitted.text, 0
    )
    assert score(fitted.test.truth, null.tracks) == (0.0, 0.0)


def test_scores_are_those_of_hand_arithmetic():
    # one sample, 4 layers, 2 slots. Identity 5 is reported as track 0, 0, 1, 1: one switch.
    # Identity 7 is reported once, by track 2, and missed once (track 3 is unconfirmed).
    # Track 2 also reports a clutter observation.
    truth = np.array([[[5, 7], [5, 7], [5, -1], [5, -1]]])
    owner = [[[0, 2], [0, 3], [1, 2], [1, -1]]]
    result = score(truth, tracks_of(owner, [True, True, True, False]))
    # wanted 6, reported 6; matching 5-0 (or 5-1) and 7-2 agree on 2 + 1 observations
    assert result.idf1 == 2 * 3 / (6 + 6)
    # 1 missed + 1 false + 1 switch
    np.testing.assert_allclose(result.mota, 1 - 3 / 6)


def test_a_sample_shows_living_concepts_and_clutter_at_the_rates_asked_for():
    spec = PlantedSpec(survival=0.999999, birth_spread=0.0, detection=0.8, clutter=4.0)
    rng = np.random.default_rng(0)
    world = plant(spec, rng)
    drawn = sample(world, 500, rng)
    # 20 living, each seen with chance 0.8; clutter spares the living: 4 * 300 / 320; SE under 0.05
    np.testing.assert_allclose((drawn.truth >= 0).sum(2).mean(), 16, atol=0.2)
    clutter = (drawn.observations.latents >= 0) & (drawn.truth < 0)
    np.testing.assert_allclose(clutter.sum(2).mean(), 3.75, atol=0.15)


def test_directions_drift_by_the_step_asked_for():
    spec = PlantedSpec(drift=0.3, d_model=512)
    world = plant(spec, np.random.default_rng(0))
    before, after = (
        world.directions[layer][world.latent_of[layer, : spec.n_concepts]] for layer in (2, 3)
    )
    # the step is nearly orthogonal in 512 dimensions: cos = 1 / sqrt(1 + 0.3^2) = 0.958
    np.testing.assert_allclose((before * after).sum(1), 0.958, atol=0.05)


def test_a_latent_stands_once_in_a_layer():
    latents = planted().test.observations.latents
    ordered = np.sort(latents, axis=2)
    assert ((np.diff(ordered, axis=2) > 0) | (ordered[..., 1:] == -1)).all()
