from dataclasses import replace

from ghosttrack.evaluation.result import Interval
from ghosttrack.report.first import verdict
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
