from pathlib import Path

import pytest

from sweep.dashboard import main
from sweep.logged import read_logged
from tests.report.test_page import EVIL, Page
from tests.sweep.outputs import bank, detected, hook, judged, run, trained

LOG = """step,train/fvu_mean,train/fvu/layer_0,tokens_per_s,machine/memory_mb,heldout/fvu/layer_0
9,0.5,0.6,100,,
19,0.25,0.3,200,,
19,,,,40,0.2
"""


def log(folder: Path, text: str = LOG, version: int = 0) -> None:
    path = folder / "lightning_logs" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A grid of two shapes, a failed job, and a detection."""
    root = tmp_path / "outputs" / "tiny"
    for number, (d_sae, fvu) in enumerate(((64, 0.1), (32, 0.2))):
        made = bank(root, d_sae, 8, [hook(0, fvu=fvu), hook(1, fvu=fvu)])
        job = trained(root / "sweeps" / "grid" / str(number), [f"sae.d_sae={d_sae}"], made)
        log(job)
    run(root / "sweeps" / "grid" / "2", "train", [f"note={EVIL}"], status=1)
    found = judged(root)
    (found / "report.html").write_text("a report")
    detected(root / "runs" / "detect" / "noon", ["a=1"], made, found)
    return tmp_path / "outputs"


@pytest.fixture
def page(outputs: Path) -> Page:
    main([str(outputs), "--detectors", "output,everything"])
    return Page((outputs / "dashboard.html").read_text())


def test_the_page_needs_no_other_file_and_no_network(page: Page):
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert len(sources) == 7  # AUROC, Pareto, depth, map, sweet spot, training, layers
    assert all(source and source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}, {}]  # D3 and ours
    assert "url(" not in page.styles[0]


def test_every_link_leads_somewhere(page: Page, outputs: Path):
    anchors = {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    links = [attrs["href"] or "" for tag, attrs in page.tags if tag == "a"]
    assert {link for link in links if link.startswith("#")} <= anchors
    (report,) = {link for link in links if not link.startswith("#")}
    assert (outputs / report).read_text() == "a report"


def test_the_page_says_what_every_run_came_to(page: Page):
    assert "Runs of tiny: 4, 1 of them not done; SAE banks: 2; evaluations: 1." in page.text
    assert page.row("sae.d_sae=64", "train", "done")[3:6] == ["20.500", "64", "8"]
    assert "0.750 [0.650, 0.850]" in page.row("a=1", "detect")
    assert page.row("64", "8", "0.900")[-1] == "<- sweet spot"
    assert [cells[1:] for cells in page.rows if "2.500" in cells] == [["detect", "12.500", "2.500"]]
    assert page.row("tiny grid/0", "memory_mb")[2:] == ["40.000", "40.000", "1"]


def test_a_setting_cannot_open_a_tag(page: Page):
    assert f"note={EVIL}" in page.text
    assert not [tag for tag, attrs in page.tags if attrs.get("id") == "evil"]


def test_a_sweep_without_evaluations_and_logs_has_fewer_sections(tmp_path: Path):
    root = tmp_path / "tiny"
    trained(root / "sweeps" / "g" / "0", [], bank(root, 64, 8, [hook(0)]))
    main([str(root), "--out", str(tmp_path / "page" / "one.html")])
    text = Page((tmp_path / "page" / "one.html").read_text())
    assert {attrs["id"] for tag, attrs in text.tags if tag == "h2"} == {"runs", "banks"}


def test_a_resumed_run_has_one_history_in_the_order_of_steps(tmp_path: Path):
    log(tmp_path, "step,train/fvu_mean\n29,0.2\n39,0.1\n", version=1)
    log(tmp_path)
    logged = read_logged(tmp_path)
    assert logged.series("train/fvu_mean") == ([9, 19, 29, 39], [0.5, 0.25, 0.2, 0.1])
    assert logged.names("train/fvu/") == ["train/fvu/layer_0"]
    assert logged.used() == {"memory_mb": [40]}
