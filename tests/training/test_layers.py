from unittest.mock import create_autospec

import pytest
import pytorch_lightning as pl

from ghosttrack.errors import ConfigError
from ghosttrack.training.strategies import LayersStrategy
from ghosttrack.training.trainer import share, share_hooks

HOOKS = [f"layer_{layer}" for layer in range(7)]


@pytest.mark.parametrize("world_size", range(1, 8))
def test_every_hook_point_has_one_rank_and_no_rank_is_idle(world_size: int):
    shares = share_hooks(HOOKS, world_size)
    assert [hook for one in shares for hook in one] == HOOKS
    sizes = {len(one) for one in shares}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def trainer(strategy: object, world_size: int) -> pl.Trainer:
    made = create_autospec(pl.Trainer, instance=True)
    made.strategy, made.global_rank, made.world_size = strategy, 1, world_size
    return made


def test_batches_are_shared_only_where_hook_points_are_not():
    assert share(trainer("ddp", 4), HOOKS) == (HOOKS, 1, 4)
    assert share(trainer(LayersStrategy(), 4), HOOKS) == (HOOKS[2:4], 0, 1)


def test_more_ranks_than_hook_points_are_refused():
    with pytest.raises(ConfigError, match=r"^trainer.devices .* = 8 ranks for 7 hook points"):
        share(trainer(LayersStrategy(), 8), HOOKS)
