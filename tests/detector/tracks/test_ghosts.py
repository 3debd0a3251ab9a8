"""Ghosts: a copy that is the original keeps everything; any other what a plain loop finds."""

import numpy as np
import pytest

from ghosttrack.detector.asking.families.ghosts import KINDS, ghost_copies, ghost_specs
from ghosttrack.detector.tracks.attribution import answer_reader, gather
from ghosttrack.detector.tracks.ghosts import Original, find_ghosts
from ghosttrack.detector.tracks.observe import observe
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import last_residuals, read
from ghosttrack.questions.sets import Question
from ghosttrack.tracking.observations import TrackerSettings
from ghosttrack.tracking.tracker import link
from tests.detector.scenes import TOP_K, instruments_of, keeps_ranges

LAYERS = (0, 1, 2)
TEXTS = ("anna was born in", "where was carla born ?", "bert lives in the city of")
SUBJECTS = ("anna", "carla", "bert")
OTHERS = ("the city of anna is", "who was born in paris ?", "david lives in the city of")


@pytest.fixture(scope="module")
def tools(lm: LM) -> Instruments:
    residuals = last_residuals(lm, [lm.encode(text) for text in TEXTS + OTHERS], LAYERS)
    return instruments_of(
        lm, residuals, 40, TrackerSettings(-1.0, 1, 2, "identity", 1, frozenset())
    )


@pytest.fixture(scope="module")
def original(lm: LM, tools: Instruments) -> Original:
    ids = [lm.encode(text) for text in TEXTS]
    readings = read(lm, ids, [()] * len(ids), SUBJECTS, LAYERS)
    evidence = gather(lm, tools.bank, readings, TOP_K, tools.standard, tools.usual)
    tracks = link(evidence.observed.observations, *tools.tracker)
    return Original(evidence, tracks, answer_reader(lm, readings))


def copies(paraphrases):
    """These wordings, and no swap."""
    return [dict.fromkeys(KINDS, ()) | {"paraphrase": tuple(texts)} for texts in paraphrases]


def test_a_copy_that_is_the_original_keeps_everything(lm, tools, original):
    found = find_ghosts(lm, tools, original, copies([(text,) for text in TEXTS]))
    for name in ("jaccard", "jaccard_01", "links", "evidence", "push", "push_max"):
        values = found.table.column(f"ghost_paraphrase_{name}")
        np.testing.assert_allclose(values, 1.0, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(found.table.column("ghost_paraphrase_loss"), 0.0, atol=1e-3)
    np.testing.assert_allclose(found.stay["paraphrase"], 1.0, atol=1e-4)
    assert np.isnan(found.table.column("ghost_whole_jaccard")).all()
    assert np.isnan(found.stay["whole"]).all()
    assert found.forwards == 1.0


def links_of(latents, track_of):
    """Pairs of (layer, latent) that follow one another in a track."""
    pairs, last = set(), {}
    for layer, slot in zip(*np.nonzero(track_of >= 0), strict=True):
        here = int(layer), int(latents[layer, slot])
        owner = int(track_of[layer, slot])
        if owner in last:
            pairs.add((last[owner], here))
        last[owner] = here
    return pairs


def test_numbers_are_those_of_a_plain_loop(lm, tools, original):
    found = find_ghosts(lm, tools, original, copies([(text,) for text in OTHERS]))
    residuals = last_residuals(lm, [lm.encode(text) for text in OTHERS], LAYERS)
    seen = observe(tools.bank, residuals, TOP_K, tools.standard)
    tracks = link(seen.observations, *tools.tracker)
    own = original.evidence.observed
    for sample in range(len(TEXTS)):
        overlap = []
        for layer in range(len(LAYERS)):
            here, there = (
                {
                    int(latent): float(strength)
                    for latent, strength in zip(
                        one.observations.latents[sample, layer],
                        one.strengths[sample, layer],
                        strict=True,
                    )
                    if latent >= 0
                }
                for one in (own, seen)
            )
            both = [(here.get(at, 0.0), there.get(at, 0.0)) for at in here.keys() | there.keys()]
            overlap.append(sum(map(min, both)) / sum(map(max, both)))
        assert found.table.column("ghost_paraphrase_jaccard")[sample] == pytest.approx(
            np.mean(overlap), abs=1e-4
        )
        mine = links_of(own.observations.latents[sample], original.tracks.track_of[sample])
        theirs = links_of(seen.observations.latents[sample], tracks.track_of[sample])
        assert mine
        assert found.table.column("ghost_paraphrase_links")[sample] == pytest.approx(
            len(mine & theirs) / len(mine | theirs)
        )


def test_several_copies_are_averaged_and_samples_stay_apart(lm, tools, original):
    one, two = (
        find_ghosts(lm, tools, original, copies([(text,) for text in texts])).table
        for texts in (OTHERS, TEXTS)
    )
    mixed = [(OTHERS[0], TEXTS[0]), (), (OTHERS[2],)]
    found = find_ghosts(lm, tools, original, copies(mixed)).table
    for name in ("jaccard", "links", "push", "loss"):
        a, b, c = (table.column(f"ghost_paraphrase_{name}") for table in (one, two, found))
        np.testing.assert_allclose(c[0], (a[0] + b[0]) / 2, rtol=1e-3, atol=1e-4)
        assert np.isnan(c[1])
        np.testing.assert_allclose(c[2], a[2], rtol=1e-3, atol=1e-4)
    least = found.column("ghost_paraphrase_loss_min")
    losses = [table.column("ghost_paraphrase_loss")[0] for table in (one, two)]
    assert least[0] == pytest.approx(min(losses), abs=1e-3)


def test_columns_stay_in_their_stated_range(lm, tools, original):
    every = [dict.fromkeys(KINDS, OTHERS) for _ in TEXTS]
    table = find_ghosts(lm, tools, original, every).table
    specs = ghost_specs(LAYERS)
    assert table.names == tuple(spec.name for spec in specs)
    assert np.isfinite(table.values).any(axis=0).all()
    keeps_ranges(table, specs, slack=1e-6)


def test_copies_keep_the_questions_own_wording_under_a_swap():
    question = Question(
        "q", "Who is Ann Low?", ("x",), "g", subject="Ann Low", kind="p", wordings=("a", "b", "c")
    )
    names = {"p": ("Ann Low", "Bob Mey", "Ann Mey", "Bob Low")}
    made = ghost_copies(question, names, (2, 1), seed=0)
    assert made == {
        "paraphrase": ("a", "b"),
        "first": ("Who is Bob Low?",),
        "rest": ("Who is Ann Mey?",),
        "whole": ("Who is Bob Mey?",),
    }
