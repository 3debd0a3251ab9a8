import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.statistics import (
    FAMILIES,
    TRACK_STATISTICS,
    track_statistics,
)
from ghosttrack.detector.tracks.track_table import survey
from ghosttrack.tracking.tracks import Tracks
from tests.detector.scenes import evidence_of, keeps_ranges, random_case, shuffle_slots, tracks_from

NULL = LengthNull(2.0, 0.5)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25)


@few
@given(seeds)
def test_every_statistic_keeps_its_range(seed):
    table = track_statistics(*random_case(np.random.default_rng(seed)), NULL)
    known = np.isfinite(table.values).all(axis=0)
    assert {name for name, one in zip(table.names, known, strict=True) if not one} <= {
        "prior_share"
    }
    keeps_ranges(table, TRACK_STATISTICS)


@few
@given(seeds)
def test_the_order_of_observations_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    evidence, tracks = random_case(rng)
    one = track_statistics(evidence, tracks, NULL)
    other = track_statistics(*shuffle_slots(rng, evidence, tracks), NULL)
    np.testing.assert_allclose(one.values, other.values, atol=1e-9)


@few
@given(seeds)
def test_a_sample_does_not_see_the_others(seed):
    evidence, tracks = random_case(np.random.default_rng(seed), n_samples=2)
    whole = track_statistics(evidence, tracks, NULL)
    for sample in range(len(whole)):
        alone = track_statistics(*pick(evidence, tracks, sample), NULL)
        np.testing.assert_allclose(alone.values[0], whole.values[sample], atol=1e-9)


def pick(evidence, tracks, sample):
    """One sample of a batch, its tracks numbered from 0."""
    rows = slice(sample, sample + 1)
    own = tracks.sample == sample
    first = int(np.flatnonzero(own)[0]) if own.any() else 0
    arrays = {
        name: values[rows] if values.ndim == 3 else values[own]
        for name, values in tracks.arrays().items()
    }
    for name in ("track_of", "parent", "merged_into"):
        arrays[name] = np.where(arrays[name] >= 0, arrays[name] - first, -1)
    arrays["sample"] = np.zeros(own.sum(), dtype=int)
    latents, magnitudes = evidence.observed.observations
    observed = evidence.observed._replace(
        observations=evidence.observed.observations._replace(
            latents=latents[rows], magnitudes=magnitudes[rows]
        ),
        strengths=evidence.observed.strengths[rows],
        acts=evidence.observed.acts[rows],
    )
    attribution = type(evidence.attribution)(*(values[rows] for values in evidence.attribution))
    chosen = evidence._replace(
        observed=observed,
        attribution=attribution,
        presence=evidence.presence[rows],
        novelty={name: values[rows] for name, values in evidence.novelty.items()},
    )
    return chosen, Tracks.from_arrays(arrays)


@pytest.mark.parametrize("times", [2, 3])
def test_a_model_of_the_same_life_in_more_layers_looks_the_same(times):
    """Four layers against the same with each layer repeated: shares, entropies and means stay."""
    rng = np.random.default_rng(3)
    strengths = rng.random((3, 4, 5)) + 0.1
    logits = rng.normal(size=(3, 4, 5, 3))
    track_of = np.arange(3)[:, None, None] * 5 + np.broadcast_to(np.arange(5), (3, 4, 5))
    one = track_statistics(evidence_of(strengths, logits=logits), tracks_from(track_of), NULL)
    longer = (np.repeat(values, times, axis=1) for values in (strengths, logits, track_of))
    strengths, logits, track_of = longer
    other = track_statistics(evidence_of(strengths, logits=logits), tracks_from(track_of), NULL)
    for name in (
        *("cand_entropy_mid", "cand_entropy_final", "rival_ratio", "rival_persistence", "n_rivals"),
        *("winner_share", "support_gini", "birth_rate", "death_rate", "late_birth_mass"),
        *("orphan_winner", "classic_entropy_mean", "classic_competition_second"),
        *("classic_competition_near", "classic_stability_cv", "classic_stability_long"),
        *("classic_dominance_mean", "classic_dominance_gini", "classic_density_confirmed"),
    ):
        np.testing.assert_allclose(one.column(name), other.column(name), atol=1e-6, err_msg=name)


def test_tracks_without_any_link_give_finite_numbers():
    rng = np.random.default_rng(0)
    strengths = rng.random((2, 3, 4))
    table = track_statistics(
        evidence_of(strengths, presence=np.ones(strengths.shape)),
        tracks_from(np.arange(24).reshape(2, 3, 4)),
        NULL,
    )
    assert np.isfinite(table.values).all()


def test_a_family_holds_every_definition_beside_its_formula():
    for family in FAMILIES:
        (name,) = {spec.family for spec in family.specs}
        assert [spec for spec in TRACK_STATISTICS if spec.family == name] == list(family.specs)
    evidence, tracks = random_case(np.random.default_rng(0))
    for family in FAMILIES:
        found = family.compute(survey(evidence, tracks), evidence, NULL)
        assert set(found) == {spec.name for spec in family.specs}
