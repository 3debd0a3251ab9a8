from pathlib import Path

import pytest
from safetensors.numpy import load_file

from ghosttrack.files import read_json
from tests.support.commands import Workplace, artifacts, only, said

pytestmark = pytest.mark.slow

WITHOUT = ("bank=none", "corpus.path=nowhere.txt", "evaluation.compare=[headline]")


def test_without_a_bank_nothing_of_it_is_made_and_the_rest_is_judged(
    workplace: Workplace, tmp_path: Path
):
    printed = said(workplace.fork(tmp_path, "detect", *WITHOUT))
    assert not any(artifacts(tmp_path, kind) for kind in ("corpora", "activations", "saes"))
    assert not artifacts(tmp_path, "tracks")
    states = load_file(only(tmp_path, "states") / "states.safetensors")
    found = read_json(only(tmp_path, "evaluations") / "evaluation.json")
    shapes = {name: (held.shape[:2], str(held.dtype)) for name, held in states.items()}
    assert shapes == dict.fromkeys(
        ("prompt_last", "answer_mean", "answer_last", "masked"), ((3, found["n_judged"]), "float32")
    )
    rows = {row["detector"] for row in found["rows"]}
    assert {"output", "lens", "lens+output", "probe", "probe+output", "mahalanobis"} <= rows
    assert found["left_out"]["tracks"] == "bank=none: no tracks"
    assert found["left_out"]["raw_latents"] == "bank=none: no SAE latents"
    page = (only(tmp_path, "evaluations") / "report.html").read_text()
    assert "Single answers" in page
    assert "Track viewer" not in page
    assert "SAE bank" not in printed

    judged = said(workplace.console(tmp_path, "ask", "where was anna born?", *WITHOUT))
    assert "competing answers" in judged
    (live,) = (tmp_path / "tiny" / "runs").glob("*/2*/answers.html")
    assert 'viewer-tracks"' not in live.read_text().partition("<script")[0]


def test_states_are_made_only_for_detectors_that_read_them(workplace: Workplace, tmp_path: Path):
    more = ("bank=none", "interventions=none", "evaluation.compare=[output]")
    said(workplace.fork(tmp_path, "detect", *more))
    assert not artifacts(tmp_path, "states")


@pytest.mark.long
def test_an_estimate_without_a_bank_counts_nothing_of_it(workplace: Workplace, tmp_path: Path):
    said(workplace.fork(tmp_path, "detect", *WITHOUT, "estimate=true"))
    (file,) = (tmp_path / "tiny" / "runs" / "detect").glob("2*/metrics.json")
    phases = [cost["phase"] for cost in read_json(file)["estimate"]]
    asked = ["answer", "ask again", "self-checks", "read answers", "evaluate, report"]
    assert phases == ["load model", *asked, "total"]
