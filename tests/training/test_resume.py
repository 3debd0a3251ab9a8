from pathlib import Path

import pytest
import torch

from ghosttrack.training.resume import BankCheckpoints, trained

HOOKS = ["layer_0", "layer_2", "layer_5"]


class Unwritable:
    """Stands for a process that ends in the middle of writing."""

    def __reduce__(self):
        raise KeyboardInterrupt


def state(first: int, n_hooks: int) -> dict[str, object]:
    """What a rank keeps that trains some hook points; a row of any tensor tells whose it is."""
    rows = torch.arange(first, first + n_hooks, dtype=torch.float32)
    transposed = rows[:, None, None].repeat(1, 3, 2).mT
    moments = {"step": torch.tensor(7.0), "exp_avg": transposed}
    return {
        "global_step": 7,
        "state_dict": {"bank.b_enc": rows[:, None].clone(), "loss.silent": rows.clone()},
        "optimizer_states": [{"state": {0: moments}, "param_groups": [{"params": [0]}]}],
        "rng_state": torch.arange(16, dtype=torch.uint8),
    }


def write(point: Path, shares: list[list[str]]) -> None:
    first = 0
    for rank, hooks in enumerate(shares):
        checkpoint = state(first, len(hooks))
        BankCheckpoints(hooks).save_checkpoint(checkpoint, point / f"{rank:05d}.ckpt")
        first += len(hooks)


def test_a_file_that_is_not_written_to_its_end_leaves_the_one_before(tmp_path: Path):
    path = tmp_path / "step-5-of-1" / "00000.ckpt"
    checkpoints = BankCheckpoints(HOOKS)
    checkpoints.save_checkpoint(state(0, 3), path)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_checkpoint({**state(1, 3), "rest": Unwritable()}, path)
    assert checkpoints.load_checkpoint(path.parent)["state_dict"]["loss.silent"][0] == 0
    checkpoints.save_checkpoint(state(1, 3), path)
    assert checkpoints.load_checkpoint(path.parent)["state_dict"]["loss.silent"][0] == 1
    assert [file.name for file in path.parent.iterdir()] == ["00000.ckpt"]


@pytest.mark.parametrize(
    "before",
    [[HOOKS], [HOOKS[:2], HOOKS[2:]], [HOOKS[:1], HOOKS[1:2], HOOKS[2:]]],
    ids=["one file", "two", "three"],
)
@pytest.mark.parametrize(
    ("mine", "rows"), [(HOOKS, [0, 1, 2]), (HOOKS[1:], [1, 2]), (HOOKS[1:2], [1])]
)
def test_a_rank_finds_its_rows_whatever_ranks_there_were(tmp_path: Path, before, mine, rows):
    write(tmp_path, before)
    found = BankCheckpoints(mine).load_checkpoint(tmp_path)
    optimiser = found["optimizer_states"][0]
    assert found["state_dict"]["loss.silent"].tolist() == rows
    assert optimiser["state"][0]["exp_avg"][:, 0, 0].tolist() == rows
    assert optimiser["state"][0]["exp_avg"].shape == (len(rows), 2, 3)
    assert optimiser["state"][0]["exp_avg"].stride() == (6, 1, 2)
    assert optimiser["state"][0]["step"] == 7
    assert optimiser["param_groups"] == [{"params": [0]}]
    assert found["global_step"] == 7
    assert torch.equal(found["rng_state"], torch.arange(16, dtype=torch.uint8))
    assert {name: b.tolist() for name, b in trained(tmp_path, mine).items()} == {
        "b_enc": [[row] for row in rows]
    }


def test_a_resume_point_of_other_hook_points_is_not_taken(tmp_path: Path):
    write(tmp_path, [HOOKS[:2]])
    with pytest.raises(AssertionError, match="layer_5"):
        BankCheckpoints(HOOKS).load_checkpoint(tmp_path)
