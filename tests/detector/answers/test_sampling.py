"""Agreement of samples by hand, and what must not change it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.detector.answers.sampling import SAMPLING_SCORES, sampling_table
from ghosttrack.questions.ready_answers import ReadyAnswer

TEXTS = (
    "The capital is Rome.",
    "It is Rome, a large city.",
    "The capital is Oslo.",
    "I do not know.",
    "",
    "Rome was founded in 753. Paris came later.",
)


def asked(response: str, *samples: str, question: str = "What is the capital?") -> ReadyAnswer:
    return ReadyAnswer(question, response, ("Rome",), 0, samples, (), "g")


def scores(response: str, *samples: str, **more: str) -> dict[str, float]:
    table = sampling_table([asked(response, *samples, **more)])
    names = (name.removeprefix("sample_") for name in table.names)
    return dict(zip(names, table.values[0].tolist(), strict=True))


def test_scores_of_two_samples_by_hand():
    # Key words: {rome}, {rome, large, city}, {oslo}; named words: {rome}, {rome}, {oslo}.
    found = scores(*TEXTS[:3])
    assert found == pytest.approx(
        {
            "overlap": (2 / 8 + 3 / 5) / 2,  # {is, rome} of 8; {the, capital, is} of 5
            "pair_overlap": 1 / 9,  # {is}
            "rouge": (2 * 2 / 10 + 2 * 3 / 8) / 2,
            "named_overlap": 1 / 2,
            "named_support": 1 / 2,
            "named_commonest": 1 / 2,
            "number_support": float("nan"),
            "key_overlap": (1 / 3 + 0) / 2,
            "key_pair_overlap": 0.0,
            "key_support": 1 / 2,
            "key_support_max": 1 / 2,
            "key_support_min": 1 / 2,
            "key_whole": 1 / 2,
            "key_back": (1 / 3 + 0) / 2,
            "key_pairs": (1 + 1 / 3) / 6,
            "key_commonest": 1 / 2,
            "same": 1 / 2,  # all of {rome} stands in the first sample
            "semantic_entropy": -(2 * np.log(2 / 3) + np.log(1 / 3)) / 3,
            "kernel_entropy": found["kernel_entropy"],
            "exact_entropy": np.log(3),
            "denials": 0.0,
            "length_spread": 1 / 5,  # 6 and 4 words
        },
        nan_ok=True,
    )
    # Jaccard 1/3 between the first two: eigenvalues (1 +- 1/3) / 3 and 1/3.
    weights = np.array([4 / 9, 2 / 9, 1 / 3])
    assert found["kernel_entropy"] == pytest.approx(-(weights * np.log(weights)).sum())


def test_samples_that_repeat_the_response_agree_in_everything():
    found = scores(*[TEXTS[0]] * 5)
    for score in SAMPLING_SCORES:
        name = score.spec.name.removeprefix("sample_")
        if name == "number_support":
            continue
        best = 0.0 if score.spec.direction > 0 else 1.0
        assert found[name] == pytest.approx(best, abs=1e-9), name


def test_scores_move_in_their_expected_direction_when_samples_disagree():
    whole = scores("It is Rome 753.", "It is Rome 753.", "It is Rome 753.")
    torn = scores("It is Rome 753.", "Perhaps it is Oslo 1048.", "No, Paris or Milan or Bern.")
    for score in SAMPLING_SCORES:
        name = score.spec.name.removeprefix("sample_")
        assert (torn[name] - whole[name]) * score.spec.direction > 0, name


@given(st.permutations(TEXTS), st.randoms())
def test_the_samples_may_come_in_any_order(texts, random):
    response, *samples = texts
    turned = samples.copy()
    random.shuffle(turned)
    assert scores(response, *turned) == pytest.approx(scores(response, *samples), nan_ok=True)


@given(st.lists(st.sampled_from(TEXTS), min_size=2, max_size=7))
def test_scores_stay_in_their_stated_range(texts):
    found = scores(*texts)
    for score in SAMPLING_SCORES:
        value = found[score.spec.name.removeprefix("sample_")]
        assert np.isnan(value) or score.spec.low <= value <= score.spec.high + 1e-9, score.spec.name


def test_case_punctuation_and_diacritics_are_no_disagreement():
    assert scores("It is SÃO Paulo!", "it is Sao Paulo")["exact_entropy"] == 0


def test_words_of_the_question_are_no_agreement():
    said = ("The river Po.", "The river Rhine.")
    assert scores(*said, question="Which river is it?")["key_overlap"] == 0
    assert scores(*said, question="What is it?")["key_overlap"] == pytest.approx(1 / 3)


def test_semantic_entropy_is_that_of_clusters_where_there_are_some():
    found = scores("Rome.", "Rome it is.", "Oslo.", "Oslo.", "Bern.")
    sizes = np.array([2, 2, 1]) / 5
    assert found["semantic_entropy"] == pytest.approx(-(sizes * np.log(sizes)).sum())
    assert found["same"] == pytest.approx(1 / 4)


def test_labels_references_and_other_answers_enter_no_number():
    one, other = asked(*TEXTS[:3]), asked(*TEXTS[3:])
    changed = one._replace(label=1, references=("Oslo",), group="h", logprobs=(-1.0,))
    both = sampling_table([one, other]).values
    np.testing.assert_array_equal(sampling_table([other, changed]).values[::-1], both)


def test_an_answer_without_samples_has_no_scores():
    table = sampling_table([asked("Rome."), asked("Rome.", "Rome.")])
    assert np.isnan(table.values[0]).all()
    assert np.isfinite(table.values[1]).any()


def test_another_process_gets_the_same_bits():
    words = "rome oslo bern paris cairo lima quito delhi tunis dakar"
    samples = tuple(" ".join(words.split()[: 2 * n]) for n in (1, 2, 2, 3, 4, 5, 5))
    row = asked(words.title(), *samples)
    program = (
        "from ghosttrack.detector.answers.sampling import sampling_table\n"
        "from ghosttrack.questions.ready_answers import ReadyAnswer\n"
        f"print(sampling_table([{row!r}]).values.tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1"},  # words stand in sets in another order
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.strip() == sampling_table([row]).values.tobytes().hex()
