import numpy as np

from ghosttrack.detector.learners.classifiers import LINEAR, Columns, TokenClassifier

LENGTHS = np.random.default_rng(0).integers(1, 5, size=80)
ANSWER = np.repeat(np.arange(80), LENGTHS)
PLACE = np.arange(len(ANSWER)) - np.searchsorted(ANSWER, ANSWER)
LABELS = np.arange(80) % 2
TRAIN, TEST = np.arange(50), np.arange(79, 49, -1)
"""Not in order: rows of answers may be asked for in any."""


def values(seed: int = 0) -> np.ndarray:
    """Tokens that tell more the later they stand."""
    noise = np.random.default_rng(seed).normal(size=(len(ANSWER), 2))
    return noise + (PLACE + 1.0)[:, None] * LABELS[ANSWER, None]


def scores(held: np.ndarray, n_tokens: int, labels: np.ndarray = LABELS) -> np.ndarray:
    learner = TokenClassifier(Columns(held, LINEAR), ANSWER, n_tokens)
    return learner.fit_predict(LINEAR[1], labels, TRAIN, TEST, 0)


def test_an_answer_is_as_risky_as_the_last_token_that_is_there():
    known = Columns(values(), LINEAR)
    rows = np.flatnonzero(np.isin(ANSWER, TRAIN))
    every = known.fit_predict(LINEAR[1], LABELS[ANSWER], rows, np.arange(len(ANSWER)), 0)
    for n_tokens in (1, 2, 9):
        wanted = [
            every[(answer == ANSWER) & (min(n_tokens, LENGTHS[answer]) - 1 == PLACE)][0]
            for answer in TEST
        ]
        np.testing.assert_allclose(scores(values(), n_tokens), wanted)


def test_tokens_that_are_not_there_yet_change_no_risk():
    later = values()
    asked = np.isin(ANSWER, TEST)
    later[asked & (PLACE >= 2)] += 100
    for n_tokens in (1, 2):
        np.testing.assert_array_equal(scores(values(), n_tokens), scores(later, n_tokens))
    assert not np.allclose(scores(values(), 3), scores(later, 3))


def test_no_token_of_an_answer_that_is_asked_about_is_learned_from():
    changed = values()
    changed[np.isin(ANSWER, TEST) & (PLACE > 0)] *= -50
    turned = np.where(np.isin(np.arange(80), TEST), 1 - LABELS, LABELS)
    np.testing.assert_array_equal(scores(values(), 1), scores(changed, 1, turned))
