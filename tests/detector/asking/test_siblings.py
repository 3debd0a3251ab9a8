"""Sibling questions: which they are, and their means."""

import numpy as np

from ghosttrack.detector.asking.families.siblings import find_siblings, templates_of
from ghosttrack.detector.table import Table
from ghosttrack.questions.sets import Question, QuestionSet, Templates

SHORT = {"birthplace": "{subject} is from", "job": "{subject} works as", "pet": "{subject} has a"}


def asked(name: str, relation: str, **fields: object) -> Question:
    values = {
        "id": f"{name}/{relation}",
        "prompt": f"{relation} of {name}?",
        "answers": ("x",),
        "group": name,
        "subject": name,
        "relation": relation,
        "kind": "person",
        "short": SHORT[relation],
        "wordings": (f"the {relation} of {name} is",),
    }
    return Question(**(values | fields))


def known(*questions: Question) -> Templates:
    return templates_of(QuestionSet("test", questions, {}, (), 3, {}))


def test_every_other_relation_of_the_kind_is_asked_once_per_subject():
    questions = (asked("Ann", "job"), asked("Ann", "pet"), asked("Bob", "birthplace"))
    found = find_siblings(questions, known(*questions), 5)
    names = [(one.subject, one.relation) for one in found.questions]
    assert sorted(names) == [
        *(("Ann", "birthplace"), ("Ann", "job"), ("Ann", "pet"), ("Bob", "job"), ("Bob", "pet")),
    ]
    of = [{found.questions[at].relation for at in mine} for mine in found.of]
    assert of == [{"birthplace", "pet"}, {"birthplace", "job"}, {"job", "pet"}]
    born = next(one for one in found.questions if one.relation == "birthplace")
    assert born.prompt == "Ann is from"  # Bob's wording with Ann in his place
    assert born.wordings == ("the birthplace of Ann is",)
    assert born.short == SHORT["birthplace"]


def test_at_most_so_many_are_asked():
    questions = (asked("Ann", "job"), asked("Bob", "birthplace"), asked("Bob", "pet"))
    assert [len(mine) for mine in find_siblings(questions, known(*questions), 1).of] == [1, 1, 1]
    assert find_siblings(questions, known(*questions), 0).questions == ()


def test_a_relation_of_another_kind_or_without_a_statement_is_no_sibling():
    questions = (
        asked("Ann", "job"),
        asked("Rome", "pet", kind="city"),
        asked("Bob", "birthplace", short=""),
        Question("q", "Who?", ("x",), "q"),
    )
    found = find_siblings(questions, known(*questions), 5)
    assert [[found.questions[at].relation for at in mine] for mine in found.of] == [
        [],
        [],
        ["job"],
        [],
    ]


def test_means_are_over_the_siblings_that_have_a_number():
    questions = (asked("Ann", "job"), asked("Bob", "pet"), asked("Bob", "birthplace"))
    found = find_siblings(questions, known(*questions), 5)
    values = np.full((len(found.questions), 2), np.nan)
    mine = list(found.of[0])
    values[mine, 0] = [1.0, 3.0]
    values[mine[0], 1] = 5.0
    mean = found.mean(Table(("a", "b"), values)).values
    assert mean[0].tolist() == [2.0, 5.0]
    assert np.isnan(mean[1]).all()
