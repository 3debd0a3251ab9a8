import numpy as np
import pytest
import torch

from ghosttrack.detector.tracks.novelty import Usual, fit_usual, novelty
from ghosttrack.sae.bank import Bank


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Two axes out of three at one hook point, each read and written alone; two active at most."""
    made = Bank(["layer_0"], 3, 2, 2)
    made.W_dec.data = torch.eye(3)[None, :2].clone()
    made.W_enc.data = torch.eye(3)[None, :, :2].clone()
    return made.requires_grad_(False)


def usual(**changed) -> Usual:
    centre, one = np.zeros((1, 3), np.float32), np.array([[0.0], [1.0]])
    return Usual(centre, one, one, np.array([[1.0, 3.0]]), one, np.array(0.5))._replace(**changed)


def test_what_no_latent_writes_is_unexplained(bank: Bank):
    residuals = np.array([[[3.0, 0.0, 0.0], [1.0, 1.0, 2.0], [-1.0, 0.0, 0.0]]], np.float32)
    latents = np.array([[[0, -1]], [[0, 1]], [[-1, -1]]])
    found = novelty(bank, residuals, latents, usual())
    # the second axis of the third row: 4 of 1 + 1 + 4; a negative reading is not written
    np.testing.assert_allclose(found["fvu"], [0, 4 / 6, 1])
    np.testing.assert_allclose(found["l0_z"], [1, 2, 0])
    np.testing.assert_allclose(found["rarity"], [1, 2, 0])


def test_numbers_are_in_deviations_of_text(bank: Bank):
    residuals = np.array([[[1.0, 1.0, 2.0]]], np.float32)
    text = usual(fvu=np.array([[0.5], [0.25]]), n_positive=np.array([[1.0], [2.0]]))
    found = novelty(bank, residuals, np.array([[[0, 1]]]), text)
    assert found["fvu"][0] == found["fvu_max"][0] == pytest.approx((4 / 6 - 0.5) / 0.25)
    assert found["l0_z"][0] == pytest.approx(0.5)


def test_text_itself_is_usual(bank: Bank):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(1, 400, 3)).astype(np.float32)
    latents = np.where(rng.random((400, 1, 2)) < [0.9, 0.1], [0, 1], -1)
    fitted = fit_usual(bank, text, latents)
    found = novelty(bank, text, latents, fitted)
    for name in ("fvu", "l0_z"):
        np.testing.assert_allclose([found[name].mean(), found[name].std()], [0, 1], atol=1e-6)
    n = (latents == [0, 1]).sum(axis=(0, 1))
    np.testing.assert_allclose(np.exp(-fitted.rarity[0]), (n + 0.5) / 401)
