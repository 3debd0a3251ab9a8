import re
import shutil
from pathlib import Path

import pytest
import torch

from ghosttrack.files import read_json
from tests.pipelines.test_check import sparsify
from tests.support.commands import Workplace, artifacts, measured, only, said, weights
from tests.support.programs import Done
from tests.support.wandb_run import Lineage, read_run


@pytest.fixture
def output(done: Done, tmp_path: Path) -> Path:
    """Where the finished job's text and answers are, and nothing else."""
    return done.linked(tmp_path, "corpora", "answers")


@pytest.fixture
def saes(done: Done, tmp_path: Path) -> Path:
    """The finished job's SAEs as folders of SAELens, without what is ours about them."""
    folder = tmp_path / "downloaded"
    for layer in range(3):
        shutil.copytree(done.made["saes"] / f"layer_{layer}", folder / f"layer_{layer}")
    return folder


@pytest.mark.slow
def test_saes_that_there_are_are_looked_through_as_trained_ones_would_be(
    workplace: Workplace, done: Done, output: Path, saes: Path
):
    settings = (f"bank={saes}", "logger=wandb")
    printed = said(workplace.fork(output, "detect", *settings))
    assert "training" not in printed
    assert not (output / "tiny" / "activations").exists()
    bank, evaluation = only(output, "saes"), only(output, "evaluations")
    for name, trained in weights(done.made["saes"]).items():
        assert torch.equal(weights(bank)[name], trained), name
    for row, trained in zip(measured(bank), measured(done.made["saes"]), strict=True):
        assert row.keys() == trained.keys()
        for name in ("fvu", "l0", "ce_recovered", "kl"):
            assert row[name] == pytest.approx(trained[name], rel=1e-3, abs=1e-6), name
    rows = {row["detector"] for row in read_json(evaluation / "evaluation.json")["rows"]}
    assert {"output", "tracks+output"} <= rows

    (logged,) = map(read_run, (output / "tiny" / "runs").glob("detect/2*/wandb/*run-*/*.wandb"))
    assert logged.job_type == "detect"
    assert logged.tags == ("tiny", "downloaded", "baseline")
    assert logged.lineage == [Lineage("evaluations", evaluation.name, evaluation.as_uri())]
    kinds = {Path(address).parent.name for address in logged.config["made_from"].values()}
    assert {"corpora", "saes", "answers", "tracks", "detectors"} <= kinds
    assert logged.config["made_from"][bank.name] == bank.as_uri()

    asked = said(workplace.console(output, "ask", "where was anna born?", *settings))
    assert "built" not in asked
    assert len(artifacts(output, "saes")) == 1


def _without(folder: Path, layer: int) -> Path:
    shutil.rmtree(folder / f"layer_{layer}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        pytest.param(lambda f: f / "none", (), r"config: bank=.*none: no such file", id="nowhere"),
        pytest.param(
            lambda f: _without(f, 1),
            (),
            r"config: bank=.* has SAEs of some layers alone; set layers=\[0,2\]$",
            id="some layers",
        ),
        pytest.param(
            lambda f: _without(f, 1),
            ("layers=[0,1]",),
            r"config: layers: .* has no SAE of \[1\]",
            id="another layer",
        ),
        pytest.param(lambda f: f.parent / "tiny", (), r"no SAE: neither bank\.json", id="no SAEs"),
        pytest.param(
            lambda f: sparsify(f.parent / "layers.1", 48),
            (),
            r"config: bank=.* is of d_model 48, tiny of 32$",
            id="width",
        ),
    ],
)
def test_what_cannot_be_looked_through_is_refused_in_one_line(
    workplace: Workplace, output: Path, saes: Path, make, settings: tuple[str, ...], message: str
):
    result = workplace.fork(output, "detect", f"bank={make(saes)}", *settings)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert re.search(message, line)
