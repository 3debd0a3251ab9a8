import numpy as np
import pytest

from ghosttrack.detector.answers.output_scores import OUTPUT_SCORES
from ghosttrack.detector.asking.families.owner import OWNER_SPECS
from ghosttrack.detector.asking.families.paraphrase import SPECS as PARAPHRASE_SPECS
from ghosttrack.detector.judgement import About, explain, say
from ghosttrack.detector.learners.classifiers import Option
from ghosttrack.detector.learners.fitted import FittedDetector, scores
from ghosttrack.detector.tracks.lens import LENS_STATISTICS
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS
from tests.detector.learners.options import TABULAR, fitted_detector

OUTPUT_SPECS = tuple(score.spec for score in OUTPUT_SCORES)
SPECS = {
    spec.name: spec
    for spec in (
        *(*OUTPUT_SPECS, *LENS_STATISTICS),
        *(*TRACK_STATISTICS, *PARAPHRASE_SPECS, *OWNER_SPECS),
    )
}
COLUMNS = ("owner:owner_gap", "output:answer_logprob", "lens:lens_flips", "other:thing")
ANNA = About("Anna Pera", "Anna Lund")


def detector(option: Option) -> FittedDetector:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 500)
    values = generator.normal(size=(500, 4)) - labels[:, None] * [2.0, 1.0, 0.0, 0.0]
    return fitted_detector(option, COLUMNS, values, labels)


@pytest.mark.parametrize("option", TABULAR, ids=lambda option: option.label)
def test_base_and_effects_add_up_to_the_log_odds(option: Option):
    one, row = detector(option), np.array([-2.5, -1.5, 0.1, 0.0])
    found = explain(one, row, SPECS, ANNA)
    total = found.base + sum(reason.effect for reason in found.reasons)
    assert total == pytest.approx(scores(one.scorer, row[None])[0], abs=1e-8)
    assert found.base + sum(found.families.values()) == pytest.approx(total)


@pytest.mark.parametrize("option", TABULAR, ids=lambda option: option.label)
def test_what_speaks_for_hallucination_raises_the_risk_and_comes_first(option: Option):
    one = detector(option)
    bad, good = (
        explain(one, np.array(row), SPECS, ANNA)
        for row in ([-3.5, 0.0, 0.0, 0.0], [1.5, 0.0, 0.0, 0.0])
    )
    assert (bad.reasons[0].name, good.reasons[0].name) == ("owner_gap", "owner_gap")
    assert bad.reasons[0].effect > 0.5
    assert good.reasons[0].effect < -0.5
    reason = bad.reasons[0]
    assert reason.text == "the answer fits another name, Anna Lund, 33 times better"
    assert reason.right.endswith("× worse")
    assert reason.hallucinated.split(" to ")[0].endswith("× better")


def test_a_column_without_a_spec_is_named_as_it_is():
    found = explain(detector(TABULAR[1]), np.array([0.0, 0.0, 0.0, 2.0]), SPECS, ANNA)
    (thing,) = (reason for reason in found.reasons if reason.name == "thing")
    assert (thing.family, thing.text) == ("other", "thing: 2")


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_every_statistic_can_be_said(spec):
    inside = np.clip(0.3, max(spec.low, -5.0), min(spec.high, 5.0))
    words = say(spec.name, float(inside), spec.definition, ANNA)
    assert words
    assert words != spec.name
    assert "nan" not in words
    assert say(spec.name, float("nan"), spec.definition, ANNA).endswith("not defined here")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("owner_gap", 0.6931, "of all other names Anna Lund fits the answer best, 2.0 times worse"),
        ("owner_rank", 0.25, "25 % of the other names tried give the answer more strongly"),
        ("paraphrase_logmean", -3.912, "other wordings of the question give the answer 2 %"),
        ("paraphrase_agree", 0.5, "50 % of the other wordings lead to the same answer"),
        ("owner_pmi", -2.303, "the answer is 10 times less likely for Anna Pera than for others"),
    ],
)
def test_sentences(name: str, value: float, words: str):
    assert say(name, value, SPECS[name].definition, ANNA).startswith(words)
