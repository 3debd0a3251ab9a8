"""Tracker speed: samples/s at 12 layers and 50 observations, against a plain Python loop.

Run:
    python -m tests.benchmarks.tracker [--json FILE]

Both sides get the same planted observations and graph, and must find the same tracks. The loop is
what one would write first: dictionaries of live tracks, a dense cost matrix per layer with birth
and miss costs taken off, scipy's solver. `baseline` has the gate of the baseline preset; `open`
lets all eight candidates of every latent through, the most work that a graph can make. `murty`
keeps three hypotheses."""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ghosttrack.tracking.observations import Observations, TrackerSettings
from ghosttrack.tracking.tracker import Tracker, fit_tracker, link
from tests.tracking.planted import PlantedSpec, plant, sample

WORLD = PlantedSpec(
    n_layers=12, d_model=128, n_concepts=1024, n_fillers=1024, n_living=60, n_slots=50, clutter=12
)
MURTY_SAMPLES = 400
GATES = {"baseline": 0.5, "open": -1.0}


class Live(NamedTuple):
    """Last observation of a track."""

    track: int
    layer: int
    latent: int
    magnitude: float
    """In standard deviations about its latent's mean."""
    mean: float
    """The filter's state."""
    variance: float


def plain_born(tracker: Tracker, layer: int, latent: int, magnitude: float) -> Live:
    """An observation before anybody continues as it."""
    graph, noise = tracker.graph, tracker.graph.noise[layer]
    z = (magnitude - graph.mean[layer, latent]) / graph.deviation[layer, latent]
    return Live(-1, layer, latent, z, (1 - noise) * z, (1 - noise) * noise)


def plain_update(tracker: Tracker, before: Live, after: Live) -> tuple[float, Live]:
    """Log-likelihood ratio of the magnitude, and the observation as the track's state."""
    graph, _ = tracker
    pair = graph.pair(before.layer, after.layer - before.layer)
    slope, noise = graph.slope[pair], graph.noise[after.layer]
    surprise = after.magnitude - slope * before.mean
    square = slope**2 * before.variance + graph.process[pair] + noise
    ratio = 0.5 * (after.magnitude**2 - surprise**2 / square - np.log(square))
    mean = after.magnitude - noise / square * surprise
    return ratio, after._replace(mean=mean, variance=noise * (1 - noise / square))


def plain_gain(tracker: Tracker, before: Live, after: Live, rank: int) -> float:
    """What the link gains against a miss and a birth; `rank` is the candidate's place."""
    graph, _ = tracker
    pair = graph.pair(before.layer, after.layer - before.layer)
    llr = graph.link[pair, before.latent, rank] + plain_update(tracker, before, after)[0]
    return llr + graph.miss[pair, before.latent] + graph.birth[after.layer, after.latent]


def plain_owners(tracker: Tracker, live: list[Live], here: list[Live]) -> list[int]:
    """Track of every observation of one layer; -1 for a birth."""
    graph, settings = tracker
    column_of = {one.latent: column for column, one in enumerate(here)}
    cost = np.zeros((len(live), len(here)))
    for row, one in enumerate(live):
        pair = graph.pair(one.layer, here[0].layer - one.layer) if here else 0
        for rank, latent in enumerate(graph.latents[pair, one.latent] if here else ()):
            if latent in column_of and graph.cosines[pair, one.latent, rank] >= settings.gate:
                column = column_of[latent]
                cost[row, column] = min(-plain_gain(tracker, one, here[column], rank), 0.0)
    owner = [-1] * len(here)
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] < 0:
            owner[column] = live[row].track
    return owner


def plain_tracks(observations: Observations, tracker: Tracker) -> np.ndarray:
    """Track sample by sample, layer by layer, pair by pair."""
    n_samples, n_layers, _ = observations.latents.shape
    track_of = np.full(observations.latents.shape, -1)
    n_tracks = 0
    for n in range(n_samples):
        live: list[Live] = []
        for layer in range(n_layers):
            latents = observations.latents[n, layer].tolist()
            magnitudes = observations.magnitudes[n, layer].tolist()
            slots = [slot for slot, latent in enumerate(latents) if latent >= 0]
            here = [plain_born(tracker, layer, latents[slot], magnitudes[slot]) for slot in slots]
            owners = plain_owners(tracker, live, here)
            reach = layer - tracker.settings.max_misses
            of_track = {one.track: one for one in live}
            live = [one for one in live if one.track not in owners and one.layer >= reach]
            for slot, one, owner in zip(slots, here, owners, strict=True):
                state = one
                if owner < 0:
                    owner = n_tracks
                    n_tracks += 1
                else:
                    state = plain_update(tracker, of_track[owner], one)[1]
                track_of[n, layer, slot] = owner
                live.append(state._replace(track=owner))
    return track_of


def same_tracks(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two numberings describe the same partition of the observations."""
    there = ours >= 0
    pairs = np.unique(np.stack([ours[there], theirs[there]]), axis=1).shape[1]
    return pairs == len(np.unique(ours[there])) == len(np.unique(theirs[there]))


def measure(gate: float, n_samples: int, n_plain: int) -> dict[str, Any]:
    """Samples per second of CPU time of both, the best of three for ours."""
    rng = np.random.default_rng(0)
    world = plant(WORLD, rng)
    text = sample(world, 1000, rng).observations
    observations = sample(world, n_samples, rng).observations
    clues = frozenset({"coactivation", "magnitude"})
    settings = TrackerSettings(gate, 2, 2, "hungarian", 3, clues)
    start = time.process_time()
    tracker = fit_tracker(world.directions, text, settings)
    fit_s = time.process_time() - start
    seconds = []
    for _ in range(3):
        start = time.process_time()
        tracks = link(observations, *tracker)
        seconds.append(time.process_time() - start)
    few = Observations(observations.latents[:n_plain], observations.magnitudes[:n_plain])
    start = time.process_time()
    plain = plain_tracks(few, tracker)
    plain_rate = n_plain / (time.process_time() - start)
    assert same_tracks(tracks.track_of[:n_plain], plain), "the two trackers disagree"
    rate = n_samples / min(seconds)
    murty = tracker._replace(settings=settings._replace(association="murty"))
    start = time.process_time()
    link(Observations(*(values[:MURTY_SAMPLES] for values in observations)), *murty)
    murty_rate = MURTY_SAMPLES / (time.process_time() - start)
    return {
        "samples_per_s": round(rate),
        "plain_samples_per_s": round(plain_rate, 1),
        "ratio": round(rate / plain_rate, 1),
        "murty_samples_per_s": round(murty_rate),
        "obs_per_layer": round(float((observations.latents >= 0).sum(2).mean()), 1),
        "links_per_latent": round(float((tracker.graph.cosines >= gate).sum(2).mean()), 2),
        "fit_s": round(fit_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--plain-samples", type=int, default=40)
    args = parser.parse_args()
    result = {name: measure(gate, args.samples, args.plain_samples) for name, gate in GATES.items()}
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
