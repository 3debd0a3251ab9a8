"""Which tokens latents are enriched for, and which latents are for one token alone."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import csr_array

from ghosttrack.analysis.firings import Tally
from ghosttrack.analysis.significance import LEVEL, adjusted, upper_tail

LEAST_FIRINGS = 20
LEAST_WINDOWS = 5
LEAST_SHARE = 0.9
"""What a latent's firings in the second half come to at least if it is for one token alone."""


class Enriched(NamedTuple):
    """Pairs of a latent and a token that it fires on too often for chance, by latent and token."""

    latent: Int64[np.ndarray, " pair"]
    token: Int64[np.ndarray, " pair"]
    firings: Int64[np.ndarray, " pair"]
    """Of the latent on the token."""
    expected: Float64[np.ndarray, " pair"]
    """As many where it fires on any token alike."""
    p: Float64[np.ndarray, " pair"]
    q: Float64[np.ndarray, " pair"]

    @property
    def fold(self) -> Float64[np.ndarray, " pair"]:
        """How many times as many as expected."""
        return self.firings / self.expected


class Meaning(NamedTuple):
    """Of every latent the enriched token that it fires on most, and how far it is for that one.

    The token is chosen in the first half, the rest is measured in the second.
    """

    pair: Int64[np.ndarray, " latent"]
    """Place of latent and token among the enriched; -1 where no token is."""
    firings: Int64[np.ndarray, " latent"]
    on_token: Int64[np.ndarray, " latent"]
    windows: Int64[np.ndarray, " latent"]

    @property
    def share(self) -> Float64[np.ndarray, " latent"]:
        """Share of firings that fall on the token; NaN without firings or token."""
        with np.errstate(invalid="ignore"):
            return np.where(self.pair < 0, np.nan, self.on_token / self.firings)

    @property
    def is_monosemantic(self) -> Bool[np.ndarray, " latent"]:
        """Tell latents that may be for one token alone."""
        is_often = (self.firings >= LEAST_FIRINGS) & (self.windows >= LEAST_WINDOWS)
        return is_often & (self.share >= LEAST_SHARE)


def n_tests(firings: csr_array, frequency: Int64[np.ndarray, " token"]) -> int:
    """Count the pairs that can be tested: latents that fire times tokens that there are."""
    return int(np.count_nonzero(firings.sum(1))) * int(np.count_nonzero(frequency))


def enriched(firings: csr_array, frequency: Int64[np.ndarray, " token"]) -> Enriched:
    """Test every pair of a latent that fires and a token that there is, and keep q <= `LEVEL`.

    p is the upper tail of the hypergeometric distribution: as if a latent's firings were drawn
    from all tokens independently. Those of one text depend on one another, so q is too small where
    a few texts make most of a latent's firings. Pairs without firings count as tests with p = 1;
    so do those with no more than expected, whose p is above 1/2 and could not be called.

    `firings` are by latent and token, `frequency` is how often each token is there.
    """
    pairs = firings.tocoo()
    latent, token = (one.astype(np.int64) for one in (pairs.row, pairs.col))
    n, n_fired = int(frequency.sum()), firings.sum(1)
    expected = n_fired[latent] * frequency[token] / n
    more = pairs.data > expected
    latent, token, expected, hits = latent[more], token[more], expected[more], pairs.data[more]
    p = upper_tail(hits, n, frequency[token], n_fired[latent])
    found = Enriched(latent, token, hits, expected, p, adjusted(p, n_tests(firings, frequency)))
    keep = found.q <= LEVEL
    return Enriched(*(column[keep] for column in found))


def meaning(found: Enriched, tally: Tally) -> Meaning:
    """Choose each latent's token in the first half and measure it in the second."""
    second, n_latents = tally.half(1), len(tally.windows)
    rising = np.lexsort((-found.p, found.firings, found.latent))
    pair = np.full(n_latents, -1)
    pair[found.latent[rising]] = rising  # of one latent's pairs the last is the one that stays
    has = np.flatnonzero(pair >= 0)
    chosen = csr_array((np.ones_like(has), (has, found.token[pair[has]])), second.shape)
    on_token = second.multiply(chosen).sum(1)
    return Meaning(pair, second.sum(1), on_token, tally.windows)
