from pathlib import Path

import pytest
import torch

from ghosttrack.pipelines.checkpoints import WholeCheckpoints


class Unwritable:
    """Stands for a process that ends in the middle of writing."""

    def __reduce__(self):
        raise KeyboardInterrupt


def test_a_checkpoint_that_is_not_written_to_its_end_leaves_the_last_one(tmp_path: Path):
    path = tmp_path / "checkpoint" / "last.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"step": 1, "weights": torch.ones(1000)}, path)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_checkpoint({"weights": torch.zeros(1000), "rest": Unwritable()}, path)
    assert checkpoints.load_checkpoint(path)["step"] == 1
    checkpoints.save_checkpoint({"step": 3}, path)
    assert checkpoints.load_checkpoint(path)["step"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
