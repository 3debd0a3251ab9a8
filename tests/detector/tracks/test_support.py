import numpy as np
import pytest

from ghosttrack.detector.tracks.support import competition, main_birth, support
from ghosttrack.detector.tracks.track_table import survey
from tests.detector.scenes import evidence_of, tracks_from

# One sample, four layers, three slots. Track 0 goes through all layers and is for candidate 0, the
# emitted one; track 1 lives in layers 0-2 and is for candidate 1; track 2 is born at layer 3.
TRACK_OF = [[[0, 1, -1], [0, 1, -1], [0, 1, -1], [0, 2, -1]]]
STRENGTHS = [[[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]]]
FOR_0 = [[1.0, 1.0, 2.0, 3.0], [-1.0, -1.0, -1.0, 1.0]]  # by slot, by layer


def case(**other):
    logits = np.zeros((1, 4, 3, 2))
    logits[0, :, :2, 0] = np.array(FOR_0).T
    logits[..., 1] = -logits[..., 0]
    evidence = evidence_of(STRENGTHS, logits=logits, **other)
    return survey(evidence, tracks_from(TRACK_OF)), evidence


def test_candidate_masses_are_those_of_the_tracks_that_promote_them():
    flat, evidence = case()
    found = competition(flat, evidence)
    # Middle = layer 2 (depth 0.75): candidate 0 has mass 2, candidate 1 has mass 1.
    shares = np.array([2 / 3, 1 / 3])
    assert found["cand_entropy_mid"][0] == pytest.approx(
        -(shares * np.log(shares)).sum() / np.log(2)
    )
    assert found["cand_entropy_final"][0] == 0  # tracks 0 and 2 both promote candidate 0
    assert found["rival_ratio"][0] == 0
    # Rival 1 against winner 1, 1, 2, 4: at least half of it in three of four layers.
    assert found["rival_persistence"][0] == 0.75
    assert found["n_rivals"][0] == 0.5  # one confirmed track over two observations per layer


def test_another_emitted_token_turns_winner_and_rival_round():
    flat, evidence = case(emitted=[1])
    found = competition(flat, evidence)
    assert found["rival_ratio"][0] == 1  # mass 4 against 0 at the last layer
    assert found["n_rivals"][0] == 0.5


def test_support_is_shared_by_the_tracks_that_argue_for_the_answer_late():
    flat, evidence = case()
    found = support(flat, evidence)
    # Late = layer 3: track 0 gives 3, track 2 gives 1.
    assert found["winner_share"][0] == 0.75
    assert found["support_gini"][0] == pytest.approx(0.25)  # |3 - 1| / (2 * 2 * 2) * 2
    assert found["support_depth"][0] == pytest.approx((3 * 0.25 + 1 * 1.0) / 4)
    assert main_birth(flat, evidence.attribution)[0] == 0.25
    assert np.isnan(found["prior_share"][0])


def test_prior_share_is_what_the_mask_leaves_of_the_support():
    presence = np.ones((1, 4, 3))
    presence[0, 3] = [0.5, 0.0, 0.0]
    flat, evidence = case(presence=presence)
    assert support(flat, evidence)["prior_share"][0] == pytest.approx(0.5 * 3 / 4)


def test_bias_share_weighs_the_biases_against_the_last_layers_latents():
    flat, evidence = case(bias=[[-1.0, 1.0]])
    assert support(flat, evidence)["bias_share"][0] == pytest.approx(-1 / (1 + 4))


def test_an_answer_that_no_track_supports_is_an_orphan():
    flat = survey(evidence_of(STRENGTHS), tracks_from(TRACK_OF))
    evidence = evidence_of(STRENGTHS)
    found = support(flat, evidence)
    assert found["winner_share"][0] == 0
    assert found["support_depth"][0] == 1
    assert main_birth(flat, evidence.attribution)[0] == 1


def test_a_main_supporter_born_late_is_an_orphan():
    logits = np.zeros((1, 4, 3, 2))
    logits[0, 3, :2, 0] = [1.0, 2.0]  # the late track 2 gives more than track 0
    evidence = evidence_of(STRENGTHS, logits=logits)
    assert main_birth(survey(evidence, tracks_from(TRACK_OF)), evidence.attribution)[0] > 0.75
