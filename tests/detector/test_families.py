"""Families: which copies they make, and their numbers by hand."""

import math

import numpy as np
import pytest

from ghosttrack.data.questions import Question
from ghosttrack.detector.families import OWNER_SPECS, PARAPHRASE_SPECS, owner, paraphrase
from ghosttrack.detector.interventions import Copy, Echo

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


def rng(seed=0):
    return np.random.default_rng(seed)


def named(specs, finding):
    return {spec.name: value for spec, value in zip(specs, finding.values, strict=True)}


def test_paraphrase_asks_in_the_first_other_wordings():
    copies = paraphrase(2).copies(QUESTION, NAMES, rng())
    assert [copy.prompt for copy in copies] == ["Ann was born in", "Which town is Ann from?"]


def test_paraphrase_numbers_by_hand():
    echo = Echo(np.log([0.5, 0.1]), np.array([True, False]), np.array([1.0, 2.0]))
    numbers = named(PARAPHRASE_SPECS, paraphrase(2).reduce((), echo))
    assert numbers["paraphrase_logmean"] == pytest.approx(math.log(0.3))  # (0.5 + 0.1) / 2
    assert numbers["paraphrase_min"] == pytest.approx(math.log(0.1))
    assert numbers["paraphrase_max"] == pytest.approx(math.log(0.5))
    assert numbers["paraphrase_sd"] == pytest.approx(math.log(5) / 2)  # half of ln .5 - ln .1
    assert numbers["paraphrase_agree"] == 0.5
    assert numbers["paraphrase_entropy"] == 1.5


def test_owner_numbers_by_hand():
    copies = tuple(Copy("", name) for name in ("Ann", "Bob", "Cid", "Dee"))
    echo = Echo(np.log([0.2, 0.1, 0.4, 0.1]), np.zeros(4, dtype=bool), np.zeros(4))
    finding = owner(3).reduce(copies, echo)
    numbers = named(OWNER_SPECS, finding)
    assert numbers["owner_rank"] == pytest.approx(1 / 3)  # only Cid's 0.4 is above 0.2
    assert numbers["owner_gap"] == pytest.approx(-math.log(2))  # ln 0.2 - ln 0.4
    assert numbers["owner_pmi"] == pytest.approx(0.0)  # mean of the others: 0.6 / 3 = 0.2
    # In units of ln 2 above ln 0.1: own 1; others 0, 2, 0: mean 2/3, sd sqrt(8/9).
    assert numbers["owner_z"] == pytest.approx((1 - 2 / 3) / math.sqrt(8 / 9))
    assert finding.rival == "Cid"


def test_owner_z_is_undefined_for_a_single_other_name():
    copies = (Copy("", "Ann"), Copy("", "Bob"))
    finding = owner(1).reduce(copies, Echo(np.log([0.2, 0.1]), np.ones(2, bool), np.ones(2)))
    assert math.isnan(named(OWNER_SPECS, finding)["owner_z"])


def test_owner_puts_different_others_in_the_subjects_place_and_never_the_subject():
    for seed in range(20):
        own, *others = owner(4).copies(QUESTION, NAMES, rng(seed))
        assert own == Copy("Ann comes from", "Ann")
        assert len({copy.subject for copy in others}) == 4
        assert "Ann" not in {copy.subject for copy in others}
        assert all(copy.prompt == f"{copy.subject} comes from" for copy in others)


def test_owner_draws_every_name_there_is_when_there_are_few():
    copies = owner(50).copies(QUESTION, NAMES, rng())
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
        found = [copy.subject for copy in owner(7).copies(question, {"x": names}, rng(seed))]
        # Oslo is in 2 names, bank in 4, of in 5: 1/2, then 1/4 + 1/5, then 1/5, then nothing.
        assert found[:2] == ["bank of Oslo", "Oslo Docks"]
        assert set(found[2:5]) == {"Bank of Rome", "Bank of Bern", "Bank of Kyiv"}
        assert found[5] == "Mill of Rome"
        assert set(found[6:]) == {"Town Hall", "Bridge"}


def test_owner_uses_the_question_where_there_is_no_short_statement():
    question = Question(
        id="q", prompt="Is Ann or Anna Ann?", answers=(), group="g", subject="Ann", kind="person"
    )
    (_, other) = owner(1).copies(question, {"person": ("Bob", "ANN")}, rng())
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
    assert owner(3).copies(question, NAMES, rng()) == ()
    assert paraphrase(3).copies(question, NAMES, rng()) == ()
