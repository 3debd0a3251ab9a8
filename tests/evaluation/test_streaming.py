from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.learners.classifiers import TokenClassifier
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.data import EvaluationData, available
from ghosttrack.evaluation.fitting import fit_whole, prepare
from ghosttrack.evaluation.roster import streaming
from ghosttrack.evaluation.scores import plain_auroc
from tests.support.answers import made_up_answers

N = 600


def written(lengths: np.ndarray, seed: int = 0) -> EvaluationData:
    """Answers of these lengths; a token tells the more of its answer the later it stands."""
    answers = made_up_answers(len(lengths), len(lengths) // 3, seed)
    answers = replace(answers, token_ids=tuple((7,) * int(length) for length in lengths))
    place = np.concatenate([np.arange(length) for length in lengths])
    of = np.repeat(np.arange(len(lengths)), lengths)
    generator = np.random.default_rng(seed + 1)
    told = place * answers.labels[of] + generator.normal(size=len(of))
    values = np.column_stack([told, generator.normal(size=len(of)), np.ones(len(of))])
    tokens = Table(("entropy", "mean_logprob", "flat"), values)
    tables = {"output": answers.output}
    return EvaluationData(answers=answers, tables=tables, forwards={}, tokens=tokens)


def early(lengths: np.ndarray) -> list[str]:
    names = [spec.name for spec in available(written(lengths)).present]
    return sorted(name for name in names if name.startswith("streaming"))


def test_detectors_speak_as_early_as_answers_go_on():
    lengths = np.full(N, 2)
    assert early(lengths) == ["streaming", "streaming:1"]
    lengths[: N // 10] = 5
    assert early(lengths) == ["streaming", "streaming:1", "streaming:2", "streaming:4"]
    assert early(np.ones(N, int)) == ["streaming"]


def test_columns_say_their_table_and_constant_ones_are_dropped():
    found = prepare(streaming(2), written(np.full(N, 3)), np.arange(N // 2), {})
    assert found is not None
    assert isinstance(found.learner, TokenClassifier)
    assert found.learner.n_tokens == 2
    assert found.names == ("tracks:entropy", "output:mean_logprob")
    assert any("flat" in one for one in found.dropped)


def test_one_is_fitted_on_every_token_and_its_probability_holds_at_each():
    learned = written(np.full(N, 4)).answers.labels
    (found,) = fit_whole(written(np.full(N, 4)), ("streaming",), 0, n_jobs=1)
    one, own = found.fitted, found.fitted.calibration.prob(found.oof).reshape(N, 4)
    aurocs = [plain_auroc(learned, own[:, place]) for place in (0, 3)]  # nothing is told at first
    assert abs(aurocs[0] - 0.5) < 0.1 < 0.9 < aurocs[1]
    fresh = written(np.full(2000, 4), seed=5)
    assert fresh.tokens is not None
    tables = {
        "tracks": fresh.tokens.select(("entropy",)),
        "output": fresh.tokens.select(("mean_logprob",)),
    }
    values = one.values(tables)
    assert not one.lacks(values).any()
    risk = one.prob(values).reshape(2000, 4)
    labels = fresh.answers.labels
    aurocs = [plain_auroc(labels, risk[:, place]) for place in range(4)]
    assert aurocs[3] > 0.9 > aurocs[1]
    assert risk.mean() == pytest.approx(labels.mean(), abs=0.05)
    assert one.prevalence == pytest.approx(learned.mean())
