from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.errors import ConfigError
from ghosttrack.models.changes import MASK, Change, ChangeKind
from ghosttrack.models.hooks import Changed, uniform
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from tests.models.conftest import model_config
from tests.support import tiny

# Two orders of the same float32 sums; numbers are of order 1 to 10.
ROUNDING = {"atol": 1e-5, "rtol": 1e-5}


def _tokens(n_rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 100, (n_rows, length), generator=torch.Generator().manual_seed(seed))


def _on(change: Change, marked: Tensor) -> Changed:
    return Changed(change, marked, torch.arange(len(marked)))


def _all(ids: Tensor) -> Tensor:
    return torch.ones_like(ids, dtype=torch.bool)


def test_residuals_are_the_hidden_states_except_the_last_which_has_the_norm_applied(lm: LM):
    ids = _tokens(3, 9)
    resid = lm.residuals(ids, _all(ids), [0, 1, 2])
    with torch.no_grad():
        hidden = lm.model(ids, output_hidden_states=True).hidden_states
        normed = lm.parts.norm(resid[2])
    torch.testing.assert_close(resid[0], hidden[1], **ROUNDING)
    torch.testing.assert_close(resid[1], hidden[2], **ROUNDING)
    torch.testing.assert_close(normed, hidden[3], **ROUNDING)
    assert not torch.allclose(resid[2], hidden[3], atol=1e-2)


def test_residuals_follow_the_order_of_the_layers_asked_for(gpt2: LM):
    ids = _tokens(2, 5)
    both = gpt2.residuals(ids, _all(ids), [2, 0])
    assert torch.equal(both[0], gpt2.residuals(ids, _all(ids), [2])[0])
    assert torch.equal(both[1], gpt2.residuals(ids, _all(ids), [0])[0])


def test_the_pass_ends_at_the_deepest_layer_and_never_reaches_the_head(lm: LM):
    ran: list[str] = []
    watched = {"block 1": lm.parts.blocks[1], "block 2": lm.parts.blocks[2]}
    watched |= {"norm": lm.parts.norm, "head": lm.parts.head}
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    ids = _tokens(2, 5)
    lm.residuals(ids, _all(ids), [0, 1])
    for hook in hooks:
        hook.remove()
    assert ran == ["block 1"]


def test_no_hook_stays_behind(gpt2: LM):
    ids = _tokens(2, 5)
    gpt2.residuals(ids, _all(ids), [0, 1])
    assert not any(block._forward_hooks for block in gpt2.parts.blocks)


def test_residuals_can_enter_a_graph_that_trains_something_else(gpt2: LM):
    ids = _tokens(2, 5)
    weight = torch.ones(gpt2.d_model, requires_grad=True)
    (gpt2.residuals(ids, _all(ids), [1]) * weight).sum().backward()
    assert weight.grad is not None


@settings(max_examples=4)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    left=st.integers(0, 4),
    right=st.integers(0, 4),
    pad=st.integers(0, 99),
)
def test_padding_on_either_side_changes_no_number(
    lm: LM, lengths: list[int], left: int, right: int, pad: int
):
    width = left + max(lengths) + right
    ids = torch.full((len(lengths), width), pad)
    mask = torch.zeros((len(lengths), width), dtype=torch.bool)
    rows = [_tokens(1, n, seed=i) for i, n in enumerate(lengths)]
    for i, row in enumerate(rows):
        start = left if i % 2 else width - right - lengths[i]
        ids[i, start : start + lengths[i]] = row[0]
        mask[i, start : start + lengths[i]] = True
    padded, logits = lm.residuals(ids, mask, [0, 2]), lm.logits(ids, mask)
    for i, row in enumerate(rows):
        alone = lm.residuals(row, _all(row), [0, 2])
        torch.testing.assert_close(padded[:, i, mask[i]], alone[:, 0], **ROUNDING)
        torch.testing.assert_close(logits[i, mask[i]], lm.logits(row, _all(row))[0], **ROUNDING)


def test_a_sliding_window_hides_what_lies_before_it(folders: dict[str, Path]):
    lm = load_lm(model_config(), folders["mistral"], "cpu")
    reach = lm.n_layers * (tiny.WINDOW - 1)
    ids, other = _tokens(1, reach + 3), _tokens(1, reach + 3)
    other[0, 0] = 0
    one, two = (lm.residuals(row, _all(row), [2])[0, 0] for row in (ids, other))
    assert torch.equal(one[reach + 1 :], two[reach + 1 :])
    assert not torch.allclose(one[reach], two[reach], atol=1e-4)


def test_logits_are_the_models_own(lm: LM):
    ids = _tokens(3, 9)
    with torch.no_grad():
        expected = lm.model(ids).logits
    torch.testing.assert_close(lm.logits(ids, _all(ids)), expected, **ROUNDING)


@pytest.mark.parametrize(("layer", "until"), [(0, None), (1, None), (2, None), (0, 1), (0, 0)])
def test_going_on_from_a_clean_stream_gives_that_of_the_block_asked_for(lm: LM, layer, until):
    ids = _tokens(3, 9)
    resid = lm.residuals(ids, _all(ids), [layer, 2 if until is None else until])
    found = lm.resume(resid[0], _all(ids), layer, until=until)
    torch.testing.assert_close(found, resid[1], **ROUNDING)


def test_going_on_from_another_stream_is_a_forward_pass_with_that_output_of_the_block(lm: LM):
    ids = _tokens(3, 9)
    other = torch.randn(3, 9, lm.d_model, generator=torch.Generator().manual_seed(1))

    def instead(_block, _inputs, output):
        return other if isinstance(output, Tensor) else (other, *output[1:])

    hook = lm.parts.blocks[1].register_forward_hook(instead)
    with torch.no_grad():
        expected = lm.model(ids).logits
    hook.remove()
    logits = lm.unembed(lm.resume(other, _all(ids), 1))
    torch.testing.assert_close(logits, expected, **ROUNDING)
    assert not torch.allclose(logits, lm.logits(ids, _all(ids)), atol=1e-2)


def test_going_on_needs_no_block_before_and_leaves_the_model_as_it_was(gpt2: LM):
    ids, ran = _tokens(2, 5), []
    before = gpt2.logits(ids, _all(ids))
    resid = gpt2.residuals(ids, _all(ids), [1])[0]
    hooks = [
        block.attn.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(gpt2.parts.blocks)
    ]
    gpt2.resume(resid, _all(ids), 1)  # the first of all asks a block for the form of its answer
    ran.clear()
    gpt2.resume(resid, _all(ids), 1)
    for hook in hooks:
        hook.remove()
    assert ran == [2]
    assert torch.equal(gpt2.logits(ids, _all(ids)), before)


def test_going_on_does_not_depend_on_padding_on_either_side(lm: LM):
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :3] = mask[1, 6:] = False
    resid = torch.randn(2, 9, lm.d_model, generator=torch.Generator().manual_seed(1))
    padded = lm.resume(resid, mask, 0)
    for row in range(2):
        alone = resid[row][mask[row]][None]
        expected = lm.resume(alone, torch.ones(1, 6, dtype=torch.bool), 0)[0]
        torch.testing.assert_close(padded[row][mask[row]], expected, **ROUNDING)


def test_going_on_works_where_blocks_answer_in_tuples(tmp_path: Path):
    ids = _tokens(2, 5)
    lm = load_lm(model_config(), tiny.tiny_bloom(tmp_path), "cpu")
    resid = lm.residuals(ids, _all(ids), [0, 2])
    torch.testing.assert_close(lm.resume(resid[0], _all(ids), 0), resid[1], **ROUNDING)


def test_the_lens_at_the_last_layer_is_the_models_logits(lm: LM):
    ids = _tokens(2, 6)
    resid = lm.residuals(ids, _all(ids), [2])[0]
    torch.testing.assert_close(lm.unembed(resid), lm.logits(ids, _all(ids)), **ROUNDING)


def test_direct_logit_attribution_gives_the_logit_differences_of_any_two_inputs(lm: LM):
    """The constant of a token drops out between inputs, so the whole identity is compared."""
    ids = _tokens(4, 6)
    resid, candidates = lm.residuals(ids, _all(ids), [2])[0], torch.tensor([3, 50, 99])
    attributed = resid @ lm.readout(candidates).T / lm.final_scale(resid)[..., None]
    constant = (lm.logits(ids, _all(ids))[..., candidates] - attributed).flatten(0, 1)
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), atol=1e-4, rtol=0)
    assert attributed.std() > 0.1


def test_a_mean_centring_norm_has_centred_readouts(lm: LM):
    is_layer_norm = "LayerNorm" in type(lm.parts.norm).__name__
    assert lm.norm.is_centred == is_layer_norm
    means = lm.readout(torch.arange(20)).mean(-1).abs().max()
    assert (means < 1e-6) == is_layer_norm


def test_masked_tokens_enter_as_the_mean_embedding(lm: LM):
    ids = _tokens(2, 6)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[0, 2:4] = True
    with torch.no_grad():
        embeds = lm.parts.embed(ids)
        embeds[0, 2:4] = lm.parts.embed(torch.arange(lm.d_vocab)).mean(0)
        hidden = lm.model(inputs_embeds=embeds, output_hidden_states=True).hidden_states
    resid = lm.residuals(ids, _all(ids), [1], change=_on(MASK, masked))
    torch.testing.assert_close(resid[0], hidden[2], **ROUNDING)


def test_what_a_masked_token_was_does_not_matter_on_padded_rows_either(gpt2: LM):
    ids, other = _tokens(2, 6), _tokens(2, 6)
    other[:, 3] = 7
    mask = _all(ids)
    mask[:, 0] = False
    masked = torch.zeros_like(mask)
    masked[:, 3] = True
    first = gpt2.residuals(ids, mask, [2], change=_on(MASK, masked))
    second = gpt2.residuals(other, mask, [2], change=_on(MASK, masked))
    assert torch.equal(first[:, mask], second[:, mask])
    assert not torch.allclose(first[:, mask], gpt2.residuals(ids, mask, [2])[:, mask])


def test_a_cache_gives_the_logits_of_the_whole_text(lm: LM):
    ids = _tokens(3, 8)
    cache = DynamicCache(config=lm.model.config)
    lm.advance(ids[:, :5], cache)
    lm.advance(ids[:, 5:6], cache)
    logits = lm.advance(ids[:, 6:], cache)
    torch.testing.assert_close(logits, lm.logits(ids, _all(ids))[:, -1], **ROUNDING)


def test_text_comes_back_from_its_tokens_after_the_prefix(gpt2: LM):
    ids = gpt2.encode("Who was born in Paris?")
    assert ids[:1] == gpt2.prefix_ids == [gpt2.tokenizer.eos_token_id]
    assert gpt2.encode("Who was born in Paris?", prefix=False) == ids[1:]
    texts = ["Who was born in Paris?", "", "Paris"]
    assert gpt2.encode_all(texts) == [gpt2.encode(text) for text in texts]
    assert gpt2.encode_all([]) == []
    assert gpt2.encode("<eos>Who was born in Paris?") == ids  # a chat template spells it
    assert gpt2.encode_all(["<eos>Paris"]) == [gpt2.encode("Paris")]
    assert gpt2.decode(ids[1:]) == "who was born in paris ?"


def test_no_prefix_where_it_is_not_asked_for_and_an_error_where_there_is_none(gpt2: LM):
    bare = LM(gpt2.model, gpt2.tokenizer, prepend_bos=False, identity={})
    assert bare.prefix_ids == []

    nameless = tiny.tiny_tokenizer()
    nameless.bos_token = nameless.eos_token = None
    with pytest.raises(ConfigError, match=r"model\.prepend_bos"):
        LM(gpt2.model, nameless, prepend_bos=True, identity={})


def test_too_many_tokens_for_the_context_are_refused_before_the_pass(gpt2: LM):
    ids = _tokens(1, gpt2.n_ctx + 1)
    with pytest.raises(AssertionError, match=f"context of {gpt2.n_ctx}"):
        gpt2.residuals(ids, _all(ids), [0])


def test_noise_touches_what_reads_the_marked_position_from_its_block_on(gpt2: LM):
    ids, layers = torch.tensor([[5, 6, 7, 8]] * 2), [0, 1, 2]
    marked = torch.tensor([[False, True, False, False], [False] * 4])
    noise = Change(ChangeKind.noise, layer=1, scale=0.5, seed=3)
    plain = gpt2.residuals(ids, _all(ids), layers)
    noisy = gpt2.residuals(ids, _all(ids), layers, change=_on(noise, marked))
    moved = (noisy - plain).abs().amax(-1) > 1e-4  # [layer batch pos]
    assert moved[:, 0].tolist() == [[False] * 4, [False, True] + [False] * 2, [False] + [True] * 3]
    assert not moved[:, 1].any()
    added = (noisy - plain)[1, 0, 1]
    ratio = added.square().mean().sqrt() / plain[1, 0, 1].square().mean().sqrt()
    assert 0.3 < float(ratio) < 0.7  # scale 0.5, of a draw of d_model numbers


def test_dropout_leaves_out_entries_of_what_a_block_adds(gpt2: LM):
    ids = torch.tensor([[5, 6, 7, 8]])
    drop = Change(ChangeKind.dropout, scale=0.25, seed=3)
    entered = gpt2.parts.embed(ids) + gpt2.parts.trunk.wpe(torch.arange(4))
    plain, dropped = (
        gpt2.residuals(ids, _all(ids), [0], change=change)[0]
        for change in (None, _on(drop, _all(ids)))
    )
    kept = (dropped - entered) / (plain - entered)
    is_left_out = kept.abs() < 1e-3
    torch.testing.assert_close(
        kept[~is_left_out], torch.full_like(kept[~is_left_out], 4 / 3), atol=1e-2, rtol=0
    )
    assert 0.15 < float(is_left_out.float().mean()) < 0.35
    again = gpt2.residuals(ids, _all(ids), [0], change=_on(drop, _all(ids)))[0]
    assert torch.equal(dropped, again)


def test_every_family_of_models_can_be_changed(lm: LM):
    ids = torch.tensor([[5, 6, 7]])
    for change in (Change(ChangeKind.noise, 0, 1.0), Change(ChangeKind.dropout, scale=0.5)):
        plain = lm.residuals(ids, _all(ids), [lm.n_layers - 1])
        changed = lm.residuals(ids, _all(ids), [lm.n_layers - 1], change=_on(change, _all(ids)))
        assert (plain - changed).abs().max() > 1e-3


def test_draws_are_uniform_and_hang_on_seed_layer_and_place_alone():
    seeds = torch.tensor([7, -(2**62)])
    whole = uniform(seeds, 3, 0, (2, 200, 64))
    assert 0 < float(whole.min()) < float(whole.max()) < 1
    counts = torch.histc(whole, 20, 0, 1)  # 1,280 of each, sd 35
    assert (counts - 1280).abs().max() < 150
    assert abs(torch.corrcoef(whole.flatten(1))[0, 1]) < 0.03  # sd .009
    assert abs(torch.corrcoef(torch.stack([whole[0, 1:], whole[0, :-1]]).flatten(1))[0, 1]) < 0.03
    assert torch.equal(uniform(seeds[1:], 3, 50, (1, 8, 64)), whole[1:, 50:58])
    assert not torch.equal(uniform(seeds, 2, 0, (2, 200, 64)), whole)


def test_attention_weights_add_up_and_leave_the_model_as_it_was(lm: LM):
    ids = _tokens(2, 9)
    before = lm.logits(ids, _all(ids))
    found = lm.attention(ids)
    assert 1 <= len(found) <= lm.n_layers
    for weights in found:
        assert weights.shape == (2, 4, 9, 9)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9), **ROUNDING)
        assert not weights.triu(1).any()
    torch.testing.assert_close(lm.logits(ids, _all(ids)), before, atol=0, rtol=0)
