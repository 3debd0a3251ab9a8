"""Families: which copies they make, and their numbers by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from ghosttrack.detector.asking.families import (
    ablate,
    dropout,
    noise_subject,
    owner,
    paraphrase,
    swap,
)
from ghosttrack.detector.asking.families.owner import N_NEAR
from ghosttrack.detector.asking.family import Copy, CopyContext, Echo
from ghosttrack.models.changes import MASK, ChangeKind
from ghosttrack.questions.sets import Question
from ghosttrack.world.facts import WorldSpec
from ghosttrack.world.questions import question_set

QUESTION = Question(
    id="q1",
    prompt="Where was Ann born?",
    answers=("rome",),
    group="Ann",
    subject="Ann",
    kind="person",
    wordings=("Ann was born in", "Which town is Ann from?", "Ann's town is"),
    short="{subject} comes from",
)
NAMES = {"person": ("Ann", "Bob", "Cid", "Dee", "Eva", "Fay")}


def named(family, finding):
    return {spec.name: value for spec, value in zip(family.specs, finding.values, strict=True)}


def columns_of(module, echo):
    return named(module.FAMILY, module.FAMILY.reduce(echo))


def copies_of(module, n_copies, question, names, seed=0):
    context = CopyContext(names, np.random.default_rng(seed), n_layers=6)
    return module.FAMILY.copies(question, n_copies, context)


def test_paraphrase_asks_in_the_first_other_wordings():
    copies = copies_of(paraphrase, 2, QUESTION, NAMES)
    assert [copy.prompt for copy in copies] == ["Ann was born in", "Which town is Ann from?"]


def test_paraphrase_numbers_by_hand():
    echo = Echo(np.log([0.5, 0.1]), np.array([True, False]), np.array([1.0, 2.0]))
    numbers = columns_of(paraphrase, echo)
    assert numbers["paraphrase_logmean"] == pytest.approx(math.log(0.3))  # (0.5 + 0.1) / 2
    assert numbers["paraphrase_min"] == pytest.approx(math.log(0.1))
    assert numbers["paraphrase_max"] == pytest.approx(math.log(0.5))
    assert numbers["paraphrase_sd"] == pytest.approx(math.log(5) / 2)  # half of ln .5 - ln .1
    assert numbers["paraphrase_agree"] == 0.5
    assert numbers["paraphrase_entropy"] == 1.5
    assert numbers["paraphrase_first"] == pytest.approx(math.log(0.5))


def test_owner_numbers_by_hand():
    echo = Echo(np.log([0.2, 0.1, 0.4, 0.1]), np.zeros(4, dtype=bool), np.zeros(4))
    finding = owner.FAMILY.reduce(echo)
    numbers = named(owner.FAMILY, finding)
    assert numbers["owner_rank"] == pytest.approx(1 / 3)  # only Cid's 0.4 is above 0.2
    assert numbers["owner_gap"] == pytest.approx(-math.log(2))  # ln 0.2 - ln 0.4
    assert numbers["owner_pmi"] == pytest.approx(0.0)  # mean of the others: 0.6 / 3 = 0.2
    # In units of ln 2 above ln 0.1: own 1; others 0, 2, 0: mean 2/3, sd sqrt(8/9).
    assert numbers["owner_z"] == pytest.approx((1 - 2 / 3) / math.sqrt(8 / 9))
    assert finding.rival == 2  # the copy with 0.4


def test_owner_z_is_undefined_for_a_single_other_name():
    finding = owner.FAMILY.reduce(Echo(np.log([0.2, 0.1]), np.ones(2, bool), np.ones(2)))
    assert math.isnan(named(owner.FAMILY, finding)["owner_z"])


def test_owner_puts_different_others_in_the_subjects_place_and_never_the_subject():
    for seed in range(20):
        own, *others = copies_of(owner, 4, QUESTION, NAMES, seed)
        assert own == Copy("Ann comes from", "Ann")
        assert len({copy.subject for copy in others}) == 4
        assert "Ann" not in {copy.subject for copy in others}
        assert all(copy.prompt == f"{copy.subject} comes from" for copy in others)


def test_owner_draws_every_name_there_is_when_there_are_few():
    copies = copies_of(owner, 50, QUESTION, NAMES)
    assert {copy.subject for copy in copies} == set(NAMES["person"])
    assert len(copies) == 6


def test_owner_asks_about_namesakes_first_and_the_rarer_shared_word_first():
    names = (
        *("Bank of Oslo", "Bank of Rome", "Bank of Bern", "Bank of Kyiv", "Mill of Rome"),
        *("Town Hall", "Oslo Docks", "Bridge"),
    )
    question = Question(
        id="q",
        prompt="",
        answers=(),
        group="g",
        subject="bank of Oslo",
        kind="x",
        short="{subject}",
    )
    for seed in range(10):
        found = [copy.subject for copy in copies_of(owner, 7, question, {"x": names}, seed)]
        # Oslo is in 2 names, bank in 4, of in 5: 1/2, then 1/4 + 1/5, then 1/5, then nothing.
        assert found[:2] == ["bank of Oslo", "Oslo Docks"]
        assert set(found[2:5]) == {"Bank of Rome", "Bank of Bern", "Bank of Kyiv"}
        assert found[5] == "Mill of Rome"
        assert set(found[6:]) == {"Town Hall", "Bridge"}


def test_owner_uses_the_question_where_there_is_no_short_statement():
    question = Question(
        id="q", prompt="Is Ann or Anna Ann?", answers=(), group="g", subject="Ann", kind="person"
    )
    (_, other) = copies_of(owner, 1, question, {"person": ("Bob", "ANN")})
    assert other.prompt == "Is Bob or Anna Bob?"


@pytest.mark.parametrize(
    "question",
    [
        Question(id="q", prompt="Who?", answers=(), group="g"),
        Question(id="q", prompt="Who is Ann?", answers=(), group="g", subject="Ann", kind="city"),
        Question(id="q", prompt="Who?", answers=(), group="g", subject="Ann", kind="person"),
    ],
    ids=["no subject", "no names of its kind", "subject nowhere in the text"],
)
def test_no_copies_are_made_without_what_they_need(question):
    assert copies_of(owner, 3, question, NAMES) == ()
    assert copies_of(swap, 3, question, NAMES) == ()
    assert copies_of(paraphrase, 3, question, NAMES) == ()


def test_the_nearest_names_have_columns_of_their_own():
    lp = np.log([0.2, *[0.1] * N_NEAR, 0.4])  # the only better name is not among the nearest
    numbers = columns_of(owner, Echo(lp, lp < 0, -lp))
    assert numbers["owner_near_rank"] == 0
    assert numbers["owner_near_gap"] == pytest.approx(math.log(2))
    assert numbers["owner_gap"] == pytest.approx(-math.log(2))


FULL_NAMES = {"person": tuple(f"{a} {b}" for a in ("Ann", "Bob", "Cid") for b in ("Low", "Mey"))}
ANN_LOW = Question(
    id="q", prompt="Who is Ann Low?", answers=(), group="g", subject="Ann Low", kind="person",
    short="{subject} is",
)  # fmt: skip


def test_swap_exchanges_one_part_of_the_name_or_all_of_it():
    for seed in range(5):
        asked = [copy.subject for copy in copies_of(swap, 1, ANN_LOW, FULL_NAMES, seed)]
        own, first, rest, whole = asked
        assert own == "Ann Low"
        assert first in ("Bob Low", "Cid Low")
        assert rest == "Ann Mey"
        assert whole in ("Bob Mey", "Cid Mey")
    kinds = [copy.kind for copy in copies_of(swap, 1, ANN_LOW, FULL_NAMES)]
    assert kinds == ["", "first", "rest", "whole"]


def test_a_name_of_one_word_is_swapped_as_a_whole():
    copies = copies_of(swap, 2, QUESTION, NAMES)
    assert copies[0].subject == "Ann"
    assert len(copies) == 3
    lp = np.log([0.4, 0.1, 0.3])
    numbers = columns_of(swap, Echo(lp, lp > -2, -lp, copies))
    assert numbers["swap_whole_drop"] == pytest.approx(math.log(2))  # 0.4 over the mean 0.2
    assert math.isnan(numbers["swap_first_drop"])
    assert math.isnan(numbers["swap_interaction"])


def test_swap_numbers_by_hand():
    # own 0.8; first names 0.4, 0.4; last names 0.1, 0.3; whole names 0.1, 0.1
    lp = np.log([0.8, 0.4, 0.4, 0.1, 0.3, 0.1, 0.1])
    agrees = np.array([True, True, False, False, False, False, False])
    kinds = ("", "first", "first", "rest", "rest", "whole", "whole")
    copies = [Copy("", "", kind=kind) for kind in kinds]
    numbers = columns_of(swap, Echo(lp, agrees, np.arange(7.0), copies))
    assert numbers["swap_first_drop"] == pytest.approx(math.log(2))
    assert numbers["swap_rest_drop"] == pytest.approx(math.log(4))
    assert numbers["swap_whole_drop"] == pytest.approx(math.log(8))
    assert numbers["swap_interaction"] == pytest.approx(0)  # ln 8 = ln 2 + ln 4
    assert numbers["swap_first_agree"] == 0.5
    assert numbers["swap_rest_max"] == pytest.approx(math.log(0.3))
    assert numbers["swap_rest_entropy"] == 3.5
    assert numbers["swap_whole_sd"] == 0


def test_ablation_takes_away_the_name_and_its_parts():
    copies = copies_of(ablate, 3, ANN_LOW, FULL_NAMES)
    assert [(copy.change, copy.marked) for copy in copies] == [
        (None, ""),
        (MASK, "Ann Low"),
        (MASK, "Ann"),
        (MASK, "Low"),
    ]
    lp = np.log([0.8, 0.1, 0.2, 0.4])
    numbers = columns_of(ablate, Echo(lp, np.array([1, 0, 0, 1], bool), -lp))
    assert numbers["ablate_drop"] == pytest.approx(math.log(8))
    assert numbers["ablate_first_drop"] == pytest.approx(math.log(4))
    assert numbers["ablate_rest_drop"] == pytest.approx(math.log(2))
    assert numbers["ablate_agree"] == pytest.approx(1 / 3)


def test_noise_enters_at_three_depths_and_two_scales():
    copies = copies_of(noise_subject, 6, ANN_LOW, FULL_NAMES)
    changes = [copy.change for copy in copies if copy.change is not None]
    assert [(change.layer, change.scale) for change in changes] == [
        *((0, 0.3), (0, 1.0), (2, 0.3)),
        *((2, 1.0), (4, 0.3), (4, 1.0)),
    ]
    assert len({change.seed for change in changes}) == 6
    assert {copy.marked for copy in copies} == {"Ann Low"}
    assert copies_of(noise_subject, 6, Question("q", "Who?", (), "g"), NAMES) == ()
    lp = np.log([0.5, 0.1])
    numbers = columns_of(noise_subject, Echo(lp, np.array([True, False]), -lp))
    assert numbers["noise_subject_survival"] == 0.5
    assert numbers["noise_subject_logmean"] == pytest.approx(math.log(0.3))


def test_every_dropout_draws_anew():
    copies = copies_of(dropout, 3, Question("q", "Who?", (), "g"), NAMES)
    assert [copy.change and copy.change.kind for copy in copies] == [ChangeKind.dropout] * 3
    assert len({copy.change for copy in copies}) == 3


def test_how_many_others_are_asked_about_does_not_give_away_how_many_namesakes_there_are():
    """In the embedded world each name has as many; asking about just these would be its recipe."""
    names = question_set(WorldSpec(), 1, 0).names
    for pool in names.values():
        holders = Counter(word for name in pool for word in name.split())
        namesakes = {sum(holders[word] - 1 for word in name.split()) for name in pool}
        assert not [n for n in namesakes if abs(n - owner.FAMILY.default) <= 2]
