import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ghosttrack.analysis.evaluations import read_evaluations
from ghosttrack.analysis.runs import find_runs, read_run_folder
from ghosttrack.report.tables import Estimate
from sweep.collect import main
from sweep.dashboard import main as dashboard
from sweep.heatmaps import main as heatmaps
from sweep.logged import read_logged
from sweep.tables import runs_sheet
from tests.sweep.outputs import bank, detected, hook, judged, run, trained


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A sweep with a failed job, a detection and a run that was killed, of one model."""
    root = tmp_path / "outputs" / "tiny"
    made = bank(root, 64, 8, [hook(0, fvu=0.1), hook(1, fvu=0.3)])
    for number in range(11):
        trained(root / "sweeps" / "grid" / str(number), ["logger=csv", f"seed={number}"], made)
    run(root / "sweeps" / "grid" / "11", "train", ["logger=csv", "sae.k=999"], status=1)
    detected(root / "runs" / "detect" / "noon", ["logger=csv"], made, judged(root))
    run(root / "runs" / "train" / "noon", "train", ["logger=csv"])
    return tmp_path / "outputs"


def collected(folder: Path, *detectors: str) -> pd.DataFrame:
    runs = find_runs(folder)
    return runs_sheet(runs, read_evaluations(runs), detectors)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_run_is_a_row_and_metrics_are_means_over_hook_points(outputs: Path):
    sheet = collected(outputs)
    assert len(sheet) == 14
    by_run = {row["run"]: row for row in sheet.to_dict("records")}
    job = by_run["grid/3"]
    assert (job["model"], job["d_sae"], job["k"], job["hooks"]) == ("tiny", 64, 8, 2)
    assert job["explained_variance"] == pytest.approx(0.8)
    assert job["expansion"] == 2
    assert (job["status"], job["seconds"]) == ("done", 20.5)
    assert by_run["detect/noon"]["seconds"] == 12.5
    assert by_run["grid/11"]["status"] == "failed (1)"
    assert by_run["train/noon"]["status"] == "unfinished"
    assert by_run["grid/11"]["explained_variance"] is None


def test_jobs_stand_in_the_order_of_their_numbers(outputs: Path):
    names = [one.folder.name for one in find_runs(outputs / "tiny" / "sweeps")]
    assert names == [str(number) for number in range(12)]


def test_detection_comes_with_its_interval_in_the_detectors_that_were_asked_for(outputs: Path):
    sheet = collected(outputs, "everything")
    assert [*sheet.columns[-2:]] == ["everything AUROC all", "everything AUROC p>0.5"]
    (found,) = sheet.loc[sheet["run"] == "detect/noon", "everything AUROC p>0.5"]
    assert found == Estimate(0.75, 0.65, 0.85)


def test_all_three_files_say_the_same(outputs: Path, capsys: pytest.CaptureFixture[str]):
    main([str(outputs), "--detectors", "output"])
    printed = capsys.readouterr().out
    assert printed.startswith("all runs: logger=csv\n")
    assert "14 runs, 2 of them not done" in printed
    found = rows(outputs / "runs.csv")
    parquet = pq.read_table(outputs / "runs.parquet").to_pylist()
    assert [one["run"] for one in found] == [one["run"] for one in parquet]
    detection = next(one for one in found if one["program"] == "detect")
    assert float(detection["output AUROC all low"]) == pytest.approx(0.65)
    assert next(one for one in parquet if one["program"] == "detect")["output AUROC all"] == 0.75
    markdown = (outputs / "runs.md").read_text()
    assert "0.750 [0.650, 0.850]" in markdown
    assert markdown.count("\n") == 16


def test_outputs_that_were_moved_are_read(outputs: Path, tmp_path: Path):
    outputs.rename(tmp_path / "elsewhere")
    sheet = collected(tmp_path / "elsewhere", "output")
    assert set(sheet["expansion"]) == {2, None}
    assert any(isinstance(cell, Estimate) for cell in sheet["output AUROC all"])


def test_a_run_whose_artefacts_are_gone_keeps_its_numbers(outputs: Path, tmp_path: Path):
    (outputs / "tiny" / "sweeps" / "grid").rename(tmp_path / "grid")
    (outputs / "tiny").rename(tmp_path / "gone")
    (job, *_) = find_runs(tmp_path / "grid")
    assert job.bank is not None
    assert (job.bank.d_sae, job.bank.d_model) == (64, None)
    assert job.bank.mean("fvu") == pytest.approx(0.2)


def test_a_detector_that_nobody_evaluated_is_named(outputs: Path):
    with pytest.raises(
        SystemExit, match=r"--detectors: no nobody; there are everything, null:shuffled"
    ):
        main([str(outputs), "--detectors", "nobody,output"])


def test_a_model_cannot_be_named_out_of_its_folder(outputs: Path):
    noon = outputs / "tiny/runs/detect/noon"
    (noon / ".hydra" / "config.yaml").write_text("model: {name: ../x}")
    with pytest.raises(SystemExit, match=r"model\.name must be a plain folder name"):
        main([str(noon)])


def test_a_folder_without_runs_is_one_line(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"no run is there"):
        main([str(tmp_path)])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (".hydra/config.yaml", "a: [", r"config\.yaml: is not YAML"),
        (".hydra/hydra.yaml", "a: 1", "noon: a file of it is malformed"),
        ("metrics.json", "{", r"metrics\.json: is not JSON"),
    ],
)
def test_a_damaged_run_is_left_out_and_fails_alone(
    outputs: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, said: str
):
    noon = outputs / "tiny/runs/detect/noon"
    (noon / file).write_text(text)
    main([str(outputs)])
    printed = capsys.readouterr().out
    assert re.search(f"^left out: .*{said}", printed, re.MULTILINE)
    assert "13 runs, 2 of them not done" in printed
    with pytest.raises(SystemExit, match=said):
        main([str(noon)])


@pytest.fixture
def over_models(tmp_path: Path) -> Path:
    """A sweep over two models, beside their folders."""
    outputs = tmp_path / "outputs"
    for number, model in enumerate(("tiny", "large")):
        job = outputs / "sweeps" / "noon" / str(number)
        trained(job, [], bank(outputs / model, 64, 8, [hook(number)]))
        (job / ".hydra" / "config.yaml").write_text(f"model: {{name: {model}}}")
    return outputs


def test_a_model_has_its_runs_of_sweeps_over_several(over_models: Path):
    (job,) = find_runs(over_models / "large")
    assert (job.model, job.name) == ("large", "noon/1")
    assert len(find_runs(over_models)) == 2
    made = bank(over_models / "large", 32, 8, [hook(0)])
    trained(over_models / "large" / "sweeps" / "own" / "0", [], made)
    assert [one.name for one in find_runs(over_models / "large")] == ["own/0", "noon/1"]


def test_a_folder_is_found_by_what_it_is_and_not_by_how_it_is_written(
    over_models: Path, monkeypatch: pytest.MonkeyPatch
):
    (over_models / "tiny").mkdir(exist_ok=True)
    monkeypatch.chdir(over_models / "tiny")
    assert [one.model for one in find_runs(Path())] == ["tiny"]
    monkeypatch.chdir(over_models / "sweeps" / "noon" / "0")
    assert [one.model for one in find_runs(Path())] == ["tiny"]


@pytest.mark.parametrize("model", ["tiny", "large"])
def test_copied_outputs_are_read_and_not_what_they_were_copied_from(
    over_models: Path, tmp_path: Path, model: str
):
    copied = shutil.copytree(over_models, tmp_path / "copied", symlinks=True)
    (facts,) = (copied / model / "saes").glob("*/bank.json")
    facts.write_text('{"d_model": 16}')
    (job,) = find_runs(copied / model)
    assert job.bank is not None
    assert job.bank.expansion == 4


def test_a_damaged_log_is_left_out(outputs: Path, capsys: pytest.CaptureFixture[str]):
    run = outputs / "tiny/runs/train/noon"
    for version, text in enumerate(("step,loss\n1,0.5\n", "step,loss\n2,half\n")):
        folder = run / "lightning_logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(text)
    assert read_logged(run).series("loss") == ([1.0], [0.5])
    assert "left out: " in capsys.readouterr().out


def test_a_setting_cannot_become_a_formula_or_end_a_cell(tmp_path: Path):
    run(tmp_path / "m" / "runs" / "train" / "a", "train", ["=1+1|<b>"])
    main([str(tmp_path)])
    assert rows(tmp_path / "runs.csv")[0]["overrides"] == "'=1+1|<b>"
    assert r"=1+1\|\<b>" in (tmp_path / "runs.md").read_text()


def _other_overrides(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**found, "overrides": ["sae.k=3"]}))


def _other_bank(run: Path) -> None:
    (run / ".hydra/config.yaml").write_text("{model: {name: tiny}, sae: {d_sae: 64, k: 9}}")


def _other_job(run: Path) -> None:
    (run / "status.json").write_text('{"overrides": ["sae.k=3"], "exit": 0, "seconds": 1}')


def _other_log(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    logs = ["offline-run-20260101_000000-0123"]
    (run / "metrics.json").write_text(json.dumps({**found, "logs": logs}))
    (run / "wandb" / "offline-run-20260101_000000-4567").mkdir(parents=True)


@pytest.mark.parametrize("mix", [_other_overrides, _other_bank, _other_job, _other_log])
def test_a_folder_with_parts_of_two_runs_is_refused_by_name(
    outputs: Path, mix: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
):
    job = outputs / "tiny/sweeps/grid/3"
    assert read_run_folder(job).status == "done"
    mix(job)
    main([str(outputs)])
    printed = capsys.readouterr().out
    assert re.search(rf"^left out: {job}: has parts of several runs: .*$", printed, re.MULTILINE)
    assert "13 runs, 2 of them not done" in printed
    for program in (dashboard, heatmaps):
        with pytest.raises(SystemExit, match=f"{job}: has parts of several runs"):
            program([str(job)])


def test_logs_that_were_uploaded_and_removed_are_not_missed(outputs: Path):
    job = outputs / "tiny/sweeps/grid/3"
    _other_log(job)
    shutil.rmtree(job / "wandb")
    assert read_run_folder(job).status == "done"
