import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.tracking.candidates import layer_pairs
from ghosttrack.tracking.kalman import State, born, fit_filter, silent, update
from ghosttrack.tracking.tracks import build_tracks, no_decisions

N_LAYERS = 6
PAIRS = layer_pairs(N_LAYERS, 2)


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_the_state_is_what_a_gaussian_gives_conditioned_on_all_observations(seed):
    # x_0 ~ N(0, 1 - r_0), x_l = a_l x_(l-1) + N(0, q_l), z_l = x_l + N(0, r_l): x = A w, z = x + v
    rng = np.random.default_rng(seed)
    n = 4
    slope, process, noise = rng.uniform(0.3, 1.2, n), rng.uniform(0.1, 1, n), rng.uniform(0.1, 1, n)
    noise[0] /= 2
    process[0] = 1 - noise[0]
    carry = np.array(
        [[np.prod(slope[j + 1 : i + 1]) * (j <= i) for j in range(n)] for i in range(n)]
    )
    covariance = carry @ np.diag(process) @ carry.T
    z = rng.normal(size=n)
    state = born(z[:1], float(noise[0]))
    for layer in range(1, n):
        said = update(state, z[layer : layer + 1], (slope[layer], process[layer]), noise[layer])
        known = np.linalg.inv(covariance[:layer, :layer] + np.diag(noise[:layer]))
        weights = covariance[layer, :layer] @ known
        rest = covariance[layer, layer] - weights @ covariance[:layer, layer]
        np.testing.assert_allclose(said.surprise, z[layer] - weights @ z[:layer])
        np.testing.assert_allclose(said.expected_square, rest + noise[layer])
        state = said.after
    known = np.linalg.inv(covariance + np.diag(noise))
    np.testing.assert_allclose(state.mean, covariance[-1] @ known @ z)
    rest = covariance[-1, -1] - covariance[-1] @ known @ covariance[-1]
    np.testing.assert_allclose(state.variance, rest)


def test_a_silent_filter_expects_what_text_at_large_shows():
    motion, process, noise = (float(values[0]) for values in silent(1, 1))
    said = update(
        State(np.array([2.0]), np.array([0.0])), np.array([3.0]), (motion, process), noise
    )
    assert said.surprise.tolist() == [3.0]
    assert said.expected_square.tolist() == [1.0]
    assert said.after.mean.tolist() == [3.0]


@pytest.fixture(scope="module")
def lives():
    """100,000 tracks of one observation per layer, a tenth of them missing: slope .9, noise .2."""
    rng = np.random.default_rng(0)
    n, slope, noise = 100_000, 0.9, 0.2
    process = (1 - slope**2) * (1 - noise)  # every layer keeps the variance 1 - noise
    x = np.empty((n, N_LAYERS))
    x[:, 0] = rng.normal(0, np.sqrt(1 - noise), n)
    for layer in range(1, N_LAYERS):
        x[:, layer] = slope * x[:, layer - 1] + rng.normal(0, np.sqrt(process), n)
    is_there = rng.random(x.shape) > 0.1
    observed = (x + rng.normal(0, np.sqrt(noise), x.shape))[..., None]
    decided = no_decisions((n, N_LAYERS, 1))
    for layer in range(1, N_LAYERS):
        before = np.where(is_there[:, layer - 1], layer - 1, layer - 2)
        known = is_there[:, layer] & is_there[np.arange(n), np.maximum(before, 0)] & (before >= 0)
        decided.predecessor[:, layer, 0] = np.where(known, before, -1)
    return build_tracks(is_there[..., None], decided, 2), observed


def test_the_numbers_that_made_the_tracks_are_found(lives):
    fitted = fit_filter(*lives, PAIRS)
    # 9,000 tracks miss any one layer: three standard errors of their slope are .03
    gaps = np.array([gap for _, gap in PAIRS])
    np.testing.assert_allclose(fitted.slope, 0.9**gaps, atol=0.03)
    np.testing.assert_allclose(fitted.process, 0.8 * (1 - 0.81**gaps), atol=0.03)
    np.testing.assert_allclose(fitted.noise, 0.2, atol=0.02)


def test_coasting_widens_what_is_expected(lives):
    fitted = fit_filter(*lives, PAIRS)
    one, two = PAIRS.index((2, 1)), PAIRS.index((2, 2))
    state = born(np.array([1.0]), 0.2)
    # process .152 and .275, the state's variance .16 times .81 and .656: .482 and .580 in all
    near, far = (
        update(state, np.array([1.0]), (float(fitted.slope[p]), float(fitted.process[p])), 0.2)
        for p in (one, two)
    )
    assert far.expected_square[0] > near.expected_square[0] + 0.05


def test_too_few_tracks_teach_nothing(lives):
    tracks, observed = lives
    few = build_tracks(tracks.track_of[:10] >= 0, no_decisions((10, N_LAYERS, 1)), 2)
    fitted = fit_filter(few, observed[:10], PAIRS)
    assert not fitted.slope.any()
    np.testing.assert_allclose(fitted.process + fitted.noise[0], 1)
