from pathlib import Path

import pytest

from sweep.logged import read_logged
from tests.support.commands import Workplace, artifacts, measured, only, said
from tests.support.programs import Done
from tests.support.wandb_run import Lineage, read_run

pytestmark = pytest.mark.slow
OFFLINE = "tiny/runs/train/2*/wandb/offline-run-*/*.wandb"


def fvu(bank: Path) -> list[float]:
    return [row["fvu"] for row in measured(bank)]


def test_a_stream_trains_without_a_store_and_wandb_without_an_account(
    workplace: Workplace, done: Done, tmp_path: Path
):
    stream = ("train.source=stream", "train.buffer_tokens=4096")
    said(workplace.fork(tmp_path, "train", "logger=wandb", *stream))
    assert not (tmp_path / "tiny" / "activations").exists()
    bank = only(tmp_path, "saes")
    # Other batches than the store's, of the same text.
    assert fvu(bank) == pytest.approx(fvu(done.made["saes"]), abs=0.05)

    (file,) = tmp_path.glob(OFFLINE)
    run = read_run(file)
    assert run.run_id == bank.name.split("-")[-1]
    assert run.job_type == "train"
    assert run.exit_code == 0
    assert run.config["sae"]["k"] == 8
    curve = run.series("train/fvu_mean")
    assert len(curve) == 8
    assert curve[-1] < curve[0]
    assert run.series("heldout/fvu_mean") == [pytest.approx(sum(fvu(bank)) / 3)]
    assert run.series("heldout/dead_frac/layer_2")
    assert run.tags == ("tiny", "topk", "d_sae=64", "k=8")
    assert len(run.panels) <= 40
    assert "heldout/dead_frac/layer_2" not in run.panels
    (corpus,) = artifacts(tmp_path, "corpora")
    assert set(run.config["made_from"]) == {"tiny", corpus}
    assert run.lineage == [Lineage("saes", bank.name, bank.as_uri())]
    (rows,) = [read_logged(folder) for folder in tmp_path.glob("tiny/runs/train/2*")]
    assert rows.series("train/fvu_mean")[1] == pytest.approx(curve)
    assert rows.series("heldout/fvu_mean")[1] == run.series("heldout/fvu_mean")
    assert not [one for one in workplace.home.iterdir() if one.name == "wandb"]
