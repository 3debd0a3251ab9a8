"""What several tests of the detector read."""

from pathlib import Path

import pytest
import torch

from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.models.lm import LM
from ghosttrack.tracking.observations import TrackerSettings
from tests.detector.scenes import instruments_of, tiny_lm


@pytest.fixture(scope="session")
def lm(gpt2_folder: Path) -> LM:
    return tiny_lm(gpt2_folder)


@pytest.fixture(scope="session")
def instruments(lm: LM) -> Instruments:
    """Fitted on words at random."""
    ids = torch.randint(2, lm.d_vocab, (16, 12), generator=torch.Generator().manual_seed(0))
    text = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [0, 1, 2])
    settings = TrackerSettings(0.1, 1, 2, "hungarian", 1, frozenset())
    return instruments_of(lm, text.flatten(1, 2).numpy(), 64, settings)
