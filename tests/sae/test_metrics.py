import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.metrics import BankMetrics
from tests.sae.support import activations, small_bank


def test_metrics_by_hand():
    metrics = BankMetrics(["layer_2"], d_model=2, d_sae=4)
    x = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    x_hat = torch.tensor([[[1.0, 1.0], [3.0, 0.0]]])
    values, indices = torch.tensor([[[2.0, 0.0], [1.0, 3.0]]]), torch.tensor([[[0, 1], [2, 0]]])
    metrics.update(x, x_hat, values, indices)
    row = metrics.rows()[0]
    assert (row.layer, row.hook, row.n_tokens) == (2, "layer_2", 2)
    # mean (2, 0); sum of squares about it 1 + 1; squared error 1
    assert row.fvu == 0.5
    assert row.explained_variance == 0.5
    assert row.mse == 1 / 4
    # entries 1 0 3 0: variance 10/4 - 1 = 3/2; errors 0 -1 0 0: 1/4 - 1/16 = 3/16
    assert row.variance_ratio == pytest.approx(1 - (3 / 16) / (3 / 2))
    # token 0 has one latent above 0, token 1 two; of four latents 0 and 2 fire
    assert row.l0 == 1.5
    assert row.dead_frac == 0.5
    assert row.cosine == pytest.approx((2**-0.5 + 1) / 2)
    assert (row.mean_act, row.max_act) == (2.0, 3.0)


@given(st.floats(0.01, 100), st.floats(-50, 50))
@settings(max_examples=15)
def test_fvu_does_not_change_under_shift_and_scale(factor, shift):
    x, x_hat = activations(200).double(), activations(200, seed=1).double()
    acts = small_bank().encode(activations(200))
    values = []
    for a, b in ((x, x_hat), (factor * x + shift, factor * x_hat + shift)):
        metrics = BankMetrics(["layer_0", "layer_3"], 16, 64)
        metrics.update(a, b, *acts)
        values.append(metrics.compute()["fvu"])
    torch.testing.assert_close(values[1], values[0], rtol=1e-6, atol=1e-9)


def test_the_mean_has_fvu_one():
    x = activations(300)
    metrics = BankMetrics(["layer_0", "layer_3"], 16, 64)
    metrics.update(x, x.mean(1, keepdim=True).expand_as(x), *small_bank().encode(x))
    assert metrics.compute()["fvu"].tolist() == pytest.approx([1, 1], abs=1e-5)


def test_batches_do_not_matter():
    bank, x = small_bank(), activations(301)
    whole, parts = (evaluate(bank, x.split(n, dim=1), "cpu") for n in (301, 7))
    for a, b in zip(whole, parts, strict=True):
        assert a[2:-2] == pytest.approx(b[2:-2], rel=1e-6)


def _rank(rank: int, folder: Path) -> None:
    address = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    rows = evaluate(small_bank(), activations(301)[:, rank::2].split(40, dim=1), "cpu")
    (folder / f"{rank}.json").write_text(json.dumps(rows))
    distributed.destroy_process_group()


@pytest.mark.long
@pytest.mark.slow
def test_one_rank_and_two_ranks_give_the_same_metrics(tmp_path):
    alone = evaluate(small_bank(), [activations(301)], "cpu")
    # Spawned: a fork of a process whose OpenMP threads have run hangs at its first product.
    multiprocessing.start_processes(_rank, (tmp_path,), nprocs=2, start_method="spawn")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    for ours, theirs in zip(alone, first, strict=True):
        assert ours[2:-2] == pytest.approx(theirs[2:-2], rel=1e-6)
