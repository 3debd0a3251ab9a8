import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.tracking.kalman import Filter
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracker import Tracker, link
from tests.benchmarks.tracker import Live, plain_born, plain_gain, plain_update
from tests.tracking.worlds import drawn, flat_tracker, seen

D_SAE = 5
CASES = st.tuples(st.integers(0, 2**32), st.integers(0, 1))
"""Seed and misses allowed."""


def trellis(seed, max_misses, n_layers=3, n_slots=3, n_samples=3) -> tuple[Observations, Tracker]:
    """Samples of a world in which every link, miss, birth and magnitude has a say."""
    rng = np.random.default_rng(seed)
    observations = drawn(rng, n_samples, n_layers, n_slots, D_SAE, share=0.85)
    ratios = rng.normal(size=(D_SAE, D_SAE))
    tracker = flat_tracker(n_layers, D_SAE, ratios, max_misses=max_misses, association="murty")
    n_pairs = len(tracker.graph.miss)
    for values in (tracker.graph.miss, tracker.graph.birth):
        values[:] = rng.exponential(0.5, values.shape)
    magnitudes = Filter(rng.random(n_pairs), rng.random(n_pairs) + 0.1, rng.random(n_layers) / 2)
    for name, values in magnitudes._asdict().items():
        getattr(tracker.graph, name)[:] = values
    return observations, tracker


def with_hypotheses(tracker: Tracker, number: int) -> Tracker:
    return tracker._replace(settings=tracker.settings._replace(hypotheses=number))


def continuations(tracker: Tracker, live: list[Live], here: list[Live]):
    """Every pairing of links that pay: (what it adds to the total, live tracks after it)."""
    graph, tracker_settings = tracker
    missed = sum(
        graph.miss[graph.pair(one.layer, here[0].layer - one.layer), one.latent] for one in live
    )
    paying = [
        (row, column, gain)
        for row, before in enumerate(live)
        for column, after in enumerate(here)
        if (gain := plain_gain(tracker, before, after, after.latent)) > 0
    ]
    reach = here[0].layer - tracker_settings.max_misses
    for size in range(min(len(live), len(here)) + 1):
        for chosen in itertools.combinations(paying, size):
            rows, columns = {row for row, _, _ in chosen}, {column for _, column, _ in chosen}
            if not len(rows) == len(columns) == size:
                continue
            after = [one for row, one in enumerate(live) if row not in rows and one.layer >= reach]
            after += [one for column, one in enumerate(here) if column not in columns]
            for row, column, _ in chosen:
                state = plain_update(tracker, live[row], here[column])[1]
                after.append(state._replace(track=live[row].track))
            yield sum(gain for _, _, gain in chosen) - missed, after


def layers_of(observations: Observations, tracker: Tracker, sample: int) -> list[list[Live]]:
    """Observations of a sample, each a track of its own."""
    latents, magnitudes = (values[sample] for values in observations)
    numbers = itertools.count()
    return [
        [
            plain_born(
                tracker, layer, int(latents[layer, slot]), float(magnitudes[layer, slot])
            )._replace(track=next(numbers))
            for slot in np.flatnonzero(latents[layer] >= 0)
        ]
        for layer in range(len(latents))
    ]


def greatest_total(tracker: Tracker, layers: list[list[Live]], live: list[Live]) -> float:
    """The best of all sequences of pairings, by trying every one."""
    if not layers:
        return 0.0
    if not layers[0]:
        return -np.inf  # such samples are left out of the comparison
    return max(
        gained + greatest_total(tracker, layers[1:], after)
        for gained, after in continuations(tracker, live, layers[0])
    )


def total_of(tracker: Tracker, layers: list[list[Live]], owners: list[list[int]]) -> float:
    """Total of the hypothesis that gives the observations to these tracks."""
    total, live = 0.0, []
    first: dict[int, int] = {}
    for here, tracks in zip(layers, owners, strict=True):
        for one, owner in zip(here, tracks, strict=True):
            first.setdefault(owner, one.track)
        wanted = sorted(first[owner] for owner in tracks)
        matching = [
            (gained, after)
            for gained, after in continuations(tracker, live, here)
            if sorted(one.track for one in after if one.layer == here[0].layer) == wanted
            and all(
                one.track == first[owner]
                for before, owner in zip(here, tracks, strict=True)
                for one in after
                if (one.layer, one.latent) == (before.layer, before.latent)
            )
        ]
        ((gained, live),) = matching
        total += gained
    return total


def totals(observations: Observations, tracker: Tracker) -> list[tuple[list[list[Live]], float]]:
    """Layers and total of the tracker's result, for every sample without an empty layer."""
    owners = link(observations, *tracker).track_of
    found = []
    for sample in range(len(owners)):
        layers = layers_of(observations, tracker, sample)
        by_layer = [row[row >= 0].tolist() for row in owners[sample]]
        if all(layers):
            found.append((layers, total_of(tracker, layers, by_layer)))
    return found


@given(CASES)
@settings(max_examples=15)
def test_with_room_for_all_hypotheses_no_sequence_of_pairings_is_better(case):
    observations, tracker = trellis(*case)
    for layers, total in totals(observations, with_hypotheses(tracker, 10_000)):
        np.testing.assert_allclose(total, greatest_total(tracker, layers, []), atol=1e-6)


@given(CASES)
@settings(max_examples=15)
def test_one_hypothesis_is_the_hungarian_association(case):
    observations, tracker = trellis(*case, n_layers=5, n_slots=5)
    hungarian = tracker._replace(settings=tracker.settings._replace(association="hungarian"))
    ours, theirs = (link(observations, *one) for one in (with_hypotheses(tracker, 1), hungarian))
    for name, values in theirs.arrays().items():
        np.testing.assert_array_equal(getattr(ours, name), values)


@given(CASES, st.integers(2, 4))
@settings(max_examples=15)
def test_no_hypothesis_is_reported_that_is_worse_than_the_hungarian_one(case, number):
    observations, tracker = trellis(*case, n_layers=4)
    few, one = (totals(observations, with_hypotheses(tracker, k)) for k in (number, 1))
    for (_, ours), (_, hungarian) in zip(few, one, strict=True):
        assert ours >= hungarian - 1e-6


def test_a_later_layer_puts_right_what_an_earlier_one_decided():
    # 2 carries on 0 (gain 2) or 1 (1.5), 3 carries on 2 (3), and 4 carries on 0 over a miss (4):
    # the best first layer leaves 2 + 3, the other one 1.5 + 3 + 4
    observations = seen((0, 1), (2, -1), (3, 4))
    ratios = np.full((5, 5), -9.0)
    ratios[0, 2], ratios[1, 2], ratios[2, 3], ratios[0, 4] = 2.0, 1.5, 3.0, 5.0
    one, two = (
        link(observations, *flat_tracker(3, 5, ratios, association="murty", hypotheses=k))
        for k in (1, 2)
    )
    assert one.track_of[0].tolist() == [[0, 1], [0, -1], [0, 2]]
    assert two.track_of[0].tolist() == [[0, 1], [1, -1], [1, 0]]
    assert (np.nansum(one.link_llr), np.nansum(two.link_llr)) == (5.0, 8.5)
