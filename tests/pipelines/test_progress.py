import logging
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

from ghosttrack.training import progress
from ghosttrack.training.progress import Bar, Forecast, LogLines
from tests.sae.support import small_bank
from tests.sae.test_lit import fit

METRICS = {
    "train/fvu/layer_0": 0.1,
    "train/fvu/layer_3": 0.231,
    "train/fvu_mean": 0.1655,
    "train/fvu_max": 0.231,
    "tokens_per_s": 51234.0,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that is set by hand."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: time.now))
    return time


class Paced(pl.Callback):
    """Lets every step take half a second of the clock."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_: object) -> None:
        self.clock.now += 0.5


def test_lines_and_forecast_tell_how_training_goes(tmp_path, clock, caplog):
    with caplog.at_level(logging.INFO, logger="ghosttrack.training.progress"):
        fit(tmp_path, callbacks=[Paced(clock), LogLines(), Forecast()])
    lines = [one.getMessage() for one in caplog.records if one.name == progress.__name__]
    # 24 steps that log every fourth: from step 4 to 8 two seconds pass, so 16 more take eight.
    assert lines[0] == "about 8 s for 16 steps"
    assert lines[1].startswith("training: step 10 of 24, 7 s left, tokens/s ")
    assert lines[-1].startswith("training: step 24 of 24, 0 s left, tokens/s ")
    assert len(lines) == 4
    worst = lines[-1].rpartition(", ")[2].split()
    assert worst[0] == "worst"
    assert worst[1] in small_bank().hooks
    assert 0 < float(worst[2]) < 1


def test_the_bar_names_the_worst_hook_point():
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    assert Bar().get_metrics(trainer, pl.LightningModule()) == {}
    module = pl.LightningModule()
    module.latest = METRICS
    shown = Bar().get_metrics(trainer, module)
    assert shown == {"tokens/s": "51,234", "fvu": "0.166", "worst layer_3": "0.231"}
