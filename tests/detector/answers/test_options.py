"""Scores of given options, by hand, against a plain loop, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.detector.answers.ready import (
    OPTION_SPECS,
    OWNER_OPTION_SPECS,
    n_others,
    option_answers,
    output_table,
    owner_table,
    rivals,
    skewed,
)
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.questions.option_scores import OptionScores
from tests.detector.scenes import keeps_ranges


def relation(scores, subjects=None, right=None, name: str = "P1") -> OptionScores:
    scores = np.asarray(scores, dtype=np.float64)
    n, n_options = scores.shape
    subjects = tuple(subjects or (f"s{index}" for index in range(n)))
    return OptionScores(
        relation=name,
        ids=tuple(f"{name}/{index}" for index in range(n)),
        subjects=subjects,
        statements=tuple(f"{subject} is" for subject in subjects),
        options=tuple(f"o{index}" for index in range(n_options)),
        scores=scores,
        right=np.zeros(n, dtype=np.int64) if right is None else np.asarray(right),
    )


def drawn(seed: int, n: int = 7, n_options: int = 4) -> OptionScores:
    return relation(3 * np.random.default_rng(seed).normal(size=(n, n_options)))


def row(table, index: int = 0) -> dict[str, float]:
    return dict(zip(table.names, table.values[index].tolist(), strict=True))


# p of the three subjects: (.5, .25, .25), (.8, .1, .1), (.2, .6, .2)
BY_HAND = relation(np.log([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2]]), right=[1, 0, 1])


def test_output_scores_of_one_fact_by_hand():
    found = row(output_table([BY_HAND]))
    assert found == pytest.approx(
        {
            "option_logprob": np.log(0.5),
            "option_margin": np.log(2),
            "option_entropy": 0.5 * np.log(2) + 0.5 * np.log(4),
        }
    )


def test_owner_scores_of_one_fact_by_hand():
    found = row(owner_table([BY_HAND]))
    # The first option (the answer) has .8 and .2 for others; the options' means are .5, .35, .15.
    mean_lp = (np.log(0.8) + np.log(0.2)) / 2
    q = np.array([0.5 / 0.5, 0.25 / 0.35, 0.25 / 0.15])
    q /= q.sum()
    assert found == pytest.approx(
        {
            "owner_rank": 0.5,
            "owner_gap": np.log(0.5 / 0.8),
            "owner_z": (np.log(0.5) - mean_lp) / (np.log(0.8 / 0.2) / 2),
            "owner_pmi": np.log(0.5 / 0.5),
            "prior_logprob": np.log(q[0]),
            "prior_margin": np.log(q[0] / q[2]),
            "prior_entropy": -(q * np.log(q)).sum(),
        }
    )


def test_the_best_option_is_the_answer_and_subjects_are_groups():
    answers = option_answers([BY_HAND, relation([[0.0, 1.0]], ["s1"], [1], name="P2")])
    assert answers.texts == ("o0", "o0", "o1", "o1")
    assert answers.references == (("o1",), ("o0",), ("o1",), ("o1",))
    assert answers.labels.tolist() == [1, 0, 0, 0]
    assert answers.prob[:3] == pytest.approx([0.5, 0.8, 0.6])
    assert answers.groups == ("s0", "s1", "s2", "s1")
    assert answers.relations == ("P1", "P1", "P1", "P2")


def test_the_rival_is_whom_the_answer_fits_best():
    assert rivals([BY_HAND]) == ("s1", "s0", "s0")
    assert rivals([relation([[0.0, 1.0]])]) == ("",)


def test_a_subject_s_other_facts_are_not_among_the_others():
    twice = relation([[0.0, 5.0], [0.0, 4.0], [1.0, 0.0]], ["anna", "anna", "bert"])
    alone = relation([[0.0, 5.0], [1.0, 0.0]], ["anna", "bert"])
    assert row(owner_table([twice])) == pytest.approx(row(owner_table([alone])), nan_ok=True)
    assert n_others([twice]) == pytest.approx((1 + 1 + 2) / 3)


def test_a_relation_of_one_subject_has_no_owner_test():
    assert np.isnan(owner_table([relation([[0.0, 1.0]])]).values).all()
    assert np.isfinite(output_table([relation([[0.0, 1.0]])]).values).all()


@given(st.integers(0, 10**6))
def test_relations_rows_and_options_may_come_in_any_order(seed: int):
    one, other = drawn(seed), drawn(seed + 1, n=3, n_options=2)
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(7), generator.permutation(4)
    shuffled = relation(one.scores[rows][:, columns], [one.subjects[index] for index in rows])
    for table in (output_table, owner_table):
        straight, turned = table([one, other]).values, table([other, shuffled]).values
        np.testing.assert_allclose(turned[3:], straight[rows], atol=1e-9)
        np.testing.assert_allclose(turned[:3], straight[7:], atol=1e-9)


@given(st.integers(0, 10**6), st.floats(-1e3, 1e3))
def test_a_constant_added_to_a_fact_s_scores_changes_nothing(seed: int, constant: float):
    one = drawn(seed)
    moved = one.scores.copy()
    moved[2] += constant
    for table in (output_table, owner_table):
        np.testing.assert_allclose(table([relation(moved)]).values, table([one]).values, atol=1e-6)


@given(st.integers(0, 10**6))
def test_no_fact_is_a_part_of_its_own_prior(seed: int):
    """Doubling a row's log-odds moves its own numbers as its own p alone would."""
    one = drawn(seed)
    sharper = one.scores.copy()
    sharper[0] *= 2
    names = owner_table([one]).names
    before, after = (owner_table([relation(scores)]).values for scores in (one.scores, sharper))
    lp = output_table([one]).column("option_logprob")[0]
    sharp_lp = output_table([relation(sharper)]).column("option_logprob")[0]
    for name in ("owner_gap", "owner_pmi"):
        column = names.index(name)
        assert after[0, column] - before[0, column] == pytest.approx(sharp_lp - lp)


def test_the_right_answers_enter_no_number():
    scores = drawn(0).scores
    for table in (output_table, owner_table):
        np.testing.assert_array_equal(
            table([relation(scores, right=[3] * 7)]).values, table([relation(scores)]).values
        )


@given(st.integers(0, 10**6))
def test_numbers_stay_in_their_stated_range(seed: int):
    one = drawn(seed)
    keeps_ranges(output_table([one]), OPTION_SPECS, slack=1e-12)
    keeps_ranges(owner_table([one]), OWNER_OPTION_SPECS, slack=1e-12)


def test_what_is_given_to_anybody_is_divided_out():
    """An option that everybody gets says nothing; one that only its subject gets says much."""
    scores = np.log([[0.7, 0.2, 0.1]] * 6 + [[0.1, 0.2, 0.7]])
    column = owner_table([relation(scores)]).column("prior_logprob")
    assert column[6] > column[:6].max() + 0.3


def test_where_right_answers_follow_the_models_own_order_the_prior_correction_helps_less():
    generator, right = np.random.default_rng(0), np.repeat(np.arange(4), 60)
    taste = np.array([0.0, 2.0, 1.0, 3.0])  # for any subject
    scores = taste + generator.normal(size=(240, 4)) + 1.5 * np.eye(4)[right]
    facts = [relation(scores, right=right), relation(scores, right=right, name="P2")]
    kept = skewed(facts)
    assert np.bincount(right[kept[:240]]).tolist() == [15, 30, 20, 60]  # 60 / 4, / 2, / 3, / 1
    labels, owner = option_answers(facts).labels, owner_table(facts)
    sure, corrected = (
        -table.column(name)
        for table, name in ((output_table(facts), "option_logprob"), (owner, "prior_logprob"))
    )
    gains = [
        plain_auroc(labels[rows], corrected[rows]) - plain_auroc(labels[rows], sure[rows])
        for rows in (np.ones(480, dtype=bool), kept)
    ]
    assert gains[1] < gains[0] - 0.05
