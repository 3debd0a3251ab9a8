from dataclasses import replace

import numpy as np
import pytest
import torch

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.tracks.knownness import SUBJECT_STATISTICS, look_at_subjects
from ghosttrack.detector.tracks.observe import observe, raw_latents
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.models.lm import LM
from tests.support.answers import made_up_answers

PROMPTS = ("where was carla born ?", "bert lives in the city of", "the piano of carla")
SUBJECTS = ("carla", "", "carla")


def asked(subjects: tuple[str, ...]) -> Answers:
    return replace(made_up_answers(3, 3), prompts=PROMPTS, subjects=subjects)


def test_it_is_read_where_the_name_ends_and_nowhere_without_one(lm: LM, instruments: Instruments):
    found = look_at_subjects(lm, instruments, asked(SUBJECTS))
    assert found is not None
    assert found.table.names == tuple(spec.name for spec in SUBJECT_STATISTICS)
    assert np.isfinite(found.table.values).all(axis=1).tolist() == [True, False, True]
    ids = torch.tensor([lm.encode("where was carla")])
    stack = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [0, 1, 2])[:, :, -1].numpy()
    for layer, alone in enumerate(raw_latents(instruments.bank, stack)):
        held = found.latents[layer].toarray()
        np.testing.assert_allclose(held[:1], alone.toarray(), atol=1e-5)
        assert held[0].any()
        assert not held[1].any()
    # Depth to 0.4 of three layers is the first alone: all that stands there.
    mean, deviation = instruments.usual.written[:, 0]
    energy = (np.linalg.norm(stack[0, 0]) - mean) / deviation
    assert found.table.column("subject_energy")[0] == pytest.approx(energy, rel=1e-4)
    strengths = observe(instruments.bank, stack, 12, instruments.standard).strengths[0, 1]
    dominance = strengths.max() / strengths.sum()
    assert found.table.column("subject_dominance")[0] == pytest.approx(dominance, rel=1e-4)


def test_questions_without_subjects_have_no_table(lm: LM, instruments: Instruments):
    assert look_at_subjects(lm, instruments, asked(("", "greta", ""))) is None


def test_what_text_writes_is_usual(lm: LM, instruments: Instruments):
    mean, deviation = instruments.usual.written
    assert mean.shape == (3,)
    assert (mean > 0).all()
    assert (deviation > 0).all()
    assert 0 < instruments.usual.near < 1
