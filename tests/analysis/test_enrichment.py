"""Tokens that latents fire on: found where they were planted, and seldom where there are none."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, hypergeom

from ghosttrack.analysis.enrichment import Meaning, enriched, meaning
from ghosttrack.analysis.firings import Fired, HeldoutText, Tally
from ghosttrack.analysis.significance import adjusted, upper_tail
from ghosttrack.data.windows import Windows

LENGTH = 40
D_VOCAB = 8


def test_tails_are_the_hypergeometric_distributions():
    generator = np.random.default_rng(0)
    n = 5000
    marked, drawn = generator.integers(1, 2000, (2, 500))
    hits = hypergeom.rvs(n, marked, drawn, random_state=generator) + generator.integers(0, 40, 500)
    hits = np.minimum(hits, np.minimum(marked, drawn))
    wanted = hypergeom.sf(hits - 1, n, marked, drawn)
    assert wanted.min() < 1e-12
    np.testing.assert_allclose(upper_tail(hits, n, marked, drawn), wanted, rtol=1e-8)


def test_adjusting_counts_the_tests_that_found_nothing():
    p = np.random.default_rng(0).random(40) ** 3
    wanted = false_discovery_control(np.concatenate([p, np.ones(60)]))
    np.testing.assert_allclose(adjusted(p, 100), wanted[:40])


def test_of_catalogues_without_meaning_one_in_twenty_claims_any():
    generator = np.random.default_rng(0)
    frequency = np.array([600, 500, 400, 300, 200, 100, 60, 40, 30, 20])
    fired = np.array([300, 200, 150, 100])
    draws = [generator.multivariate_hypergeometric(frequency, n, 1000) for n in fired.tolist()]
    catalogues = np.stack(draws, axis=1)
    n_claiming = sum(len(enriched(csr_array(one), frequency).p) > 0 for one in catalogues)
    assert 20 < n_claiming < 65
    shape = catalogues.shape
    marked, drawn = (np.broadcast_to(n, shape).ravel() for n in (frequency, fired[:, None]))
    p = upper_tail(catalogues.ravel(), int(frequency.sum()), marked, drawn).reshape(1000, -1)
    assert (p.min(1) <= 0.05).mean() > 0.7  # where nobody adjusts


def test_an_enriched_pair_has_its_numbers():
    firings = csr_array(np.array([[10, 0, 0], [0, 0, 0], [4, 3, 3]]))
    frequency = np.array([40, 30, 30])
    found = enriched(firings, frequency)
    assert (found.latent.tolist(), found.token.tolist()) == ([0], [0])
    assert (found.firings.tolist(), found.expected.tolist()) == ([10], [4.0])
    assert found.fold.tolist() == [2.5]
    p = hypergeom.sf(9, 100, 40, 10)
    assert found.p == pytest.approx(p)
    assert found.q == pytest.approx(p * 6)  # latents 0 and 2 with three tokens


def read(n_windows: int) -> HeldoutText:
    """A document per window, tokens 0 to 7 in turn; every other window is in the second half."""
    ids = np.arange(n_windows * LENGTH, dtype=np.int32) % D_VOCAB
    documents = np.repeat(np.arange(n_windows, dtype=np.int32), LENGTH)
    windows = Windows(ids, documents, np.arange(n_windows + 1) * LENGTH)
    return HeldoutText(windows, 0, documents % 2 == 1)


def told(text: HeldoutText, places: np.ndarray) -> Meaning:
    tally = Tally(text, 2, D_VOCAB, 1)
    values = np.ones(len(places), dtype=np.float32)
    whole = [*range(0, len(text.windows.ids), 5 * LENGTH), len(text.windows.ids)]
    for start, end in pairwise(whole):
        own = (places >= start) & (places < end)
        latent = np.ones(own.sum(), dtype=np.int64)
        tally.add(Fired(latent, places[own], values[own]))
    found = enriched(tally.half(0), tally.frequency(0))
    return meaning(found, tally)


@pytest.mark.parametrize(
    ("n_on", "n_off", "n_windows", "is_monosemantic"),
    [
        pytest.param(20, 0, 20, True, id="as few firings as will do"),
        pytest.param(19, 0, 19, False, id="too few firings"),
        pytest.param(27, 3, 30, True, id="as many elsewhere as will do"),
        pytest.param(26, 4, 30, False, id="too many elsewhere"),
        pytest.param(20, 0, 5, True, id="windows as few as will do"),
        pytest.param(20, 0, 4, False, id="too few windows"),
    ],
)
def test_a_latent_for_one_token_alone_is_told_by_the_second_half(
    n_on: int, n_off: int, n_windows: int, is_monosemantic: bool
):
    text = read(80)
    ids, second = text.windows.ids, text.in_second

    def some(token: int, n: int) -> list[int]:
        """Places of a token in so many windows of the second half in turn."""
        of_token = np.flatnonzero((ids == token) & second).reshape(-1, LENGTH // D_VOCAB)
        return of_token[:n_windows].T.ravel()[:n].tolist()

    first = np.flatnonzero((ids == 3) & ~second).tolist()
    found = told(text, np.array([*first, *some(3, n_on), *some(5, n_off)]))
    assert (found.on_token[1], found.firings[1]) == (n_on, n_on + n_off)
    assert found.windows[1] == min(n_on, n_windows)
    assert found.is_monosemantic.tolist() == [False, is_monosemantic]


def test_a_latent_that_fires_on_everything_means_nothing():
    text = read(40)
    found = told(text, np.arange(len(text.windows.ids)))
    assert found.pair.tolist() == [-1, -1]
    assert not found.is_monosemantic.any()


def test_a_token_that_the_second_half_does_not_bear_out_is_not_the_meaning():
    text = read(200)
    ids, second = text.windows.ids, text.in_second
    places = np.flatnonzero(((ids == 3) & ~second) | ((ids == 5) & second))
    found = told(text, places)
    assert found.pair.tolist() == [-1, 0]
    assert found.firings[1] > 100
    assert found.share[1] == 0
    assert not found.is_monosemantic.any()
