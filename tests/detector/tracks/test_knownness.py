from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.tracks.knownness import SUBJECT_STATISTICS, look_at_subjects
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.novelty import fit_usual
from ghosttrack.detector.tracks.observe import fit_standard, observe, raw_latents
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import TrackerSettings
from ghosttrack.tracking.tracker import fit_tracker
from tests.detector.scenes import tiny_lm
from tests.support.answers import made_up_answers

PROMPTS = ("where was carla born ?", "bert lives in the city of", "the piano of carla")
SUBJECTS = ("carla", "", "carla")


@pytest.fixture(scope="module")
def lm(gpt2_folder: Path) -> LM:
    return tiny_lm(gpt2_folder)


@pytest.fixture(scope="module")
def tools(lm: LM) -> Instruments:
    ids = torch.randint(2, lm.d_vocab, (8, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    text = lm.residuals(ids, mask, [0, 1, 2]).flatten(1, 2).numpy()
    bank = Bank(["layer_0", "layer_1", "layer_2"], lm.d_model, 64, 8)
    rows = torch.randn(bank.W_dec.shape, generator=torch.Generator().manual_seed(0))
    bank.W_dec.data = rows / rows.norm(dim=-1, keepdim=True)
    bank.W_enc.data = bank.W_dec.data.transpose(1, 2).clone()
    bank.scale.fill_(1.0)
    bank.requires_grad_(False)
    standard = fit_standard(bank, text, 12)
    seen = observe(bank, text, 12, standard).observations
    settings = TrackerSettings(0.1, 1, 2, "hungarian", 1, frozenset())
    tracker = fit_tracker(tuple(bank.directions.detach().numpy()), seen, settings)
    usual = fit_usual(bank, text, seen.latents)
    return Instruments(bank, (0, 1, 2), standard, usual, tracker, LengthNull(2.0, 1.0), 12)


def asked(subjects: tuple[str, ...]) -> Answers:
    return replace(made_up_answers(3, 3), prompts=PROMPTS, subjects=subjects)


def test_it_is_read_where_the_name_ends_and_nowhere_without_one(lm: LM, tools: Instruments):
    found = look_at_subjects(lm, tools, asked(SUBJECTS))
    assert found is not None
    assert found.table.names == tuple(spec.name for spec in SUBJECT_STATISTICS)
    assert np.isfinite(found.table.values).all(axis=1).tolist() == [True, False, True]
    ids = torch.tensor([lm.encode("where was carla")])
    stack = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [0, 1, 2])[:, :, -1].numpy()
    for layer, alone in enumerate(raw_latents(tools.bank, stack)):
        held = found.latents[layer].toarray()
        np.testing.assert_allclose(held[:1], alone.toarray(), atol=1e-5)
        assert held[0].any()
        assert not held[1].any()
    # Depth to 0.4 of three layers is the first alone: all that stands there.
    mean, deviation = tools.usual.written[:, 0]
    energy = (np.linalg.norm(stack[0, 0]) - mean) / deviation
    assert found.table.column("subject_energy")[0] == pytest.approx(energy, rel=1e-4)
    strengths = observe(tools.bank, stack, 12, tools.standard).strengths[0, 1]
    dominance = strengths.max() / strengths.sum()
    assert found.table.column("subject_dominance")[0] == pytest.approx(dominance, rel=1e-4)


def test_questions_without_subjects_have_no_table(lm: LM, tools: Instruments):
    assert look_at_subjects(lm, tools, asked(("", "greta", ""))) is None


def test_what_text_writes_is_usual(lm: LM, tools: Instruments):
    mean, deviation = tools.usual.written
    assert mean.shape == (3,)
    assert (mean > 0).all()
    assert (deviation > 0).all()
    assert 0 < tools.usual.near < 1
