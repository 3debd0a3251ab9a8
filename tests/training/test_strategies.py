import pytest
import pytorch_lightning as pl
import torch

from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.workers import use_own_gpu
from ghosttrack.sae import fused
from ghosttrack.sae.config import KernelChoice
from ghosttrack.sae.products import choose
from ghosttrack.training.strategies import (
    LayersStrategy,
    OwnGPU,
    ShardedStrategy,
    resolved,
    sees_one_of_many,
)
from tests.sae.support import sae_config

GPU = torch.device("cuda")


@pytest.fixture
def third_of_four(monkeypatch: pytest.MonkeyPatch):
    """A rank of `srun --gpus-per-task=1`: three ranks stand before it, one GPU is to be seen."""
    for name, value in {"RANK": "2", "LOCAL_RANK": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_rank_that_sees_one_gpu_extracts_on_it(third_of_four, monkeypatch: pytest.MonkeyPatch):
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    use_own_gpu()
    assert chosen == [0]


def test_a_rank_that_sees_one_gpu_trains_on_it(third_of_four, monkeypatch: pytest.MonkeyPatch):
    assert sees_one_of_many("auto")
    assert not sees_one_of_many("cpu")
    monkeypatch.setattr(OwnGPU, "is_available", staticmethod(lambda: True))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    trainer = pl.Trainer(accelerator=OwnGPU(), devices=4, strategy=LayersStrategy(), logger=False)
    assert (trainer.global_rank, trainer.world_size) == (2, 4)
    assert trainer.strategy.root_device == torch.device("cuda", 0)


def test_a_gpu_multiplies_over_all_latents_unless_it_is_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(fused, "AVAILABLE", False)
    few = {"d_sae": 10240, "k": 64}  # phi-2's
    assert choose(sae_config(**few), GPU) is KernelChoice.dense
    assert choose(sae_config(**few, kernels=KernelChoice.sparse), GPU) is KernelChoice.sparse
    with pytest.raises(ConfigError, match=r"^sae.kernels=compiled is for a CPU, not cuda"):
        choose(sae_config(**few, kernels=KernelChoice.compiled), GPU)


@pytest.mark.parametrize(
    ("settings", "gpus", "n_hooks", "expected"),
    [
        ({}, 0, 6, (1, "auto")),
        ({}, 1, 6, (1, "auto")),
        ({}, 4, 24, (4, LayersStrategy)),
        ({}, 8, 6, (6, LayersStrategy)),
        ({"accelerator": "cpu"}, 4, 24, (1, "auto")),
        ({"devices": 4}, 4, 2, (4, ShardedStrategy)),
        ({"devices": 2, "strategy": "ddp"}, 4, 24, (2, ShardedStrategy)),
        ({"devices": 1, "strategy": "layers"}, 4, 24, (1, LayersStrategy)),
    ],
)
def test_several_gpus_share_the_hook_points(settings, gpus, n_hooks, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    trainer = {"accelerator": "auto", "devices": "auto", "strategy": "auto", "num_nodes": 1}
    devices, strategy = resolved(trainer | settings, n_hooks, 4096)
    assert (devices, strategy if strategy == "auto" else type(strategy)) == expected


def test_processes_that_were_started_together_are_all_taken(third_of_four):
    trainer = {"accelerator": "auto", "devices": "auto", "strategy": "auto", "num_nodes": 1}
    devices, strategy = resolved(trainer, 24, 4096)
    assert (devices, type(strategy)) == (4, LayersStrategy)


def test_a_second_gpu_has_to_pay_for_its_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trainer = {"accelerator": "auto", "devices": "auto", "strategy": "auto", "num_nodes": 1}
    assert resolved(trainer, 6, 512) == (1, "auto")  # the embedded model's bank
    devices, strategy = resolved(trainer, 6, 4096)
    assert (devices, type(strategy)) == (4, LayersStrategy)
