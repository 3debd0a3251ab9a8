from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.errors import DataError
from ghosttrack.evaluation.config import HeldOut
from ghosttrack.evaluation.splits import INNER_FOLDS, grouped_folds, nested_folds, transfer_folds
from ghosttrack.evaluation.subsets import check_answers, drawn_together, kinds_of_question
from tests.support.answers import made_up_answers


def questions(seed: int, n: int = 120, n_groups: int = 40):
    generator = np.random.default_rng(seed)
    groups = [f"g{one}" for one in generator.integers(n_groups, size=n)]
    labels = generator.integers(0, 2, n)
    return labels, groups, [f"text {index}" for index in range(n)]


@given(seed=st.integers(0, 1000), n_folds=st.integers(2, 5))
@settings(max_examples=5)
def test_no_group_stands_in_two_splits(seed: int, n_folds: int):
    labels, groups, texts = questions(seed)
    folds = grouped_folds(labels, groups, texts, n_folds, seed)
    names = np.array(groups)
    assert sorted(set(folds.tolist())) == list(range(n_folds))
    for fold in nested_folds(folds, labels, groups, seed):
        assert not set(names[fold.train]) & set(names[fold.test])
        parts = [set(names[fold.train][fold.inner == inner]) for inner in range(INNER_FOLDS)]
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_folds_have_like_label_shares():
    labels, groups, texts = questions(0, n=2000, n_groups=800)
    folds = grouped_folds(labels, groups, texts, 5, 0)
    shares = [labels[folds == fold].mean() for fold in range(5)]
    assert np.ptp(shares) < 0.02


def test_a_text_under_two_groups_is_refused_by_name():
    labels, groups, texts = questions(0)
    folds = grouped_folds(labels, groups, texts, 5, 0)
    other_group = np.array(groups) != groups[0]
    for other in (folds != folds[0], (folds == folds[0]) & other_group):
        doubled = list(texts)
        doubled[int(np.flatnonzero(other)[0])] = texts[0]
        with pytest.raises(DataError, match="the text 'text 0' stands under the groups"):
            grouped_folds(labels, groups, doubled, 5, 0)


@pytest.mark.parametrize(("label", "word"), [(0, "hallucinated"), (1, "right")])
def test_one_label_only_is_one_clear_line(label: int, word: str):
    _, groups, texts = questions(0)
    with pytest.raises(DataError, match=f"0 groups hold a {word} answer, 5 folds need 6"):
        grouped_folds(np.full(len(groups), label), groups, texts, 5, 0)


@pytest.mark.parametrize(("categories", "word"), [(("wrong",), "right"), (("correct",), "wrong")])
def test_answers_of_one_label_say_what_was_asked_and_show_five(categories, word: str):
    answers = made_up_answers(9, 9)
    label = np.full(9, categories[0] == "wrong", dtype=np.int64)
    said = replace(answers, labels=label, categories=(*categories * 8, "no_answer"))
    with pytest.raises(DataError, match=f"no answer is {word}") as raised:
        check_answers(said, 5)
    text = str(raised.value)
    assert answers.prompts[0] in text
    assert f"{categories[0]} 8, no_answer 1" in text
    assert all(repr(one) in text for one in answers.texts[:5])


def test_a_kind_that_is_held_out_is_met_in_no_training_row_nor_are_its_groups():
    labels, groups, _ = questions(0, n=600, n_groups=200)
    kinds = [f"kind {one}" for one in np.random.default_rng(1).integers(12, size=600)]
    folds = transfer_folds(labels, kinds, 4, 0)
    names, words = np.array(groups), np.array(kinds)
    for fold in nested_folds(folds, labels, groups, 0):
        assert not set(words[fold.train]) & set(words[fold.test])
        assert not set(names[fold.train]) & set(names[fold.test])
        assert len(fold.train) > 100
    assert sorted(np.unique(folds)) == [0, 1, 2, 3]


def test_fewer_kinds_than_folds_are_one_clear_line():
    labels, _, _ = questions(0)
    with pytest.raises(DataError, match="2 kinds to hold out"):
        transfer_folds(labels, ["a", "b"] * 60, 5, 0)


def test_a_wording_is_what_stands_around_the_subject():
    answers = made_up_answers(40, 20)
    prompts = tuple(f"Where was {subject} born?" for subject in answers.subjects)
    same = replace(answers, prompts=prompts, relations=("born",) * 40)
    assert set(kinds_of_question(same, HeldOut.wording)) == {"born: Where was {} born?"}
    assert kinds_of_question(answers, HeldOut.relation) == answers.relations


def test_what_is_held_out_is_what_intervals_draw():
    answers = made_up_answers(40, 20)
    assert drawn_together(answers, HeldOut.group) == answers.groups
    assert drawn_together(answers, HeldOut.relation) == answers.relations
    prompts = tuple(f"{subject} was born in" for subject in answers.subjects)
    templates = drawn_together(replace(answers, prompts=prompts), HeldOut.wording)
    assert set(templates) == {f"r{one}: {{}} was born in" for one in range(4)}
    assert drawn_together(answers, HeldOut.wording) == answers.groups  # no two share a wording
