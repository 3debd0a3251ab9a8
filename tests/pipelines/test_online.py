"""A run that talks to a W&B server: killed, taken up again, and silent about its key."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.commands import PATIENCE_S, Workplace, environment, only, resume_step, said
from tests.support.wandb_server import serving

pytestmark = pytest.mark.slow
KEY = "5ec2e7" * 6 + "5ec2"


@pytest.mark.long
def test_a_killed_run_goes_on_under_its_id_and_its_key_is_written_nowhere(
    workplace: Workplace, tmp_path: Path
):
    online = ("logger=wandb", "logger.offline=false", "trainer.log_every_n_steps=5")
    stream = ("train.source=stream", "train.buffer_tokens=4096")
    command = workplace.command(tmp_path, "train", *online, *stream)
    with serving() as server:
        to_server = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        settings = {"cwd": workplace.home, "env": environment(workplace.home) | to_server}
        with subprocess.Popen(command, **settings) as first:
            deadline = time.monotonic() + PATIENCE_S
            while resume_step(tmp_path) < 10:
                assert first.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            first.send_signal(signal.SIGKILL)
        second = subprocess.run(
            command, **settings, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        printed = said(second)
    bank = only(tmp_path, "saes")
    run_id = bank.name.split("-")[-1]
    assert set(server.runs) == {run_id}
    assert server.runs[run_id]["jobType"] == "train"
    logged = server.history[run_id]
    assert max(row.get("trainer/global_step", 0) for row in logged) == 80
    assert any("heldout/fvu_mean" in row for row in logged)
    made, *used = server.artifacts
    assert "did not take" not in printed
    assert made["artifactCollectionName"] == bank.name
    assert {one["artifactTypeName"] for one in used} == {"models", "corpora"}
    found = [tmp_path, workplace.home]
    files = [file for folder in found for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    assert KEY not in printed
