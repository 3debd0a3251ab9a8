import warnings

import pytest
import pytorch_lightning as pl
import torch

from ghosttrack.errors import ConfigError
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.lit import LitBank
from tests.sae.support import Batches, activations, sae_config, small_bank

STEPS = 24


class Loader(pl.LightningDataModule):
    """The same global batches for every number of ranks."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x = x

    def train_dataloader(self) -> Batches:
        assert self.trainer is not None
        return Batches(self.x, 128, STEPS, self.trainer.global_rank, self.trainer.world_size)


class Stopped(Exception):
    """Ends a run."""


class Stop(pl.Callback):
    """Ends a run after some steps, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            raise Stopped


def fit(tmp_path, *, resume=None, stop=None, x=None, callbacks=(), **changes):
    save = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=10)
    callbacks = [save, *callbacks]
    if stop is not None:
        callbacks.append(Stop(stop))
    settings = {"devices": 1, "max_steps": STEPS, **changes}
    with warnings.catch_warnings():
        # Lightning on worker counts, checkpoint folders and mid-epoch resume: none of it ours
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, callbacks=callbacks, min_steps=1, log_every_n_steps=4,
            **settings,
        )  # fmt: skip
        lit = LitBank(small_bank(), sae_config(dead_after_tokens=300), STEPS)
        data = Loader(activations(4000) if x is None else x)
        trainer.fit(lit, data, ckpt_path=resume)
    return lit, trainer


def test_training_lowers_the_fvu_of_held_out_tokens(tmp_path):
    heldout = [activations(500, seed=5)]
    before = evaluate(small_bank(), heldout, "cpu")
    lit, _ = fit(tmp_path)
    after = evaluate(lit.bank, heldout, "cpu")
    assert all(a.fvu < 0.7 * b.fvu for a, b in zip(after, before, strict=True))


def test_a_run_stopped_and_resumed_ends_bit_for_bit_like_one_that_was_not(tmp_path):
    whole, _ = fit(tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(tmp_path / "parts", stop=13)
    resumed, trainer = fit(tmp_path / "parts", resume=tmp_path / "parts" / "last.ckpt")
    assert trainer.global_step == STEPS
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_holds_plain_containers_and_the_counts_of_silence(tmp_path):
    lit, _ = fit(tmp_path)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["state_dict"]["loss.silent"].shape == lit.loss.silent.shape
    assert "bank.scale" in checkpoint["state_dict"]


def test_what_is_logged_has_a_name_of_its_own_for_each_hook_point(tmp_path):
    lit, _ = fit(tmp_path)
    names = {"loss", "fvu_mean", "fvu_max", "dead_frac", "fvu/layer_0", "fvu/layer_3"}
    assert set(lit.latest) == {f"train/{name}" for name in names} | {*("lr", "tokens_per_s")}
    assert 0 < lit.latest["train/fvu/layer_3"] < 1


def test_a_run_that_meets_nan_stops_and_names_the_hook_point(tmp_path):
    x = activations(4000)
    x[1] = float("nan")
    with pytest.raises(ConfigError, match=r"layer_3.*NaN"):
        fit(tmp_path, x=x)
    assert not (tmp_path / "last.ckpt").exists()
