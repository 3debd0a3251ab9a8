import numpy as np
import pytest
import torch

from ghosttrack.models import readings
from ghosttrack.models.changes import MASK
from ghosttrack.models.hooks import Changed
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import (
    N_CANDIDATES,
    STATES,
    How,
    Readings,
    find_subject,
    last_residuals,
    masked_last,
    n_to_read,
    read,
    read_states,
)
from tests.detector.scenes import tiny_lm

PROMPTS = ("anna was born in", "where was carla born ?", "bert lives in the city of", "david")
SUBJECTS = ("anna", "carla", "", "greta")
ANSWERS = ((20,), (31, 4), (), (0,))


@pytest.fixture(scope="module", params=["gpt2_folder", "llama_folder"])
def lm(request) -> LM:
    return tiny_lm(request.getfixturevalue(request.param))


def read_all(lm: LM, layers=(0, 2)) -> Readings:
    return read(lm, [lm.encode(text) for text in PROMPTS], ANSWERS, SUBJECTS, layers)


def alone(lm: LM, text: str) -> torch.Tensor:
    ids = torch.tensor([lm.encode(text)])
    return lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), range(lm.n_layers))[:, 0, -1]


def test_each_row_is_what_its_prompt_gives_alone(lm):
    found = read_all(lm)
    np.testing.assert_allclose(found.depths, [1 / 3, 1])
    for row, text in enumerate(PROMPTS):
        stack = alone(lm, text)
        np.testing.assert_allclose(found.residuals[:, row], stack[[0, 2]], atol=1e-5)
        logits = lm.unembed(stack)
        logprobs = logits.log_softmax(-1)
        token = ANSWERS[row][0] if ANSWERS[row] else int(logits[-1].argmax())
        assert found.emitted[row] == token
        np.testing.assert_allclose(found.lens.logprobs[row], logprobs[:, token], atol=1e-5)
        ranks = (logits > logits[:, [token]]).sum(-1)
        np.testing.assert_array_equal(found.lens.ranks[row], ranks)
        np.testing.assert_array_equal(found.lens.top1[row], logits.argmax(-1))
        two = logprobs.topk(2).values
        np.testing.assert_allclose(found.lens.margins[row], two[:, 0] - two[:, 1], atol=1e-5)
        kl = (logprobs[-1].exp() * (logprobs[-1] - logprobs)).sum(-1)
        np.testing.assert_allclose(found.lens.kl[row], kl, atol=1e-5)
        np.testing.assert_allclose(found.lens.best[row], logprobs.amax(-1), atol=1e-5)


def test_the_emitted_token_is_always_a_candidate(lm):
    found = read_all(lm)
    assert found.candidates.shape == (len(PROMPTS), N_CANDIDATES)
    assert (found.candidates == found.emitted[:, None]).sum(axis=1).tolist() == [1] * len(PROMPTS)


def test_offset_and_readout_add_up_to_the_final_logit(lm):
    found = read_all(lm)
    readouts = lm.readout(torch.from_numpy(found.candidates)).numpy()
    direct = np.einsum("nmd,nd->nm", readouts, found.residuals[-1]) / found.scales[:, None]
    logits = np.stack([lm.unembed(alone(lm, text)[-1]).numpy() for text in PROMPTS])
    wanted = np.take_along_axis(logits, found.candidates, axis=1)
    np.testing.assert_allclose(direct + found.offsets, wanted, atol=1e-4)
    # No residual stream changes the offset: the same token has the same one everywhere.
    for token in np.unique(found.candidates):
        assert np.ptp(found.offsets[found.candidates == token]) < 1e-4


def test_only_prompts_that_hold_their_subject_are_masked(lm):
    found = read_all(lm)
    has_subject = np.isfinite(found.masked).all(axis=(0, 2))
    assert has_subject.tolist() == [True, True, False, False]  # "" and a name that is not there
    ids = torch.tensor([lm.encode(PROMPTS[0])])
    there = torch.tensor([[False, True, False, False, False]])  # prefix, anna, was, born, in
    mask = torch.ones_like(there)
    wanted = lm.residuals(ids, mask, (0, 2), change=Changed(MASK, there, ids[:, 0]))[:, 0, -1]
    np.testing.assert_allclose(found.masked[:, 0], wanted, atol=1e-5)
    assert np.abs(found.masked[:, 0] - found.residuals[:, 0]).max() > 1e-3


def test_blocks_change_no_number(lm, monkeypatch):
    whole = read_all(lm)
    monkeypatch.setattr(readings, "BLOCK_FLOATS", 1)
    for one, other in zip(_arrays(whole), _arrays(read_all(lm)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def _arrays(found: Readings) -> list[np.ndarray]:
    return [*found.lens, *(value for value in found if isinstance(value, np.ndarray))]


def test_beginnings_of_a_text_are_read_off_its_pass(lm):
    texts = ["where was anna", "where was anna born", "where was anna born ?"]
    ran: list[tuple[int, ...]] = []
    hook = lm.parts.blocks[0].register_forward_pre_hook(lambda _, x: ran.append(x[0].shape[:2]))
    ids = [lm.encode(text) for text in texts]
    found = read(lm, ids, [()] * 3, ["anna"] * 3, (0, 2), How(lens=False))
    hook.remove()
    assert ran == [(1, len(ids[2]))] * 2  # as it stands, and without anna
    assert found.lens is None
    assert n_to_read(lm, ids, ["anna"] * 3) == 2 * len(ids[2])
    done: list[int] = []
    last_residuals(lm, ids, [1], done.append)
    assert n_to_read(lm, ids) == sum(done) == len(ids[2])
    for row in range(3):
        one = read(lm, [ids[row]], [()], ["anna"], (0, 2))
        np.testing.assert_allclose(found.residuals[:, row], one.residuals[:, 0], atol=1e-5)
        np.testing.assert_allclose(found.masked[:, row], one.masked[:, 0], atol=1e-5)
        np.testing.assert_array_equal(found.candidates[row], one.candidates[0])


def test_every_occurrence_of_a_name_of_several_tokens_is_found(lm):
    prompt = lm.encode("anna green and anna green but green anna")
    marked = find_subject(lm, prompt, "anna green")
    assert np.flatnonzero(marked).tolist() == [1, 2, 4, 5]


def test_a_name_whose_end_shares_a_token_with_a_question_mark_is_found(lm, monkeypatch):
    pieces = ("where", " is", " Os", "lo?", " not", " Oslos")
    monkeypatch.setattr(LM, "encode", lambda *_, **__: [9])
    monkeypatch.setattr(LM, "decode", lambda _, ids: "".join(pieces[one] for one in ids))
    assert np.flatnonzero(find_subject(lm, range(6), "Oslo")).tolist() == [2, 3]


def test_states_and_lens_of_one_pass_are_those_of_prompt_and_answer_alone(lm):
    prompts = [lm.encode(text) for text in PROMPTS]
    said = ((20,), (31, 4), (7, 9, 11), (5, 6))
    read_tokens: list[int] = []
    at = [len(prompt) - 1 for prompt in prompts]
    found = read_states(lm, prompts, said, (0, 2), at, read_tokens.append)
    assert sum(read_tokens) == sum(map(len, (*prompts, *said)))
    assert found.lens is not None
    for row, (prompt, answer) in enumerate(zip(prompts, said, strict=True)):
        ids = torch.tensor([[*prompt, *answer]])
        stack = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), (0, 2))[:, 0]
        own = stack[:, len(prompt) :]
        for name, wanted in zip(
            STATES, (stack[:, len(prompt) - 1], own.mean(1), own[:, -1]), strict=True
        ):
            np.testing.assert_allclose(found.streams[name][:, row], wanted, atol=1e-5)
    whole = read(lm, prompts, said, [""] * len(prompts), (0, 2))
    for name, held in found.lens._asdict().items():
        np.testing.assert_allclose(held, getattr(whole.lens, name), atol=1e-4)
    assert read_states(lm, prompts, said, (1,)).lens is None


def test_answers_of_mixed_lengths_share_a_pass_and_its_beginning(lm):
    head = "where was anna born ? in the house of david . " * 3
    prompts = [[*lm.encode(head), 10 + row, *[5] * (row % 3)] for row in range(12)]
    said = [tuple(range(7, 8 + row % 2)) for row in range(len(prompts))]
    ran: list[torch.Size] = []
    hook = lm.parts.blocks[0].register_forward_pre_hook(lambda _, x: ran.append(x[0].shape[:2]))
    assert lm.can_share
    ran.clear()
    at = [len(prompt) - 1 for prompt in prompts]
    found = read_states(lm, prompts, said, (0, 2), at)
    hook.remove()
    (one, n_shared), (n_rows, n_pos) = ran
    assert (one, n_rows) == (1, len(prompts))
    assert n_shared + n_pos == max(map(len, prompts)) + 2
    for row, (prompt, answer) in enumerate(zip(prompts, said, strict=True)):
        alone = read_states(lm, [prompt], [answer], (0, 2), [len(prompt) - 1])
        for name in STATES:
            held, wanted = found.streams[name][:, row], alone.streams[name][:, 0]
            np.testing.assert_allclose(held, wanted, atol=1e-5)
        assert found.lens is not None
        assert alone.lens is not None
        np.testing.assert_allclose(found.lens.kl[row], alone.lens.kl[0], atol=1e-5)


def test_the_lens_goes_through_logits_in_pieces_with_equal_numbers(lm, monkeypatch):
    ids = lm.encode("where was anna born ?")
    stack = lm.residuals(torch.tensor([ids]), torch.ones(1, len(ids)) > 0, (0, 1, 2))[:, 0]
    whole = readings.read_lens(lm, stack, torch.tensor(ids))
    monkeypatch.setattr(readings, "CACHE_FLOATS", 2 * lm.d_vocab)
    for held, wanted in zip(readings.read_lens(lm, stack, torch.tensor(ids)), whole, strict=True):
        np.testing.assert_array_equal(held, wanted)


def test_of_a_masked_answer_nothing_is_known_but_its_length(lm):
    prompts = [lm.encode(text) for text in PROMPTS]
    said, other = ((20,), (31, 4), (7, 9, 11), (5, 6)), ((3,), (4, 4), (12, 8, 1), (9, 30))
    one, two = (masked_last(lm, prompts, told, (0, 2)) for told in (said, other))
    np.testing.assert_allclose(one, two, atol=1e-5)
    ids = torch.tensor([[*prompts[2], *said[2]]])
    there = torch.arange(ids.shape[1])[None] >= len(prompts[2])
    changed = Changed(MASK, there, ids[:, 0])
    wanted = lm.residuals(ids, torch.ones_like(there), (0, 2), change=changed)
    np.testing.assert_allclose(one[:, 2], wanted[:, 0, -1], atol=1e-5)


def test_states_keep_what_is_beyond_the_range_of_half_precision(lm, monkeypatch):
    streams = LM.residuals
    monkeypatch.setattr(LM, "residuals", lambda *given, **also: 1e6 * streams(*given, **also))
    found = read_states(lm, [lm.encode("david")], [(3,)], (0,))
    assert np.isfinite(found.streams["prompt_last"]).all()
    assert np.abs(found.streams["prompt_last"]).max() > 65504
