import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ghosttrack.errors import DataError
from ghosttrack.sae.bank import Acts, Bank
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.evaluate import evaluate
from tests.sae.support import activations, small_bank


@given(st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=20)
def test_at_most_k_latents_fire_and_none_below_zero(k, seed):
    acts = small_bank(seed, k=k).encode(activations(30, seed=seed))
    assert acts.values.shape == acts.indices.shape == (2, 30, k)
    assert (acts.values >= 0).all()


def test_encode_and_decode_follow_the_equations_in_raw_units():
    bank, x = small_bank(), activations(40)
    scale = bank.scale[:, None, None]
    pre = (x * scale - bank.b_dec[:, None]) @ bank.W_enc + bank.b_enc[:, None]
    top = pre.relu().topk(4, dim=-1)
    dense = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    x_hat = (dense @ bank.W_dec + bank.b_dec[:, None]) / scale
    torch.testing.assert_close(bank(x), x_hat, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bank.pre_acts(x), pre / scale, rtol=1e-5, atol=1e-5)
    weights, biases = map(torch.from_numpy, bank.encoders())
    torch.testing.assert_close(x @ weights + biases[:, None], pre / scale, rtol=1e-5, atol=1e-5)
    values = bank.encode(x).values.sort(-1, descending=True).values
    torch.testing.assert_close(values, top.values / scale, rtol=1e-5, atol=1e-5)


def test_decode_is_linear_in_the_values():
    bank = small_bank()
    acts = bank.encode(activations(10))
    bias = bank.decode(Acts(torch.zeros_like(acts.values), acts.indices))
    once, thrice = (bank.decode(Acts(n * acts.values, acts.indices)) - bias for n in (1, 3))
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-4, atol=1e-4)


def test_permuting_latents_permutes_activations_and_keeps_the_reconstruction():
    bank, x = small_bank(), activations(20)
    order = torch.randperm(64)
    other = small_bank()
    with torch.no_grad():
        other.W_enc.copy_(bank.W_enc[..., order])
        other.b_enc.copy_(bank.b_enc[:, order])
        other.W_dec.copy_(bank.W_dec[:, order])
    torch.testing.assert_close(other(x), bank(x), rtol=1e-4, atol=1e-4)
    before, after = bank.encode(x), other.encode(x)
    live = (before.values > 0).flatten()
    assert torch.equal(
        before.indices.sort(-1).values.flatten()[live],
        order[after.indices].sort(-1).values.flatten()[live],
    )


def test_observe_ranks_more_latents_than_k_in_units_that_scaling_the_stream_leaves_alone():
    bank, x = small_bank(), activations(20)
    seen = bank.observe(x, 10)
    assert seen.values.shape == (2, 20, 10)
    pre = bank.pre_acts(x) * bank.scale[:, None, None]
    expected = pre.topk(10).values.relu()
    torch.testing.assert_close(
        seen.values.sort(-1, descending=True).values, expected, rtol=1e-5, atol=1e-5
    )
    bank.scale /= 8
    torch.testing.assert_close(bank.observe(8 * x, 10).values, seen.values, rtol=1e-5, atol=1e-5)


def test_observe_gives_every_latent_when_asked_for_more_than_there_are():
    assert small_bank().observe(activations(3), 500).values.shape == (2, 3, 64)


@pytest.mark.parametrize("architecture", Architecture)
def test_a_saved_bank_comes_back_with_the_same_reconstruction(tmp_path, architecture):
    bank, x = small_bank(architecture=architecture), activations(100)
    metrics = evaluate(bank, [x], "cpu")
    bank.save(tmp_path, metrics, {"model_name": "tiny"})
    loaded = Bank.load(tmp_path)
    assert (loaded.hooks, loaded.d_model, loaded.d_sae, loaded.k) == (bank.hooks, 16, 64, 4)
    assert loaded.architecture is architecture
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded.scale, bank.scale)
    torch.testing.assert_close(loaded(x), bank(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        loaded.observe(x, 6).values, bank.observe(x, 6).values, rtol=1e-5, atol=1e-5
    )


def test_each_hook_point_has_a_folder_in_saelens_form_that_says_how_good_it_is(tmp_path):
    bank = small_bank()
    metrics = evaluate(bank, [activations(100)], "cpu")
    bank.save(tmp_path, metrics, {"model_name": "tiny"})
    cfg = json.loads((tmp_path / "layer_3" / "cfg.json").read_text())
    assert [cfg[key] for key in ("architecture", "d_in", "d_sae", "k")] == ["topk", 16, 64, 4]
    assert (cfg["dtype"], cfg["device"]) == ("float32", "cpu")
    assert cfg["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    assert cfg["metadata"]["model_name"] == "tiny"
    assert cfg["metadata"]["fvu"] == metrics[1].fvu
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["n_heldout_tokens"] == 100
    assert [row["layer"] for row in kept["hooks"]] == [0, 3]
    assert kept["hooks"][0]["explained_variance"] == 1 - kept["hooks"][0]["fvu"]


def test_numbers_that_nobody_measured_are_not_in_the_files(tmp_path):
    bank = small_bank()
    first, second = evaluate(bank, [activations(100)], "cpu")
    bank.save(tmp_path, [first._replace(kl=0.5), second])
    rows = json.loads((tmp_path / "metrics.json").read_text())["hooks"]
    assert rows[0]["kl"] == 0.5
    assert "ce_recovered" not in rows[0]
    assert "kl" not in rows[1]


@pytest.mark.parametrize("architecture", Architecture)
def test_saelens_equations_on_the_folder_give_the_banks_output(tmp_path, architecture):
    """SAELens 6.54: encodes x - b_dec; TopK then ReLU, or above a threshold; acts W_dec + b_dec."""
    bank, x = small_bank(architecture=architecture), activations(50)
    bank.save(tmp_path, evaluate(bank, [x], "cpu"))
    for i, hook in enumerate(bank.hooks):
        w = load_file(tmp_path / hook / "sae_weights.safetensors")
        cfg = json.loads((tmp_path / hook / "cfg.json").read_text())
        pre = (x[i] - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        if cfg["architecture"] == "topk":
            top = pre.topk(4, dim=-1, sorted=False)
            acts = torch.zeros(50, 64).scatter(-1, top.indices, top.values.relu())
        else:
            assert cfg["architecture"] == "jumprelu"
            acts = pre * (pre > w["threshold"])
        assert (acts > 0).sum() > 100
        torch.testing.assert_close(acts @ w["W_dec"] + w["b_dec"], bank(x)[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", Architecture)
def test_saelens_itself_gives_the_banks_output(tmp_path, architecture):
    sae_lens = pytest.importorskip("sae_lens")
    bank, x = small_bank(architecture=architecture), activations(50)
    bank.save(tmp_path, evaluate(bank, [x], "cpu"), {"model_name": "tiny"})
    for i, hook in enumerate(bank.hooks):
        sae = sae_lens.SAE.load_from_disk(str(tmp_path / hook))
        torch.testing.assert_close(sae(x[i]), bank(x)[i], rtol=1e-5, atol=1e-5)
        assert sae.cfg.metadata.model_name == "tiny"
        assert sae.cfg.metadata.hook_name == f"blocks.{3 * i}.hook_resid_post"


def facts(**changes) -> str:
    """A `bank.json` that goes with `small_bank` but for some changes."""
    values = {"architecture": "topk", "hooks": ["layer_0", "layer_3"], "scale": [1.0, 1.0]}
    return json.dumps(values | {"d_model": 16, "d_sae": 64, "k": 4} | changes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("bank.json", "{", "bank.json", id="malformed bank.json"),
        pytest.param("bank.json", '{"hooks": []}', "bank.json lacks .*d_model", id="incomplete"),
        pytest.param("bank.json", facts(architecture="gated"), "gated", id="unknown kind"),
        pytest.param("bank.json", facts(architecture="jumprelu"), "layer_0", id="another kind"),
        pytest.param("bank.json", facts(d_sae=65), "layer_0", id="another shape"),
        pytest.param("bank.json", "[1]", "malformed", id="a list"),
        pytest.param("bank.json", facts(hooks=[], scale=[]), "malformed", id="no hook points"),
        pytest.param("bank.json", facts(scale=[1.0]), "malformed", id="a scale too few"),
        pytest.param("bank.json", facts(scale=[1.0, 0.0]), "scale of layer_3", id="scale 0"),
        pytest.param("bank.json", facts(k=99), "k is 99", id="k too large"),
        pytest.param("bank.json", facts(k="x"), "malformed", id="k a word"),
        pytest.param(
            "bank.json",
            facts(format_version=2),
            "version is 2, only 1 is read",
            id="a later format",
        ),
        pytest.param("layer_3/cfg.json", "[1]", "malformed", id="cfg.json a list"),
        pytest.param("layer_3/cfg.json", None, "cfg.json", id="no cfg.json"),
        pytest.param("layer_3/cfg.json", '{"architecture": "gated"}', "gated", id="gated"),
        pytest.param(
            "layer_3/sae_weights.safetensors", None, "sae_weights.safetensors", id="no weights"
        ),
        pytest.param(
            "layer_3/sae_weights.safetensors", "xx", "sae_weights.safetensors", id="cut weights"
        ),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, name, content, message):
    bank = small_bank()
    bank.save(tmp_path, evaluate(bank, [activations(20)], "cpu"))
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        Bank.load(tmp_path)
