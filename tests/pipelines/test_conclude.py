import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ghosttrack import launch
from ghosttrack.artifacts import Artifact
from ghosttrack.errors import LeakError
from ghosttrack.evaluation.canaries import KINDS, kind
from ghosttrack.evaluation.config import Singing
from ghosttrack.evaluation.result import Interval
from ghosttrack.files import read_json, write_json
from ghosttrack.pipelines.conclude import conclude
from ghosttrack.run import Run
from tests.report.materials import evaluation

SONG = {"index": "the order of the answers tells the wrong ones"}


def ended(folder: Path, fate: Singing, **changed: object) -> Run:
    """Conclude a run whose evaluation is as changed."""
    write_json(folder / "evaluation.json", evaluation(**changed).to_json())
    write_json(folder / "metrics.json", {"cautions": [], "best": "one pass, output"})
    run = Run(folder / "run", "detect")
    conclude(run, Artifact(folder, "0" * 12, {}, built=True), fate)
    return run


@pytest.mark.parametrize("name", KINDS)
def test_whatever_canary_sings_the_program_ends_with_status_1(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    told = {"canaries": {name: 0.6}, "canaries_ci": {name: Interval(0.55, 0.65)}}
    singing = {name: kind(name).song}
    with pytest.raises(SystemExit) as stopped:
        launch._run(
            lambda _: ended(tmp_path, Singing.fail, singing=singing, **told), OmegaConf.create()
        )
    assert stopped.value.code == 1
    assert f"canary {name}, AUROC 0.600" in capsys.readouterr().err


def test_a_singing_canary_is_a_fault_after_everything_is_written(tmp_path: Path):
    line = (
        r"canary index, AUROC 0\.610 \[0\.530, 0\.700\], sings: the order of the answers tells"
        r" the wrong ones; evaluation\.canaries=report makes this no fault"
    )
    with pytest.raises(LeakError, match=line):
        ended(tmp_path, Singing.fail, singing=SONG)
    assert "detect" in read_json(tmp_path / "run" / "metrics.json")


def test_it_is_only_said_where_that_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    ended(tmp_path, Singing.report, singing=SONG)
    assert "canary index, AUROC 0.610 [0.530, 0.700], sings" in caplog.text


def test_a_known_signal_is_said_and_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    told = {"length": "the length of an answer is a real signal here"}
    intervals = {**evaluation().canaries_ci, "length": Interval(0.6, 0.7)}
    ended(tmp_path, Singing.fail, singing={}, signals=told, canaries_ci=intervals)
    assert "canary length, AUROC 0.500 [0.600, 0.700], is no leak: the length" in caplog.text


def test_it_names_the_best_of_one_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    ended(tmp_path, Singing.report)
    assert "the best here of one pass, output" in caplog.text
