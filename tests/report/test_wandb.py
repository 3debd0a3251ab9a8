from collections.abc import Mapping

import pytest
from pytorch_lightning.loggers import Logger

from ghosttrack.report.wandb import log_evaluation
from tests.report import materials


class Kept(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, float] = {}

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.numbers.update(metrics)

    def log_hyperparams(self, *_: object) -> None:
        pass


def test_headline_numbers_and_canaries_are_logged_by_name():
    logger = Kept()
    log_evaluation(logger, materials.evaluation(), ("output", "all"), [])
    assert logger.numbers["detect/auroc/all/p>0.5"] == pytest.approx(0.75)
    assert logger.numbers["canary/index"] == pytest.approx(0.61)
    assert not [name for name in logger.numbers if "shuffled" in name]
