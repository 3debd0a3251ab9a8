"""Pages as people get them, in headless Chromium; skipped by name where one of the two is missing.

`GHOSTTRACK_OUTPUTS=<folder of a model>` takes the report and the dashboard of a real run,
`GHOSTTRACK_SHOTS=<folder>` keeps screenshots.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ghosttrack.analysis.runs import newest
from ghosttrack.files import read_json, write_json
from ghosttrack.report.figures import draw
from ghosttrack.report.live import Shown, write_live_page
from ghosttrack.report.page import write_page
from sweep.compare_models import main as compare
from sweep.dashboard import main as dashboard
from tests.report import materials
from tests.report.test_live import judgement
from tests.sweep.outputs import bank, detected, hook, judged, trained

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
OUTPUTS = os.environ.get("GHOSTTRACK_OUTPUTS")


class Site(NamedTuple):
    """Every kind of page, and the numbers of the report."""

    pages: dict[str, Path]
    found: dict[str, Any]
    is_real: bool


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Write a page of each kind."""
    folder = tmp_path_factory.mktemp("site")
    root = folder / "outputs" / "tiny"
    evaluation = judged(root)
    stay = {"whole": np.array([0.9, 0.1, 0.2]), "paraphrase": np.array([1.0, 0.8, 0.5])}
    words = {"0/10": "ball club", "1/10": "field"}
    view = materials.view()._replace(stay=stay, words=words)
    material = materials.material(
        view=view, command="python detect.py", settings="seed: 0\n", hooks=[hook(3), hook(7)]
    )
    figures = draw(folder, material.evaluation, material.answers.labels, material.hooks)
    write_page(evaluation / "report.html", material, figures, lambda ids: f" t{ids[0]}")
    made = bank(root, 64, 8, [hook(0), hook(1)])
    trained(root / "runs" / "train" / "noon", ["sae.k=8"], made)
    detected(root / "runs" / "detect" / "noon", ["a=1"], made, evaluation)
    shown = Shown((judgement(), judgement()), materials.view(), np.array([0, 1]))
    write_live_page(folder / "live.html", shown, {"model": "tiny"})
    found = read_json(evaluation / "evaluation.json")
    if OUTPUTS:
        root, evaluation = Path(OUTPUTS), newest(Path(OUTPUTS), "evaluations")
        found = read_json(evaluation / "evaluation.json")
    else:
        write_json(evaluation / "evaluation.json", material.evaluation.to_json())
    dashboard([str(root), "--out", str(folder / "dashboard.html")])
    compare([str(root), "--out", str(folder / "comparison")])
    pages = {
        "report": evaluation / "report.html",
        "live": folder / "live.html",
        "dashboard": folder / "dashboard.html",
        "comparison": folder / "comparison" / "comparison.html",
    }
    return Site(pages, found, bool(OUTPUTS))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start Chromium."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with driver.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
