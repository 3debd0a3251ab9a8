import threading
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from ghosttrack.data.datamodule import ActivationsDataModule, TrainBatches
from ghosttrack.errors import ConfigError
from tests.data.test_source import source

STEPS = 12

# The first: pytorch-lightning 2.6 with torch 2.13. The second: resuming is what is tested.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Recorder(pl.LightningModule):
    """Keeps every batch that it is given; fails at a step."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.fail_at = fail_at
        self.seen: list[list[int]] = []

    def training_step(self, batch, _index):
        if len(self.seen) == self.fail_at:
            raise KeyError("killed")
        self.seen.append(batch[0, :, 0].int().tolist())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, module: Recorder, every: int, resume: Path | None = None) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=STEPS,
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, every_n_train_steps=every, save_last=True)],
    )
    data = ActivationsDataModule(source([5] * 30, 60), batch_size=16, seed=3, steps=STEPS)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("every", [1, 3])
def test_a_run_killed_in_mid_epoch_goes_on_with_the_batches_it_had_not_had(tmp_path, every):
    whole = Recorder()
    fit(tmp_path / "whole", whole, every)
    killed = Recorder(fail_at=7)
    with pytest.raises(KeyError):
        fit(tmp_path / "killed", killed, every)
    resumed = Recorder()
    trainer = fit(tmp_path / "killed", resumed, every, tmp_path / "killed" / "last.ckpt")
    assert len(whole.seen) == trainer.global_step == STEPS
    assert whole.seen[7 - 7 % every :] == resumed.seen


def test_a_batch_that_does_not_divide_by_the_ranks_is_refused_by_name():
    data = ActivationsDataModule(source([5] * 30), batch_size=16, seed=0, steps=1)
    data.trainer = SimpleNamespace(world_size=3, global_rank=0)
    with pytest.raises(ConfigError, match=r"sae\.batch_size=16 is not a multiple of the 3 proc"):
        data.train_dataloader()


def test_ranks_get_their_rows_of_the_same_batch():
    def batches(rank: int, world_size: int) -> torch.Tensor:
        data = ActivationsDataModule(source([5] * 30), batch_size=16, seed=0, steps=4)
        data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)
        return torch.stack(list(data.train_dataloader()))

    whole = batches(0, 1)
    assert torch.equal(batches(1, 2), whole[:, :, 1::2])


def test_batches_made_ahead_are_not_counted_and_end_with_the_last():
    held = source([5] * 30, 60, ahead=True)
    expected = list(islice(held.batches(16, seed=3), 8))
    threads = threading.active_count()
    loader = TrainBatches(lambda step: held.batches(16, seed=3, start_step=step), steps=8)
    given = iter(loader)
    first = [next(given) for _ in range(3)]
    assert threading.active_count() > threads
    resumed = TrainBatches(loader.batches, steps=8)
    resumed.load_state_dict(loader.state_dict())
    rest = iter(resumed)
    last = [next(rest) for _ in range(5)]
    assert torch.equal(torch.cat(first + last), torch.cat(expected))
    given.close()
    assert threading.active_count() == threads


def test_a_loader_that_gave_everything_does_not_start_again():
    loader = TrainBatches(lambda step: (torch.zeros(1, 1, 1) for _ in range(2 - step)), steps=2)
    assert len(list(loader)) == len(loader) == 2
    with pytest.raises(AssertionError, match="all 2 steps"):
        next(iter(loader))
