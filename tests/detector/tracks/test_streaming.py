from pathlib import Path

import numpy as np
import pytest
import torch

from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.novelty import fit_usual
from ghosttrack.detector.tracks.observe import fit_standard, observe
from ghosttrack.detector.tracks.statistics import LENS_STATISTICS, TRACK_STATISTICS
from ghosttrack.detector.tracks.streaming import Instruments, Spoken, stream
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import TrackerSettings
from ghosttrack.tracking.tracker import fit_tracker
from tests.detector.scenes import tiny_lm

TOP_K = 12


@pytest.fixture(scope="module")
def lm(gpt2_folder: Path) -> LM:
    return tiny_lm(gpt2_folder)


def random_bank(d_model: int) -> Bank:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bank(["layer_0", "layer_1", "layer_2"], d_model, 64, 8)


@pytest.fixture(scope="module")
def instruments(lm: LM) -> Instruments:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, lm.d_vocab, (16, 12), generator=generator)
    residuals = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [0, 1, 2])
    text = residuals.flatten(1, 2).numpy()
    bank = random_bank(lm.d_model)
    standard = fit_standard(bank, text, TOP_K)
    observations = observe(bank, text, TOP_K, standard).observations
    directions = tuple(bank.directions.detach().numpy())
    usual = fit_usual(bank, text, observations.latents)
    settings = TrackerSettings(0.1, 1, 2, "hungarian", 1, frozenset())
    tracker = fit_tracker(directions, observations, settings)
    return Instruments(bank, (0, 1, 2), standard, usual, tracker, LengthNull(2.0, 0.5), TOP_K)


def spoken(lm: LM, answer: str, prompt: str = "where was anna born?") -> Spoken:
    return Spoken(lm.encode(prompt), tuple(lm.encode(answer, prefix=False)), "anna")


def test_every_token_has_a_row_of_every_table(lm: LM, instruments: Instruments):
    found = stream(lm, instruments, [spoken(lm, "paris"), spoken(lm, "the old city of rome")])
    assert {name: len(table) for name, table in found.tables.items()} == {
        "output": 6, "lens": 6, "tracks": 6,
    }  # fmt: skip
    assert found.first.tolist() == [0, 1]
    assert found.tables["lens"].names == tuple(spec.name for spec in LENS_STATISTICS)
    assert found.tables["tracks"].names == tuple(spec.name for spec in TRACK_STATISTICS)


def test_what_follows_a_token_does_not_change_its_score(lm: LM, instruments: Instruments):
    short, long, other = (
        stream(lm, instruments, [spoken(lm, text)]).tables
        for text in ("the old", "the old city of rome", "the old piano")
    )
    for name, table in short.items():
        for later in (long, other):
            np.testing.assert_allclose(later[name].values[:2], table.values, rtol=1e-4, atol=1e-5)
    assert not np.allclose(long["output"].values[2], other["output"].values[2])


def test_output_scores_run_along_the_answer(lm: LM, instruments: Instruments):
    table = stream(lm, instruments, [spoken(lm, "the old city")]).tables["output"]
    least, whole = table.column("min_logprob"), table.column("answer_logprob")
    first = table.column("first_logprob")
    np.testing.assert_allclose(first, first[0])
    assert whole[0] == pytest.approx(first[0])
    assert (np.diff(whole) < 0).all()
    steps = np.diff(whole, prepend=0.0)
    np.testing.assert_allclose(least, np.minimum.accumulate(steps), rtol=1e-5)


def test_answers_do_not_touch_one_another(lm: LM, instruments: Instruments):
    one, two = spoken(lm, "paris"), spoken(lm, "the old city", "who works for anna?")
    alone = stream(lm, instruments, [two]).tables
    both = stream(lm, instruments, [one, two])
    rows = slice(int(both.first[1]), None)
    for name, table in alone.items():
        np.testing.assert_allclose(
            both.tables[name].values[rows], table.values, rtol=1e-4, atol=1e-5
        )
