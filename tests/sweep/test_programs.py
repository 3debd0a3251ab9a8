"""A sweep as a user starts it, and what reads it, on the embedded model."""

import subprocess
import sys
from pathlib import Path

import pytest

from ghosttrack.analysis.latents import main as latents
from ghosttrack.analysis.runs import banks_of, find_runs
from sweep.dashboard import main as dashboard
from sweep.logged import read_logged
from sweep.shapes import read_shapes, shapes_of
from tests.report.test_page import Page
from tests.support.commands import ROOT, execute, said

pytestmark = pytest.mark.slow
SMALL = (
    *("corpus.num_tokens=8192", "corpus.heldout_tokens=2048", "layers=[0,5]", "sae.d_sae=64"),
    *("sae.batch_size=256", "trainer.max_steps=20"),
)


def python(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return execute([sys.executable, *arguments], home)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank, and a k that is too large."""
    home = tmp_path_factory.mktemp("sweep")
    result = python(home, str(ROOT / "train.py"), "-m", *SMALL, "sae.k=4,99")
    assert result.returncode == 1, result.stderr
    assert "1 of 2 sweep jobs failed" in result.stderr
    return (home / "outputs" / "ghostworld" / "sweeps" / "last").resolve()


def test_a_real_sweep_is_collected_with_the_numbers_of_its_banks(sweep: Path):
    home = sweep.parents[3]
    lines = said(python(home, "-m", "sweep.collect", str(sweep))).splitlines()
    assert lines[0] == f"all runs: {' '.join(SMALL)}"
    assert [line.split()[:3] for line in lines[2:4]] == [
        ["sae.k=4", "train", "done"],
        ["sae.k=99", "train", "failed"],
    ]
    folder, table = (shapes_of(banks_of(find_runs(sweep))), read_shapes(sweep / "runs.csv"))
    assert [shape[:4] for shape in folder] == [pytest.approx(shape[:4]) for shape in table]
    assert [shape.k for shape in folder] == [4]


def test_a_page_shows_what_was_logged(sweep: Path):
    logged = read_logged(sweep / "0")
    steps, fvu = logged.series("train/fvu_mean")
    assert steps == [9, 19]
    assert fvu[1] < fvu[0]
    assert logged.names("train/fvu/") == ["train/fvu/layer_0", "train/fvu/layer_5"]
    assert max(logged.used()["memory_mb"]) > 100
    dashboard([str(sweep)])
    page = Page((sweep / "dashboard.html").read_text())
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {"runs", "banks", "training", "usage"} <= anchors
    assert page.row("sae.k=4", "memory_mb")


def test_latents_of_a_real_bank_are_read_in_the_text_held_out_from_it(sweep: Path, tmp_path: Path):
    latents([str(sweep / "0"), "--out", str(tmp_path), "--tokens", "1500"])
    hooks = [line.split(",")[0] for line in (tmp_path / "latents.csv").read_text().splitlines()[1:]]
    assert set(hooks) == {"layer_0", "layer_5"}
    assert 64 < len(hooks) <= 128
