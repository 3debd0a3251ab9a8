import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ghosttrack.analysis.evaluations import read_evaluation
from ghosttrack.analysis.transfer import main
from ghosttrack.detector.learners.fitted import load
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.pipelines.answers import read_answers
from tests.support.programs import Done

pytestmark = pytest.mark.slow


def elsewhere(done: Done, folder: Path, **changed: object) -> Path:
    """Copy fitted detectors that say of themselves something else."""
    shutil.copytree(done.made["detectors"], folder / "tiny" / "detectors" / "other")
    file = folder / "tiny" / "detectors" / "other" / "asking.json"
    manifest = file.parent / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    facts = json.loads(manifest.read_text())
    facts["files"][file.name]["bytes"] = file.stat().st_size
    manifest.write_text(json.dumps(facts))
    return file.parent


def sheet(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "transfer.csv")


def test_fitted_detectors_are_judged_on_other_answers(done: Done, tmp_path: Path, capsys):
    detectors = elsewhere(done, tmp_path, evaluation="of another set")
    main([str(detectors), str(done.made["evaluations"]), "--out", str(tmp_path / "out")])
    found = sheet(tmp_path / "out")
    found = found[found["subset"] == "all"].set_index("detector")
    (output,) = (one for one in load(detectors) if one.name == "output")
    record = read_evaluation(done.made["evaluations"])
    folder = done.output / "tiny" / "answers"
    answers = read_answers(next(folder.glob(f"*-{record.identity['answers']}")))
    area = plain_auroc(answers.labels, output.prob(output.values({"output": answers.output})))
    assert found.loc["output", "AUROC"] == pytest.approx(area, abs=1e-6)
    known = plain_auroc(answers.labels, record.evaluation.scores["output"])
    column = "minus output there"
    assert found.loc["output", column] == pytest.approx(area - known, abs=1e-4)
    told = capsys.readouterr().out
    fitted = {one.name for one in load(detectors)} - {"streaming"}
    assert {one for one in fitted if f"left out: {one}," in told} == fitted - {*found.index}
    assert "left out: tracks+output, its columns are not there" in told


def test_what_reads_a_model_does_not_travel_to_another(done: Done, tmp_path: Path, capsys):
    detectors = elsewhere(done, tmp_path, evaluation="elsewhere", model_identity={"weights": "x"})
    main([str(detectors), str(done.made["evaluations"]), "--out", str(tmp_path / "out")])
    names = set(sheet(tmp_path / "out")["detector"])
    assert "output" in names
    of_model = {one.name for one in load(detectors) if {"states", "lens"} & {*one.tables}}
    assert of_model
    assert of_model.isdisjoint(names)


def test_answers_that_detectors_learned_from_are_refused(done: Done):
    with pytest.raises(SystemExit, match="was fitted on these very answers"):
        main([str(done.made["detectors"]), str(done.made["evaluations"])])
