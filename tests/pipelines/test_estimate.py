import io
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from safetensors.torch import load_file

from ghosttrack.files import read_json
from ghosttrack.report import costs
from ghosttrack.report.costs import Cost, print_costs, total
from tests.support.commands import Workplace, said
from tests.support.programs import Done

TEXT = ["load model", "tokenise", "extract"]
BANK = [*TEXT, "train", "measure"]
PHASES = {
    "extract": TEXT,
    "train": BANK,
    "detect": [*BANK, "answer", "ask again", "self-checks", "track", "evaluate, report"],
}
STREAM = ("train.source=stream", "train.buffer_tokens=4096")


@pytest.fixture
def output(done: Done, tmp_path: Path) -> Path:
    """Where the finished job's store is, and nothing else."""
    return done.linked(tmp_path, "activations")


def estimated(output: Path, program: str) -> dict[str, dict]:
    """What the one run left in its `metrics.json`, by phase."""
    (file,) = (output / "tiny" / "runs" / program).glob("2*/metrics.json")
    return {cost["phase"]: cost for cost in read_json(file)["estimate"]}


def tensor_bytes(folder: Path) -> int:
    """What the tensors of a folder's safetensors files take."""
    files = folder.rglob("*.safetensors")
    return sum(tensor.nbytes for file in files for tensor in load_file(file).values())


@pytest.mark.slow
@pytest.mark.parametrize("program", ["extract", "detect"])  # the latter's phases hold train's
def test_a_program_says_what_every_phase_takes_and_builds_nothing(
    workplace: Workplace, done: Done, tmp_path: Path, program: str
):
    printed = said(workplace.fork(tmp_path, program, "estimate=true"))
    found = estimated(tmp_path, program)
    assert list(found) == [*PHASES[program], "total"]
    lines = [line for line in printed.splitlines() if line.startswith(tuple(found))]
    assert [next(name for name in found if line.startswith(name)) for line in lines] == list(found)
    for cost in found.values():
        assert 0 < cost["seconds"] < math.inf, cost
        assert cost["host_bytes"] > 10_000_000, cost
    assert found["total"]["seconds"] == pytest.approx(
        sum(found[phase]["seconds"] for phase in PHASES[program])
    )

    made = {file.name for file in (tmp_path / "tiny").glob("[!.]*")}
    assert made <= {"runs"}
    (run,) = (tmp_path / "tiny" / "runs" / program).glob("2*")
    assert {one.name for one in run.iterdir()} == {".hydra", f"{program}.log", "metrics.json"}

    assert found["extract"]["disk_bytes"] == pytest.approx(
        tensor_bytes(done.made["activations"]), rel=0.01
    )
    if "train" in found:
        assert found["train"]["disk_bytes"] == tensor_bytes(done.made["saes"])
        assert found["train"]["passing_bytes"] == 2 * 3 * found["train"]["disk_bytes"]
    if "track" in found:  # the small run asks every one of these questions, but of another bank
        made = sum(file.stat().st_size for file in done.made["tracks"].iterdir())
        assert found["track"]["disk_bytes"] == pytest.approx(made, rel=0.5)


@pytest.mark.slow
def test_a_phase_that_is_done_is_found_and_costs_nothing(workplace: Workplace, output: Path):
    said(workplace.fork(output, "train", "estimate=true"))
    found = estimated(output, "train")
    assert found["extract"]["how"] == "found"
    assert found["extract"]["seconds"] == found["extract"]["disk_bytes"] == 0
    assert found["train"]["seconds"] > 0


@pytest.mark.slow
@pytest.mark.long
def test_where_all_is_done_no_model_is_loaded(workplace: Workplace, done: Done, tmp_path: Path):
    done.linked(tmp_path, "activations", "saes", "answers", "tracks", "evaluations")
    said(workplace.fork(tmp_path, "detect", "estimate=true"))
    found = estimated(tmp_path, "detect")
    assert "load model" not in found
    assert {found[phase]["how"] for phase in PHASES["detect"][2:]} == {"found"}
    assert found["total"]["seconds"] == 0
    # Another tracker needs the old bank and answers, and text.
    shutil.rmtree(tmp_path / "tiny" / "runs")
    said(workplace.fork(tmp_path, "detect", "estimate=true", "detector.gate=0.9"))
    found = estimated(tmp_path, "detect")
    assert [phase for phase in found if found[phase]["how"] == "found"] == [
        *("extract", "train", "measure", "answer", "ask again", "self-checks")
    ]
    assert found["track"]["seconds"] > 0


@pytest.mark.slow
def test_a_stream_has_no_store_and_the_model_runs_while_a_bank_is_trained(
    workplace: Workplace, tmp_path: Path
):
    said(workplace.fork(tmp_path, "train", "estimate=true", *STREAM))
    found = estimated(tmp_path, "train")
    assert found["extract"]["disk_bytes"] == found["extract"]["seconds"] == 0
    assert "the model beside them" in found["train"]["how"]


def test_a_disk_that_is_too_small_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(
        costs, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=2 * 10**9))
    )
    phases = [
        Cost("extract", "measured", 9000.0, 10**9, disk_bytes=10**9),
        Cost("train", "measured", 60.0, 2 * 10**9, disk_bytes=10**9, passing_bytes=15 * 10**8),
        Cost("evaluate", "not measured: too few", math.nan),
    ]
    text = io.StringIO()
    print_costs(phases, tmp_path, Console(file=text, width=120))
    rows = {line.split()[0]: line for line in text.getvalue().splitlines()}
    assert "DOES NOT FIT" not in rows["extract"]
    assert "DOES NOT FIT: 2.0 GB free" in rows["train"]
    assert "DOES NOT FIT" in rows["total"]
    assert "2.5 h" in rows["extract"]
    assert rows["evaluate"].split()[1] == "–"
    assert "without evaluate" in rows["total"]
    assert total(phases).seconds == 9060
    assert total(phases).host_bytes == 2 * 10**9
