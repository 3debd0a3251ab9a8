import math

import pytest
import torch

from ghosttrack.errors import DataError
from ghosttrack.models.generate import GenerateSettings, Generation, _choose, generate
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score

PROMPTS = [[1, 2, 3], [7, 8, 9, 10, 11], [4, 5, 6], [20], [9, 9, 30]]
SIX = GenerateSettings(max_new_tokens=6, stop=())


def _naive(lm: LM, prompt: list[int], n_tokens: int) -> list[int]:
    """Greedy decoding that reads the whole text again for every token."""
    ids = list(prompt)
    for _ in range(n_tokens):
        with torch.no_grad():
            ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token ends an answer."""
    monkeypatch.setattr("ghosttrack.models.generate._end_ids", lambda _: frozenset())


@pytest.mark.usefixtures("endless")
def test_greedy_answers_are_those_of_a_loop_without_cache(lm: LM):
    answers = generate(lm, PROMPTS, SIX)
    assert [answer.prompt for answer in answers] == [0, 1, 2, 3, 4]
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer.token_ids == _naive(lm, prompt, 6)
        assert not answer.ended
    assert generate(lm, [], SIX) == []


def test_the_numbers_of_a_greedy_answer_are_its_teacher_forced_scores(lm: LM):
    answers = generate(lm, PROMPTS, SIX)
    scores = score(lm, PROMPTS, [answer.token_ids for answer in answers])
    for answer, expected in zip(answers, scores, strict=True):
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=2e-5)
        assert answer.entropies == pytest.approx(expected.entropies, abs=2e-5)
        assert answer.max_probs == pytest.approx(expected.max_probs, abs=2e-5)
        assert answer.margins == pytest.approx(expected.margins, abs=2e-5)
        assert expected.argmax_agrees


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("n_shared", [0, 20])
def test_prompts_of_many_lengths_are_answered_as_alone(lm: LM, n_shared: int):
    head = list(range(40, 40 + n_shared))
    prompts = [[*head, *range(3, 5 + n % 9)] for n in range(18)]
    together = generate(lm, prompts, SIX)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = generate(lm, [prompt], SIX)
        assert found.token_ids == alone.token_ids
        assert found.logprobs == pytest.approx(alone.logprobs, abs=2e-5)


def test_prompts_of_many_lengths_share_passes_and_what_they_begin_with(gpt2: LM):
    assert gpt2.can_pad_shared
    assert gpt2.can_pad
    ran: list[tuple[int, ...]] = []
    hook = gpt2.parts.blocks[0].register_forward_pre_hook(lambda _, x: ran.append(x[0].shape[:2]))
    generate(gpt2, [[*range(40, 60), *range(1, 2 + n % 3)] for n in range(18)], SIX)
    hook.remove()
    assert ran[:2] == [(1, 20), (18, 3)]


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batch_size_changes_no_sampled_answer(gpt2: LM, batch_size: int):
    settings = SIX._replace(temperature=1.0, samples=3, seed=5)
    whole = generate(gpt2, PROMPTS, settings)
    parts = generate(gpt2, PROMPTS, settings._replace(batch_size=batch_size))
    assert [a.token_ids for a in whole] == [a.token_ids for a in parts]
    assert [(a.prompt, a.sample) for a in whole] == [(p, s) for p in range(5) for s in range(3)]


def test_samples_differ_from_one_another_and_between_seeds(gpt2: LM):
    settings = SIX._replace(temperature=1.0, samples=4)
    first = [tuple(a.token_ids) for a in generate(gpt2, PROMPTS, settings)]
    second = [tuple(a.token_ids) for a in generate(gpt2, PROMPTS, settings._replace(seed=1))]
    assert len(set(first)) > len(PROMPTS)
    assert first != second


def test_sampled_tokens_come_in_the_proportions_of_the_tempered_distribution():
    # At temperature 1/2 the odds 2 : 1 : 1 become 4 : 1 : 1, quantiles 2/3 and 5/6.
    logits = torch.tensor([2.0, 1.0, 1.0]).log().expand(6, 3)
    chance = torch.tensor([0.0, 0.66, 0.67, 0.83, 0.84, 1 - 2**-53], dtype=torch.float64)
    assert _choose(logits, chance, 0.5).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_token_of_no_probability_is_never_sampled():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(3, 5)
    chance = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert _choose(logits, chance, 1.0).tolist() == [1, 3, 3]


def _first_change(lm: LM) -> tuple[Generation, int, str]:
    """Return a greedy answer and where a word that was not in it before first comes."""
    for answer in generate(lm, PROMPTS, SIX):
        words = [lm.decode([token]) for token in answer.token_ids]
        for n, word in enumerate(words):
            if n and word.isalpha() and not any(word in w for w in words[:n]):
                return answer, n, word
    raise AssertionError("the tiny model repeats one word everywhere")


@pytest.mark.usefixtures("endless")
def test_an_answer_ends_before_the_text_that_stops_it(gpt2: LM):
    whole, n_before, stop = _first_change(gpt2)
    cut = generate(gpt2, PROMPTS, SIX._replace(stop=(stop, "never said")))[whole.prompt]
    assert cut.ended
    assert cut.token_ids == whole.token_ids[:n_before]
    assert cut.text == gpt2.decode(cut.token_ids)
    assert cut.logprobs == pytest.approx(whole.logprobs[:n_before], abs=1e-5)
    assert len(cut.entropies) == len(cut.max_probs) == len(cut.margins) == n_before


@pytest.mark.usefixtures("endless")
def test_a_stop_that_two_tokens_spell_takes_both_out(gpt2: LM):
    whole, n, _ = _first_change(gpt2)
    stop = gpt2.decode(whole.token_ids[n - 1 : n + 1])
    cut = generate(gpt2, PROMPTS, SIX._replace(stop=(stop,)))[whole.prompt]
    assert stop not in cut.text
    assert len(cut.token_ids) <= n - 1


def test_eos_ends_an_answer_and_is_no_part_of_it(gpt2: LM, monkeypatch):
    whole, n_before, _ = _first_change(gpt2)
    end = whole.token_ids[n_before]
    monkeypatch.setattr(gpt2.model.generation_config, "eos_token_id", [end, 0])
    answers = generate(gpt2, PROMPTS, SIX)
    assert answers[whole.prompt].token_ids == whole.token_ids[:n_before]
    assert answers[whole.prompt].ended
    assert all(end not in answer.token_ids for answer in answers)


def test_a_model_that_stops_at_once_gives_an_empty_answer(gpt2: LM, monkeypatch):
    first = _naive(gpt2, PROMPTS[0], 1)
    monkeypatch.setattr(gpt2.model.generation_config, "eos_token_id", first)
    answer = generate(gpt2, PROMPTS[:1], SIX)[0]
    assert answer == Generation(0, 0, "", [], [], [], [], [], ended=True)


def test_a_prompt_that_leaves_no_room_is_named(gpt2: LM):
    with pytest.raises(DataError, match=r"60 tokens and 6 new ones.*context of 64"):
        generate(gpt2, [[1] * 60], SIX)
