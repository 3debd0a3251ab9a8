from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ghosttrack.data.progress import Meter
from ghosttrack.data.windows import Windows
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.sae import evaluate as module
from ghosttrack.sae.bank import Bank, initialise
from ghosttrack.sae.evaluate import fidelity
from tests.models.conftest import model_config

LENGTHS = (9, 4, 12, 2, 7)


class Scaled(Bank):
    """Reconstructs `share` of the residual stream."""

    share = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.share * x


@pytest.fixture(scope="module")
def lm(gpt2_folder: Path) -> LM:
    return load_lm(model_config(), gpt2_folder, "cpu")


@pytest.fixture(scope="module")
def windows() -> Windows:
    draw = np.random.default_rng(0)
    ids = draw.integers(1, 100, sum(LENGTHS)).astype(np.int32)
    bounds = np.concatenate([[0], np.cumsum(LENGTHS)])
    return Windows(ids, np.zeros_like(ids), bounds)


def scaled(lm: LM, share: float) -> Scaled:
    bank = Scaled(["layer_0", "layer_2"], lm.d_model, d_sae=4, k=1)
    bank.share = share
    return bank


def trained(lm: LM) -> Bank:
    bank = Bank(["layer_0", "layer_1", "layer_2"], lm.d_model, d_sae=64, k=8)
    initialise(bank, torch.randn(3, 500, lm.d_model, generator=torch.Generator().manual_seed(0)))
    return bank.requires_grad_(False)


def test_an_identity_loses_nothing(lm: LM, windows: Windows):
    for row in fidelity(lm, scaled(lm, 1.0), windows, 1, 3):
        assert row.ce_recon == pytest.approx(row.ce_clean, abs=1e-6)
        assert row.ce_recovered == pytest.approx(1, abs=1e-6)
        assert row.kl == pytest.approx(0, abs=1e-6)
        assert row.ce_zero != pytest.approx(row.ce_clean, abs=1e-3)


def test_zeros_recover_nothing(lm: LM, windows: Windows):
    for row in fidelity(lm, scaled(lm, 0.0), windows, 1, 3):
        assert row.ce_recovered == 0
        assert row.kl > 1e-3


@pytest.mark.parametrize("skip_first", [0, 1, 2])
def test_a_forward_pass_by_hand_gives_the_same_numbers(lm: LM, windows: Windows, skip_first: int):
    """Window by window, with the whole model run and the block's output replaced on the way."""
    bank = trained(lm)
    rows = fidelity(lm, bank, windows, skip_first, 2)
    assert [row.hook for row in rows] == bank.hooks
    for layer, row in enumerate(rows):
        ce = {"clean": 0.0, "recon": 0.0, "zero": 0.0}
        kl, n = 0.0, 0
        for start, end in zip(windows.bounds, windows.bounds[1:], strict=False):
            ids = torch.from_numpy(windows.ids[start:end]).long()[None]
            logprobs = {}
            for name in ce:

                def replace(_block, _inputs, resid, layer=layer, name=name):
                    new = (
                        bank(resid.expand(3, -1, -1))[layer][None] if name == "recon" else 0 * resid
                    )
                    new[:, :skip_first] = resid[:, :skip_first]
                    return resid if name == "clean" else new

                hook = lm.parts.blocks[layer].register_forward_hook(replace)
                with torch.no_grad():
                    logits = lm.model(ids).logits[0, skip_first:-1]
                hook.remove()
                ce[name] += F.cross_entropy(
                    logits, ids[0, skip_first + 1 :], reduction="sum"
                ).item()
                logprobs[name] = logits.log_softmax(-1)
            target, given = logprobs["clean"], logprobs["recon"]
            kl += F.kl_div(given, target, reduction="sum", log_target=True).item()
            n += len(target)
        assert row.n_tokens == n == sum(max(length - 1 - skip_first, 0) for length in LENGTHS)
        assert row[1:4] == pytest.approx([ce[name] / n for name in ce], rel=1e-5)
        assert row.kl == pytest.approx(kl / n, rel=1e-4)


def test_batches_and_chunks_do_not_matter_and_all_passes_are_counted(
    lm: LM, windows: Windows, monkeypatch
):
    bank, meters = trained(lm), []
    monkeypatch.setattr(module, "Meter", lambda *told: meters.append(Meter(*told)) or meters[-1])
    whole = fidelity(lm, bank, windows, 1, 5)
    assert meters[0].done == meters[0].total > 7 * sum(LENGTHS)
    monkeypatch.setattr(module, "LOGITS", 1)
    monkeypatch.setattr(module, "ENCODE_TOKENS", 3)
    for a, b in zip(whole, fidelity(lm, bank, windows, 1, 2), strict=True):
        assert a[1:] == pytest.approx(b[1:], rel=1e-5)
