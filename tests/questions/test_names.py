"""Names in a subject's place."""

import numpy as np

from ghosttrack.questions.names import as_template, known, other_parts, parts, statement, strangers
from ghosttrack.questions.sets import Question

NAMES = {"person": ("Ann Low", "Ann Mey", "Bob Low", "Bob Mey", "Cid van Oss", "Prince")}
ANN = Question("q", "Who is Ann Low?", ("x",), "g", subject="Ann Low", kind="person")


def test_a_text_has_a_place_wherever_the_whole_name_stands():
    assert as_template("Ann saw Anna and Ann.", "Ann") == "{subject} saw Anna and {subject}."
    assert as_template("Anna", "Ann") == ""
    assert as_template("Who?", "") == ""
    assert as_template("A+ is A+", "A+") == "{subject} is {subject}"
    assert statement(ANN) == "Who is {subject}?"


def test_a_name_is_its_first_word_and_the_rest():
    assert parts("Cid van Oss") == ("Cid", "van Oss")
    assert parts("Prince") == ("Prince", "")


def test_parts_are_exchanged_one_at_a_time():
    firsts, rests = other_parts(ANN, NAMES, 10, np.random.default_rng(0))
    assert set(firsts) == {"Bob Low", "Cid Low", "Prince Low"}
    assert set(rests) == {"Ann Mey", "Ann van Oss"}
    prince = Question("q", "Who is Prince?", ("x",), "g", subject="Prince", kind="person")
    assert other_parts(prince, NAMES, 10, np.random.default_rng(0)) == ((), ())


def test_strangers_share_no_word():
    assert set(strangers(ANN, NAMES, 10, np.random.default_rng(0))) == {
        *("Bob Mey", "Cid van Oss", "Prince")
    }
    assert len(strangers(ANN, NAMES, 2, np.random.default_rng(0))) == 2


def test_fewer_names_are_known_of_every_kind_and_always_the_same():
    names = {"person": tuple(f"p{at}" for at in range(40)), "city": ("Rome", "Oslo", "Bern")}
    assert known(names, 1.0, 0) == names
    half, quarter = known(names, 0.5, 0), known(names, 0.25, 0)
    assert {kind: len(pool) for kind, pool in half.items()} == {"person": 20, "city": 2}
    assert {kind: len(pool) for kind, pool in quarter.items()} == {"person": 10, "city": 1}
    for kind, pool in half.items():
        assert set(quarter[kind]) < set(pool) < set(names[kind])
    assert known(names, 0.5, 0) == half != known(names, 0.5, 1)
