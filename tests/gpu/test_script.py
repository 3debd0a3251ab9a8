"""Every part of the device script runs, here on a CPU at tiny shapes."""

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks import study
from tests.gpu.__main__ import parts, run
from tests.support.commands import Workplace, said

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_every_part_runs_and_leaves_numbers(tmp_path: Path):
    todo = parts(CPU, True, tmp_path)
    todo.pop("study")
    found = run(todo, 1000)
    failed = {name: one for name, one in found.items() if "found" not in one}
    assert not failed, json.dumps(failed, indent=2)
    assert list(found) == list(todo)
    json.dumps(found)


def test_after_a_check_that_failed_no_number_is_taken():
    def fails():
        raise AssertionError("wrong")

    found = run({"check a": fails, "check b": lambda: 1, "step": lambda: 2}, 1000)
    assert "failed" in found["check a"]
    assert found["check b"]["found"] == 1
    assert found["step"] == "left out: a check failed"
    assert run({"step": lambda: 2}, -1)["step"] == "left out: too late"


@pytest.mark.slow
@pytest.mark.long  # a whole run of train.py, which others test
def test_the_studys_minutes_are_read_off_a_slice_of_the_program(workplace: Workplace):
    found = study.measure(study.SMALL, "cpu", 1, lambda words: said(workplace.forks.run(words)))
    assert found["minutes"] > 0
    assert sum(found["ms_by_part"].values()) >= 0.99 * found["ms_per_step"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_what_float64_says(tmp_path: Path):
    todo = parts(torch.device("cuda"), True, tmp_path)
    found = run({name: one for name, one in todo.items() if name.startswith("check")}, 1000)
    assert all("found" in one for one in found.values()), found
