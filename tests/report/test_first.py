from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.evaluation.result import ALL, UNDEFINED, Interval
from ghosttrack.report.first import answered, choices, leaks, of_one_pass, thin, verdict
from tests.report.materials import evaluation


def test_a_verdict_says_how_many_pairs_are_ranked_rightly():
    said = verdict(evaluation(), "everything")
    assert said.startswith(
        "everything (every table, probe and latents) ranks a hallucinated answer"
    )
    assert " in 75 of 100 pairs" in said


def test_a_detector_whose_interval_holds_chance_is_said_to_tell_nothing():
    found = evaluation()
    rows = tuple(replace(row, auroc_ci=Interval(0.45, 0.8)) for row in found.rows)
    assert "is not shown to tell" in verdict(replace(found, rows=rows), "everything")


@pytest.mark.parametrize(
    ("n_right", "n_wrong", "said"),
    [(20, 500, "Only 20 right answers"), (500, 99, "Only 99 hallucinated answers"), (100, 100, "")],
)
def test_few_answers_of_a_label_are_said_first(n_right: int, n_wrong: int, said: str):
    warned = thin(np.repeat([0, 1], [n_right, n_wrong]))
    assert [one.partition(":")[0] for one in warned] == ([said] if said else [])


def test_canaries_that_really_tell_are_named_with_the_reason_and_shuffled_labels_with_the_leader():
    found = replace(
        evaluation(),
        singing={},
        signals={"index": "as asked"},
        canaries={"index": 0.6, "label_shuffle:everything": 0.49},
        canaries_ci={
            "index": Interval(0.55, 0.65), "label_shuffle:everything": Interval(0.4, 0.58),
        },
    )  # fmt: skip
    (*_, last) = answered(found, "everything", {}, 1.0)
    assert "no leak: index (as asked); no other is. Their intervals end at 0.58" in last.answer
    assert last.answer.endswith("judged by shuffled labels: 0.490 [0.400, 0.580].")


def test_the_recommended_detector_is_named_by_what_it_is():
    found = evaluation()
    rows = tuple(
        replace(row, detector="recommended") for row in found.rows if row.detector == "everything"
    )
    chosen = replace(found, rows=rows, recommended={"recommended": "probe+output"})
    few = "(what the inner folds choose, from too few answers to be sure: probe+output)"
    assert few in verdict(chosen, "recommended")
    assert "4 right and 4 hallucinated answers are too few to choose" in choices(chosen)[0]
    enough = replace(chosen, n_judged=800)
    assert "(what the inner folds choose: probe+output)" in verdict(enough, "recommended")
    assert "probe+output, which the inner folds choose on 400 right" in choices(enough)[0]


@pytest.mark.parametrize(
    ("ci", "said"),
    [
        (Interval(0.45, 0.54), "end at 0.54 to 0.54: a smaller leak is not"),
        (Interval(0.2, 0.81), "not excluded; so few answers can hide a leak."),
        (Interval(0.5, 0.5), "too few answers for an interval, so nothing is excluded."),
        (UNDEFINED, "too few answers for an interval, so nothing is excluded."),
    ],
)
def test_canaries_say_how_great_a_leak_they_could_have_missed(ci: Interval, said: str):
    found = replace(evaluation(), canaries={"index": 0.5}, canaries_ci={"index": ci}, singing={})
    assert said in leaks(found)


def test_the_best_of_one_pass_is_no_choice_among_others_and_costs_no_more():
    found = evaluation()
    rows = [row for row in found.rows if row.forwards <= 1 and row.subset == ALL]
    dear = replace(rows[0], detector="dear", auroc=0.99, forwards=2.0)
    chosen = replace(rows[0], detector="recommended", auroc=0.98)
    best = replace(rows[0], detector="cheap", auroc=0.97, auroc_ci=Interval(0.9, 0.99), n=50)
    told = replace(found, rows=(*rows, dear, chosen, best), recommended={"recommended": "cheap"})
    assert of_one_pass(told) == "one pass, cheap: AUROC 0.970 [0.900, 0.990] on 50 answers"
