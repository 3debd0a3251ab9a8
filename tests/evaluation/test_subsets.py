from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.evaluation.subsets import LEAST_OF_EACH, subsets
from ghosttrack.world.questions import HELD_OUT
from tests.support.answers import made_up_answers


def test_a_relation_counts_from_so_many_answers_of_each_label_on():
    n = 4 * LEAST_OF_EACH
    labels = np.tile([0, 1], n // 2)
    labels[-1] = 0  # the second relation lacks one hallucinated answer
    answers = replace(
        made_up_answers(n, 20), labels=labels, relations=("a",) * (n // 2) + ("b",) * (n // 2)
    )
    found = {one.name: one for one in subsets(answers).present}
    assert list(found) == ["all", "p>0.5", "p>0.8", "within relation"]
    assert found["within relation"].mask.tolist() == [True] * (n // 2) + [False] * (n // 2)
    assert (found["p>0.5"].mask == (answers.prob > 0.5)).all()


def test_answers_of_the_same_words_are_compared_with_one_another():
    n = 4 * LEAST_OF_EACH
    answers = replace(
        made_up_answers(n, 20),
        labels=np.tile([0, 1], n // 2),
        texts=("oslo",) * (n // 2) + tuple(map(str, range(n // 2))),
    )
    within = {one.name: one for one in subsets(answers).present}["within answer"]
    assert within.mask.tolist() == [True] * (n // 2) + [False] * (n // 2)
    assert len(set(within.relation[within.mask])) == 1


def test_tiers_and_wordings_that_the_model_never_read_are_judged_apart():
    n = 4 * LEAST_OF_EACH
    answers = replace(
        made_up_answers(n, 20),
        labels=np.tile([0, 1], n // 2),
        tiers=("rare",) * (n // 2) + ("head",) * (n // 2),
        question_ids=tuple(f"{at}{HELD_OUT if at < 3 else ''}" for at in range(n)),
    )
    found = {one.name: one for one in subsets(answers).present}
    assert found["unseen wording"].mask.tolist() == [True] * 3 + [False] * (n - 3)
    assert found["tier rare"].mask.tolist() == [True] * (n // 2) + [False] * (n // 2)
    assert found["tier head"].relation is None
    alike = replace(answers, labels=np.array([1, 1, 1, *answers.labels[3:]]))
    assert "unseen wording" not in {one.name for one in subsets(alike).present}


def test_a_stratum_whose_right_answers_are_luck_is_not_judged():
    n = 4 * LEAST_OF_EACH
    kinds = ("rare",) * (n // 2) + ("unseen",) * (n // 2)
    exposures = np.repeat([3, 0], n // 2)
    answers = replace(
        made_up_answers(n, 20),
        **{"labels": np.tile([0, 1], n // 2), "exposures": exposures},
        **{"tiers": kinds, "relations": kinds},
    )
    found = subsets(answers)
    by_name = {one.name: one for one in found.present}
    assert [name for name in by_name if name.startswith("tier")] == ["tier rare"]
    assert found.left_out["tier unseen"] == "not 11 of each label, lucky ones not counted"
    assert by_name["within relation"].mask.tolist() == (exposures > 0).tolist()
    never_counted = replace(answers, exposures=np.full(n, -1))
    assert "tier unseen" in {one.name for one in subsets(never_counted).present}


def test_parts_that_somebody_names_are_judged_where_they_have_both_labels():
    answers = replace(made_up_answers(40, 20), labels=np.tile([0, 1], 20))
    parts = {"first": np.arange(40) < 6, "even": np.arange(40) % 2 == 0}
    found = {one.name: one.mask for one in subsets(answers, parts).present}
    assert "even" not in found
    assert found["first"].tolist() == parts["first"].tolist()


@pytest.mark.parametrize(
    ("relations", "reason"),
    [
        (("a", "b") * 20, "no relation stands 11 times under each label"),
        (("a",) * 40, None),
        (("",) * 40, None),
    ],
)
def test_few_answers_or_one_relation_have_no_such_subset(relations, reason):
    labels = np.array([1] * 8 + [0] * 32)
    answers = replace(made_up_answers(40, 20), labels=labels, relations=relations)
    found = subsets(answers)
    assert [one.name for one in found.present] == ["all", "p>0.5", "p>0.8"]
    assert found.left_out.get("within relation") == reason


def test_without_probabilities_nobody_is_confident():
    answers = replace(made_up_answers(40, 20), prob=np.full(40, np.nan))
    found = subsets(answers)
    assert "p>0.5" not in {one.name for one in found.present}
    assert set(found.left_out) >= {"p>0.5", "p>0.8"}
