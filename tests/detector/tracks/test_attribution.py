import numpy as np
import pytest
import torch

from ghosttrack.detector.tracks.attribution import (
    Attribution,
    Evidence,
    Promotion,
    direct_logits,
    gather,
    in_order,
    promote,
    promoted_tokens,
    spoken_tokens,
)
from ghosttrack.detector.tracks.novelty import Usual, fit_usual
from ghosttrack.detector.tracks.observe import Observed, Standard, observe
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import Readings, read
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import Observations
from tests.detector.scenes import random_case, tiny_lm, tracks_from

PROMPTS = ("anna was born in", "where was carla born ?", "bert lives in the city of")
SUBJECTS = ("anna", "carla", "")
STANDARD = Standard(np.zeros(2), np.ones(2))


def usual(bank: Bank) -> Usual:
    text = np.random.default_rng(0).normal(size=(2, 50, bank.d_model)).astype(np.float32)
    return fit_usual(bank, text, observe(bank, text, 4, STANDARD).observations.latents)


@pytest.fixture(scope="module", params=["gpt2_folder", "llama_folder"])
def lm(request) -> LM:
    return tiny_lm(request.getfixturevalue(request.param))


def read_all(lm: LM) -> Readings:
    return read(lm, [lm.encode(text) for text in PROMPTS], [(20,)] * 3, SUBJECTS, (1, 2))


def exact_bank(d_model: int) -> Bank:
    """Reads and writes every axis in both senses, so that observations add up to the residual."""
    made = Bank(["layer_1", "layer_2"], d_model, 2 * d_model, 2 * d_model)
    axes = torch.cat([torch.eye(d_model), -torch.eye(d_model)])
    made.W_dec.data = axes.expand(2, -1, -1).clone()
    made.W_enc.data = axes.T.expand(2, -1, -1).clone()
    made.b_dec.data = torch.linspace(-1, 1, 2 * d_model).reshape(2, d_model)
    made.scale.copy_(torch.tensor([0.5, 3.0]))
    return made.requires_grad_(False)


def collect(lm: LM, readings: Readings) -> Evidence:
    bank = exact_bank(lm.d_model)
    return gather(lm, bank, readings, 2 * lm.d_model, STANDARD, usual(bank))


def test_observations_and_bias_add_up_to_the_final_logits(lm):
    readings = read_all(lm)
    evidence = collect(lm, readings)
    total = evidence.attribution.logits[:, -1].sum(axis=1) + evidence.attribution.bias
    logits = lm.unembed(torch.from_numpy(readings.residuals[-1])).numpy()
    wanted = np.take_along_axis(logits, readings.candidates, axis=1)
    np.testing.assert_allclose(total, wanted - wanted.mean(axis=1, keepdims=True), atol=1e-3)
    own = np.take_along_axis(readings.candidates, evidence.attribution.emitted[:, None], axis=1)
    np.testing.assert_array_equal(own[:, 0], readings.emitted)


def test_presence_is_the_share_of_a_strength_that_the_mask_leaves(lm):
    readings = read_all(lm)
    evidence = collect(lm, readings)
    assert np.isnan(evidence.presence[2]).all()  # no subject
    found = evidence.presence[:2]
    assert ((found >= 0) & (found <= 1)).all()
    assert 0 < found.mean() < 1
    same = readings._replace(masked=readings.residuals)
    evidence = collect(lm, same)
    there = evidence.observed.observations.latents >= 0
    np.testing.assert_allclose(evidence.presence[there], 1, atol=1e-5)


def test_attribution_is_the_written_vector_read_by_the_candidates():
    directions = np.array([[[1.0, 0.0], [0.6, 0.8]]])  # one layer, two latents
    observed = Observed(
        Observations(np.array([[[1, -1]]]), np.zeros((1, 1, 2))),
        np.array([[[9.0, 0.0]]]),
        np.array([[[5.0, 0.0]]]),  # writes (3, 4)
    )
    readouts = np.array([[[2.0, 0.0], [0.0, 1.0]]])  # 6 and 4, over scale 2: 3 and 2
    found = direct_logits(observed, directions, readouts, np.array([2.0]))
    np.testing.assert_allclose(found[0, 0], [[0.5, -0.5], [0, 0]], rtol=1e-6)


def test_a_track_promotes_what_its_last_observation_argues_for():
    logits = np.zeros((1, 3, 2, 2))
    logits[0, :, 0] = [[9, -9], [-1, 1], [0, 0]]  # track 0 ends at layer 1, for candidate 1
    logits[0, :, 1] = [[-2, 2], [-2, 2], [3, -3]]  # track 1 ends at layer 2, for candidate 0
    attribution = Attribution(logits, np.zeros((1, 2)), np.array([0]))
    found = promote(tracks_from([[[0, 1], [0, 1], [-1, 1]]]), attribution)
    np.testing.assert_array_equal(found.candidates, [1, 0])
    np.testing.assert_array_equal(found.logits, [1, 3])


def test_promoted_tokens_are_spelled_per_track():
    promotion = Promotion(np.array([1, 0, 1]), np.ones(3))
    tracks = tracks_from([[[0, 1]], [[2, -1]]])
    candidates = np.array([[5, 6], [7, 8]])
    spelled = promoted_tokens(promotion, tracks, candidates, lambda ids: f" <{ids[0]}>")
    assert spelled == ["<6>", "<5>", "<8>"]


def test_evidence_follows_the_order_in_which_a_null_tracked_the_layers():
    evidence, _ = random_case(np.random.default_rng(0), n_layers=4)
    order = [2, 0, 3, 1]
    moved = in_order(np.array(order), evidence)
    latents = evidence.observed.observations.latents
    np.testing.assert_array_equal(moved.observed.observations.latents, latents[:, order])
    np.testing.assert_array_equal(moved.observed.strengths, evidence.observed.strengths[:, order])
    np.testing.assert_array_equal(moved.attribution.logits, evidence.attribution.logits[:, order])
    np.testing.assert_array_equal(moved.presence, evidence.presence[:, order])
    np.testing.assert_array_equal(moved.depths, evidence.depths)


def test_a_latent_speaks_for_the_tokens_that_its_direction_reads_most(lm):
    bank = exact_bank(lm.d_model)
    latents = np.array([[[3], [-1]], [[3], [5]]])
    words = spoken_tokens(lm, bank, Observations(latents, np.zeros(latents.shape)))
    readout = lm.readout(torch.arange(lm.d_vocab)).cpu()
    for name, latent in (("0/3", 3), ("1/5", 5)):
        best = readout[:, latent].topk(5).indices.tolist()
        assert words[name] == " ".join(lm.decode([token]).strip() for token in best)
    assert set(words) == {"0/3", "1/5"}
