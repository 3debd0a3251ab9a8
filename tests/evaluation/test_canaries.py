import numpy as np
import pytest

from ghosttrack.detector.learners.classifiers import FOREST, Columns
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from ghosttrack.evaluation.canaries import SONGS, canaries, noise_by_text, singing
from ghosttrack.evaluation.crossfit import assemble, fit_fold
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.splits import Fold, grouped_folds, nested_folds
from tests.support.answers import made_up_answers

N = 800


def data(seed: int = 0, **tables: Table) -> EvaluationData:
    answers = made_up_answers(N, 400, seed)
    return EvaluationData(answers, {"output": answers.output, **tables}, forwards={})


def folds_of(given: EvaluationData) -> tuple[Fold, ...]:
    answers = given.answers
    folds = grouped_folds(answers.labels, answers.groups, answers.prompts, 3, 0)
    return nested_folds(folds, answers.labels, answers.groups, 0)


def cross_fitted(learner, labels, folds) -> float:
    fits = [fit_fold(learner, labels, fold, 0) for fold in folds]
    return plain_auroc(labels, assemble(fits, folds, len(labels)).prob)


@pytest.mark.slow
def test_every_canary_finds_nothing_where_nothing_leaks():
    aurocs: dict[str, list[float]] = {}
    for seed in range(4):
        noise = Table(("a", "b"), np.random.default_rng(100 + seed).normal(size=(N, 2)))
        given = data(seed, untrained=noise)
        folds = folds_of(given)
        found = canaries(given, folds, seed)
        assert not found.left_out
        for canary in found.present:
            value = cross_fitted(canary.learner, canary.labels, folds)
            aurocs.setdefault(canary.name, []).append(value)
    assert set(aurocs) == {
        "noise_by_text", "label_shuffle", "index", "length", "name_tfidf", "untrained"
    }  # fmt: skip
    # One of 800 answers in 400 groups has a standard deviation of 0.03, the mean of four 0.015.
    for name, values in aurocs.items():
        assert 0.45 < np.mean(values) < 0.55, (name, values)


def test_every_canary_that_sings_is_told_with_what_that_means():
    rng = np.random.default_rng(0)
    noise = Table(("a", "b"), rng.normal(size=(N, 2)))
    states = {"answer_last": rng.normal(size=(1, N, 4)).astype(np.float32)}
    given = data(prior=noise, untrained=noise)._replace(states=states, layers=(0,))
    names = [one.name for one in canaries(given, folds_of(given), 0).present]
    assert len(names) == len(SONGS)
    said = singing(dict.fromkeys(names, 0.7), dict.fromkeys(names, (0.6, 0.8)))
    assert len(said) == len(names)


def test_noise_by_text_is_a_perfect_score_under_a_split_with_repeated_texts_and_we_refuse_it():
    # The flaw of the earlier code, which scored 0.983: each text five times, dealt row by row.
    generator = np.random.default_rng(0)
    texts = [f"text {index}" for index in range(100)] * 5
    labels = np.tile(generator.integers(0, 2, 100), 5)
    by_row = generator.permutation(500) % 3
    inner = [generator.integers(0, 3, int((by_row != fold).sum())) for fold in range(3)]
    flawed = tuple(
        Fold(fold, np.flatnonzero(by_row != fold), np.flatnonzero(by_row == fold), inner[fold])
        for fold in range(3)
    )
    assert cross_fitted(Columns(noise_by_text(texts, 0), FOREST), labels, flawed) > 0.9
    with pytest.raises(DataError, match="the text 'text"):
        grouped_folds(labels, [str(row) for row in range(500)], texts, 3, 0)
    folds = nested_folds(grouped_folds(labels, texts, texts, 3, 0), labels, texts, 0)
    # 100 texts are the sample size now: 0.5 with a standard deviation of 0.058.
    assert 0.3 < cross_fitted(Columns(noise_by_text(texts, 0), FOREST), labels, folds) < 0.7


def test_an_index_that_gives_the_label_away_is_found():
    given = data()
    labels = np.sort(given.answers.labels)
    folds = folds_of(given)
    index = next(one for one in canaries(given, folds, 0).present if one.name == "index")
    assert cross_fitted(index.learner, labels, folds) > 0.95


def test_equal_texts_get_equal_noise_and_others_do_not():
    noise = noise_by_text(["a", "b", "a"], 0)
    np.testing.assert_array_equal(noise[0], noise[2])
    assert np.abs(noise[0] - noise[1]).min() > 0


def test_what_the_data_cannot_feed_is_named():
    found = canaries(data(), folds_of(data()), 0)
    assert "untrained" not in {one.name for one in found.present}
    assert found.left_out == {
        "untrained": "this data holds no statistics of a model without training"
    }
