from dataclasses import dataclass, replace

import numpy as np
import pytest
from joblib import Parallel

from ghosttrack.detector.learners.classifiers import FOREST, LINEAR, Columns
from ghosttrack.detector.learners.ridge import inner_products
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import resample
from ghosttrack.evaluation.canaries import (
    KINDS,
    SIGNALS,
    Canary,
    CanaryDesign,
    CanaryVerdict,
    canaries,
    judge,
    kind,
    noise_by_text,
    through_detectors,
)
from ghosttrack.evaluation.crossfit import assemble, fit_fold
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.fitting import Fits, in_turn
from ghosttrack.evaluation.roster import find
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.spec import PLACES
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
        given = data(seed, untrained=noise, untrained_again=Table(noise.names, -noise.values))
        folds = folds_of(given)
        found = canaries(given, folds, seed)
        assert not found.left_out
        for canary in found.present:
            value = cross_fitted(canary.learner, canary.labels, folds)
            aurocs.setdefault(canary.name, []).append(value)
    assert set(aurocs) == {
        "noise_by_text", "label_shuffle", "index", "length", "name_tfidf", "untrained",
        "shuffled_names", "untrained_again",
    }  # fmt: skip
    # One of 800 answers in 400 groups has a standard deviation of 0.03, the mean of four 0.015.
    for name, values in aurocs.items():
        assert 0.45 < np.mean(values) < 0.55, (name, values)


def with_states(given: EvaluationData, moved: np.ndarray) -> EvaluationData:
    """Streams of noise, and `moved` in one dimension of the second layer at one place."""
    rng = np.random.default_rng(0)
    states = {place: rng.normal(size=(2, N, 4)).astype(np.float32) for place in PLACES}
    states["answer_mean"][1, :, 0] += moved
    grams = {place: inner_products(held) for place, held in states.items()}
    return given._replace(states=states, grams=grams, layers=(0, 1))


def test_every_canary_that_sings_is_told_with_what_that_means():
    noise = Table(("a", "b"), np.random.default_rng(0).normal(size=(N, 2)))
    given = data(prior=noise, reverse=noise, untrained=noise, untrained_again=noise)
    given = with_states(given, np.zeros(N))
    names = [one.name for one in canaries(given, folds_of(given), 0).present]
    assert {*names} == {*KINDS}


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
        "untrained": "this data holds no statistics of a model without training",
        "untrained_again": "this data holds no interventions of a model without training",
    }


def design(
    given: EvaluationData, folds: tuple[Fold, ...], *, is_real: bool = False
) -> CanaryDesign:
    strata = np.empty(len(given.answers), dtype=np.int64)
    for fold in folds:
        strata[fold.test] = fold.number
    return CanaryDesign(strata, resample(given.answers.groups, 200, 0), 10, is_real)


def heard(given: EvaluationData, name: str, folds=None, *, is_real: bool = False) -> CanaryVerdict:
    folds = folds or folds_of(given)
    canary = next(one for one in canaries(given, folds, 0).present if one.name == name)
    fits = [fit_fold(canary.learner, canary.labels, fold, 0) for fold in folds]
    prob = assemble(fits, folds, len(given.answers)).prob
    return judge(canary, prob, design(given, folds, is_real=is_real))


def leaky(name: str) -> EvaluationData:
    """Answers whose labels can be read off what this canary looks at."""
    given = data()
    answers, labels = given.answers, given.answers.labels
    noise = np.random.default_rng(0).normal(size=N)
    if name in ("untrained", "untrained_again"):
        values = np.where(np.arange(N) % 2, labels + noise, np.nan)  # not all are asked again
        return data(**{name: Table(("a",), values[:, None])})
    if name.endswith("_of_another"):
        told = np.empty(N)
        told[np.random.default_rng(0).permutation(N)] = labels  # whose other answer it is
        if name == "states_of_another":
            return with_states(given, 2 * told)
        return data(prior=Table(("a",), (told + noise)[:, None]))
    if name == "index":
        return given._replace(answers=answers.take(np.argsort(labels + 0.5 * noise)))
    long = (labels + 0.5 * noise > 0.5).tolist()
    field, values = {
        "length": ("prompts", answers.prompts),
        "name_tfidf": ("subjects", answers.subjects),
        "own length": ("texts", answers.texts),
    }[name]
    said = [f"zz{text}" if one else text for text, one in zip(values, long, strict=True)]
    return given._replace(answers=replace(answers, **{field: tuple(said)}))


@pytest.mark.parametrize(
    "name",
    [
        *("index", "length", "name_tfidf", "untrained", "untrained_again"),
        *("prior_of_another", "states_of_another"),
    ],
)
def test_a_canary_sings_where_its_family_leaks_and_not_where_it_does_not(name: str):
    found = heard(leaky(name), name)
    assert found.sings
    assert found.auroc > found.ci.low > 0.5
    assert kind(name) == KINDS[name]
    if name in SIGNALS:
        assert heard(leaky(name), name, is_real=True)[2:] == (False, True)
    if name not in ("untrained", "untrained_again"):
        dumb = with_states(data(prior=Table(("a",), (np.arange(N) % 7.0)[:, None])), np.zeros(N))
        assert heard(dumb, name)[2:] == (False, False)


def test_the_length_of_an_answer_of_ones_own_is_a_signal_and_no_leak():
    assert heard(leaky("own length"), "length")[2:] == (False, True)


def test_groups_on_both_sides_of_a_split_are_found_by_shuffled_names():
    given = data()
    answers = given.answers
    by_group = np.random.default_rng(0).integers(0, 2, 400)
    _, group_of = np.unique(answers.groups, return_inverse=True)
    given = given._replace(answers=replace(answers, labels=by_group[group_of]))
    dealt = np.random.default_rng(1).integers(0, 3, N)
    rows = [np.flatnonzero(dealt != fold) for fold in range(3)]
    by_row = tuple(
        Fold(fold, train, np.flatnonzero(dealt == fold), np.arange(len(train)) % 3)
        for fold, train in enumerate(rows)
    )
    assert heard(given, "shuffled_names", by_row).sings
    assert not heard(given, "shuffled_names").sings


@dataclass(frozen=True)
class Peeking(Columns):
    """Looks at the labels that it is to predict."""

    def fit_predict(self, option, labels, train, test, seed):
        return labels[test] + super().fit_predict(option, labels, train, test, seed)


def who_sings(peeks: str, leader: str) -> dict[str, bool]:
    """Let one of these detectors look at the labels that it is to predict."""
    tables = {
        one: Table(("a", "b"), np.random.default_rng(at).normal(size=(N, 2)))
        for at, one in enumerate(("tracks", "prior"))
    }
    given = data(**tables)
    folds = folds_of(given)
    alone = ("output", *tables, "output_shrunk")
    specs = [
        find("output_best"),
        *(
            find(name)._replace(
                learner=lambda x, kind=Peeking if name == peeks else Columns: kind(
                    x.values, LINEAR[1:]
                )
            )
            for name in alone
        ),
        *map(find, ("prior+output", "recommended")),
    ]
    fits = Fits(given, folds)
    shuffled = np.random.default_rng(5).permutation(given.answers.labels)
    shuffle = Canary("label_shuffle", Columns(np.zeros((N, 1)), LINEAR), shuffled)
    with Parallel(n_jobs=1) as parallel:
        for now in in_turn(specs[:-1]):
            fits.run(parallel, fits.jobs(now), 0)
        fits.recommend(specs[-1], specs)
        learned = through_detectors(fits, specs, shuffle, leader, parallel, 0)
    found = {one.name: judge(one, prob, design(given, folds)).sings for one, prob in learned}
    assert {kind(name) for name in found} == {KINDS["label_shuffle"]}
    return {name.removeprefix("label_shuffle:"): sings for name, sings in found.items()}


@pytest.mark.parametrize("name", ["tracks", "output_shrunk"])
def test_a_detector_that_looks_at_held_out_labels_finds_shuffled_ones(name: str):
    found = who_sings(name, leader="output_shrunk")
    assert len(found) == 4
    assert [one for one, sings in found.items() if sings] == [name]


@pytest.mark.parametrize("leader", ["prior+output", "recommended"])
def test_what_leads_learns_shuffled_labels_through_its_parts(leader: str):
    assert who_sings("prior", leader) == {
        "output": False, "tracks": False, "prior": True, leader: True
    }  # fmt: skip
