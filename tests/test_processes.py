from pathlib import Path

import pytest

from ghosttrack import processes
from ghosttrack.processes import ALONE, LOCAL_RANKS, RANKS, WORLD_SIZES, Place, machine, place


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, ALONE, id="alone"),
        pytest.param(
            {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, Place(5, 1, 8), id="torchrun"
        ),
        pytest.param({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Place(1, 1, 2), id="Lightning"),
        pytest.param(
            {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"},
            Place(3, 1, 4),
            id="srun",
        ),
        pytest.param({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, ALONE, id="sbatch without srun"),
    ],
)
def test_a_process_finds_its_place(environment, expected, monkeypatch):
    for name in {*RANKS, *LOCAL_RANKS, *WORLD_SIZES, "SLURM_NTASKS"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert place() == expected


def test_a_machine_is_named_with_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Abacus 9\n\nmodel name\t: Abacus 9\n")
    monkeypatch.setattr(processes, "CPUINFO", file)
    monkeypatch.setattr(processes, "DRIVERS", ())
    said = machine().split(", ")
    assert said[0] == "Abacus 9"
    assert said[1].startswith("cores: ")
    assert said[2] == "no GPU"
