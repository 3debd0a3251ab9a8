import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from ghosttrack.errors import ConfigError
from ghosttrack.report.detection_log import log_evaluation
from ghosttrack.report.figures import draw
from ghosttrack.report.page import CAPTIONS
from ghosttrack.wandb_client import (
    Reference,
    check_online,
    close,
    drop_empty,
    is_switched_off,
    log_lineage,
    log_numbers,
    quiet,
)
from tests.report import materials
from tests.support.wandb_run import Lineage, OfflineRun, read_run

MOST_PANELS = 40
KEY = "f" * 40


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbLogger]:
    """A logger whose process has no run before it, nor after."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    yield WandbLogger(
        project="p", save_dir=str(tmp_path), offline=True, settings=quiet(offline=True)
    )
    close()
    wandb.teardown()


def written(folder: Path) -> OfflineRun:
    close()
    wandb.teardown()  # else its service may still be writing
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return read_run(file)


def test_seventy_two_hook_points_are_logged_in_full_and_drawn_as_a_few_panels(
    offline: WandbLogger, tmp_path: Path
):
    hooks = [f"layer_{layer}_pos_{pos}" for layer in range(24) for pos in (1, 2, 3)]
    names = [f"train/fvu/{hook}" for hook in hooks] + [
        f"heldout/{name}/{hook}" for name in ("fvu", "mse", "l0") for hook in hooks
    ]
    for step in (9, 19):
        numbers = dict.fromkeys([*names, "train/fvu_mean", "lr"], step / 100)
        log_numbers([offline], numbers, step)
    run = written(tmp_path)
    assert all(run.series(name) == [0.09, 0.19] for name in names)
    assert run.panels == {"train/fvu_mean", "lr", "trainer/global_step"}
    assert run.hidden == set(names)

    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    for size in (0, 7, 100, len(content) // 2, len(content) - 3):  # as of a live run
        file.write_bytes(content[:size])
        cut = read_run(file)
        assert cut.history == run.history[: len(cut.history)]
        run_id = file.stem.removeprefix("run-")
        drop_empty(tmp_path.parent, "another")
        assert file.exists()
        drop_empty(tmp_path.parent, run_id)
        assert file.exists() == (size > 7)
        file.parent.mkdir(exist_ok=True)


def test_an_evaluation_is_logged_with_tables_curves_and_figures_in_few_panels(
    offline: WandbLogger, tmp_path: Path
):
    material = materials.material()
    figures = draw(tmp_path, material.evaluation, material.answers.labels, material.hooks)
    log_evaluation([offline], material, figures)
    run = written(tmp_path)
    assert len(run.panels) <= MOST_PANELS
    assert run.panels == {
        *("trainer/global_step", "detectors", "canaries", "answers", "confusion/output"),
        *("roc", "pr", "calibration"),
        *(f"figures/{name}" for name in CAPTIONS),
    }
    assert run.series("detect/auroc/everything/p>0.5") == [pytest.approx(0.75)]
    assert run.series("canary/index") == [pytest.approx(0.61)]
    assert not [name for row in run.history for name in row if "shuffled" in name]
    tables = {name: table(tmp_path, run, name) for name in ("answers", "confusion/output_table")}
    assert len(tables["answers"]["data"]) == materials.N
    found = material.evaluation.scores["output"]
    place = tables["answers"]["columns"].index("P(output)")
    assert [row[place] for row in tables["answers"]["data"]] == pytest.approx(found.tolist())
    counts = {(row[0], row[1]): row[2] for row in tables["confusion/output_table"]["data"]}
    assert counts == {
        ("right", "right"): 4,
        ("right", "hallucinated"): 0,
        ("hallucinated", "right"): 0,
        ("hallucinated", "hallucinated"): 4,
    }


def table(folder: Path, run: OfflineRun, name: str) -> dict[str, Any]:
    """A logged table, from the file that `wandb sync` uploads."""
    (value,) = run.series(name)
    assert isinstance(value, dict)
    (file,) = folder.glob(f"wandb/offline-run-*/files/{value['path']}")
    return json.loads(file.read_text())


def test_lineage_is_told_by_name_and_address_and_nothing_is_copied(
    offline: WandbLogger, tmp_path: Path
):
    bank, evaluation = (
        Reference(kind, name, f"file:///x/{kind}/{name}")
        for kind, name in (("saes", "topk-512-16-0123"), ("evaluations", "tiny-4567"))
    )
    log_lineage(offline, [bank], evaluation)
    run = written(tmp_path)
    assert run.config["made_from"] == {bank.name: bank.address}
    assert run.lineage == [Lineage(*evaluation)]


@pytest.mark.parametrize("is_deaf", [True, False], ids=["silent", "closed"])
def test_a_server_that_does_not_answer_is_one_line_within_seconds(
    monkeypatch: pytest.MonkeyPatch, is_deaf: bool
):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if is_deaf:
            server.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        started = time.monotonic()
        with pytest.raises(ConfigError, match=r"does not answer.*set logger.offline=true"):
            check_online()
        assert time.monotonic() - started < 60  # W&B itself would wait for 100 s
    wandb.teardown()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("WANDB_DISABLED", "true", True),
        ("WANDB_DISABLED", "false", False),
        ("WANDB_MODE", "disabled", True),
        ("WANDB_MODE", "offline", False),
    ],
)
def test_who_switches_wandb_off_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: bool
):
    monkeypatch.setenv(name, value)
    wandb.teardown()
    assert is_switched_off() is expected
    wandb.teardown()


def test_a_malformed_key_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    wandb.teardown()
    with pytest.raises(ConfigError, match=r"logger\.offline=false: .*40\+ characters"):
        check_online()
    wandb.teardown()
