import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models import hub
from ghosttrack.models.config import Dtype
from ghosttrack.models.hub import model_identity, sizes
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm, resolve_device, untrained
from ghosttrack.models.sizing import Sizes
from tests.models.conftest import FAMILIES, model_config
from tests.support import tiny

NOWHERE = Path("/nowhere")


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["gpt2"], tmp_path / "copy"))


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_loaded_model_is_frozen_and_in_evaluation(lm: LM):
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert (lm.n_layers, lm.d_model, lm.n_ctx) == (tiny.N_LAYERS, tiny.D_MODEL, tiny.N_CTX)
    assert lm.d_vocab == len(tiny.VOCABULARY)


def test_the_fused_gelu_changes_logits_by_rounding_only(folders: dict[str, Path]):
    for family in ("gpt2", "phi"):
        lm = load_lm(model_config(), folders[family], "cpu")
        stock = AutoModelForCausalLM.from_pretrained(folders[family]).eval()
        ids = torch.arange(40).reshape(2, 20)
        with torch.no_grad():
            expected = stock(ids).logits
        torch.testing.assert_close(lm.model(ids).logits, expected, atol=1e-5, rtol=0)
        assert any(isinstance(m, torch.nn.GELU) for m in lm.model.modules())


def test_loading_prints_nothing(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]):
    load_lm(model_config(), folders["gpt2"], "cpu")
    assert capfd.readouterr() == ("", "")


def test_sizes_are_the_presets_unless_a_path_is_set(folders: dict[str, Path]):
    assert sizes(model_config(n_layers=12, d_model=768), NOWHERE) == Sizes(12, 768)
    config = model_config(path=str(folders["gpt_neox"]), n_layers=12, d_model=768)
    assert sizes(config, NOWHERE) == Sizes(tiny.N_LAYERS, tiny.D_MODEL, tiny.N_CTX)


def test_a_path_goes_before_the_preset_and_brings_its_own_sizes(folders: dict[str, Path]):
    config = model_config(path=str(folders["llama"]), hub="some/preset", n_layers=12, d_model=768)
    assert load_lm(config, NOWHERE, "cpu").n_layers == tiny.N_LAYERS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 12}, r"model\.n_layers=12 and model\.d_model=32.* has 3 and 32"),
        ({"context": 65}, r"model\.context=65, but .* 64 tokens; set model\.context=64"),
    ],
)
def test_settings_that_are_not_the_models_are_refused(folders, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_lm(model_config(**changes), folders["gpt2"], "cpu")


def test_a_model_that_knows_no_longest_text_takes_any_context(tmp_path: Path):
    lm = load_lm(model_config(context=256), tiny.tiny_bloom(tmp_path), "cpu")
    ids = torch.ones(1, 256, dtype=torch.long)
    assert lm.residuals(ids, ids.bool(), [0]).shape == (1, 1, 256, tiny.D_MODEL)


@pytest.mark.parametrize("path", ["here/copy", "../copy", "~/copy"])
def test_a_path_may_begin_where_the_user_is_or_at_home(
    copy: Path, monkeypatch: pytest.MonkeyPatch, path: str
):
    (copy.parent / "here").mkdir()
    (copy.parent / "here" / "copy").symlink_to(copy)
    monkeypatch.chdir(copy.parent if path.startswith("here") else copy.parent / "here")
    monkeypatch.setenv("HOME", str(copy.parent))
    loaded = load_lm(model_config(path=path), NOWHERE, "cpu")
    assert loaded.identity == model_identity(model_config(), copy)


def test_the_hub_is_asked_for_the_revision(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def snapshot_download(name, *, revision, **_kwargs):
        asked.append((name, revision))
        return str(folders["gpt2"])

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    load_lm(model_config(hub="some/model", revision="v1.2"), NOWHERE, "cpu")
    assert set(asked) == {("some/model", "v1.2")}


def test_identity_follows_content_not_place(folders: dict[str, Path], copy: Path):
    original = load_lm(model_config(), folders["gpt2"], "cpu").identity
    assert load_lm(model_config(), copy, "cpu").identity == original
    assert load_lm(model_config(dtype=Dtype.bf16), copy, "cpu").identity != original
    assert load_lm(model_config(prepend_bos=False), copy, "cpu").identity != original


def test_another_weight_tokenizer_or_config_is_another_identity(copy: Path):
    before = load_lm(model_config(), copy, "cpu").identity
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    _edit(copy / "tokenizer_config.json", note="changed")
    _edit(copy / "config.json", note="changed")
    after = load_lm(model_config(), copy, "cpu").identity
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"weights", "tokenizer", "config"}


def test_an_untrained_model_has_the_shape_but_nothing_of_the_weights(lm: LM):
    before = torch.random.get_rng_state()
    blank, again = untrained(lm, 3), untrained(lm, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (blank.n_layers, blank.d_model, blank.d_vocab) == (lm.n_layers, lm.d_model, lm.d_vocab)
    assert blank.identity != lm.identity
    ids = torch.tensor([[1, 2, 3]])
    everything = torch.ones_like(ids, dtype=torch.bool)
    logits = blank.logits(ids, everything)
    assert torch.equal(logits, again.logits(ids, everything))
    assert not torch.allclose(logits, lm.logits(ids, everything), atol=0.1)
    assert not torch.allclose(logits, untrained(lm, 4).logits(ids, everything), atol=1e-3)


@pytest.mark.parametrize("dtype", [Dtype.bf16, Dtype.fp16])
@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_come_in_the_format_asked_for(folders: dict[str, Path], family: str, dtype: Dtype):
    narrow = load_lm(model_config(dtype=dtype), folders[family], "cpu")
    wide = load_lm(model_config(), folders[family], "cpu")
    wanted = getattr(torch, dtype.value)
    assert {parameter.dtype for parameter in narrow.model.parameters()} == {wanted}
    ids = torch.arange(1, 25).reshape(2, 12)
    everything = torch.ones_like(ids).bool()
    found, expected = (
        (lm.residuals(ids, everything, [0, 2]), lm.logits(ids, everything)) for lm in (narrow, wide)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == wanted
        # Roundings of weights and of some ten sums on the way, of either sign.
        n_eps = 8 if family == "qwen3_5" else 4  # whose linear attention sums over all before
        assert (ours - theirs).norm() < n_eps * torch.finfo(wanted).eps * theirs.norm()


def test_numbers_too_large_for_the_format_are_refused(copy: Path):
    _reweigh(copy, "transformer.ln_f.weight", lambda weight: weight * 1e6)
    assert load_lm(model_config(dtype=Dtype.bf16), copy, "cpu")
    with pytest.raises(ConfigError, match=r"model\.dtype=fp16: .*copy makes logits that are not"):
        load_lm(model_config(dtype=Dtype.fp16), copy, "cpu")


def test_weights_that_are_no_numbers_are_named(copy: Path):
    _reweigh(copy, "transformer.h.1.mlp.c_fc.weight", lambda weight: weight * float("nan"))
    with pytest.raises(ConfigError, match=r"weights that are NaN or infinite: .*h\.1\.mlp\.c_fc"):
        load_lm(model_config(), copy, "cpu")


def test_a_pickle_that_holds_code_is_refused_without_advice_to_run_it(copy: Path):
    (copy / "model.safetensors").unlink()
    torch.save({"state": torch.zeros(1), "args": os.path.join}, copy / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="a pickle that holds more than tensors") as caught:
        load_lm(model_config(), copy, "cpu")
    assert "weights_only" not in str(caught.value)


def test_weights_in_several_files_are_the_same_model(gpt2: LM, copy: Path):
    (copy / "model.safetensors").unlink()
    gpt2.model.save_pretrained(copy, max_shard_size="40KB")
    shards = sorted(copy.glob("model-*.safetensors"))
    assert len(shards) > 2
    ids = torch.tensor([[1, 2, 3]])
    lm = load_lm(model_config(), copy, "cpu")
    assert torch.equal(*(one.logits(ids, ids.bool()) for one in (lm, gpt2)))
    shards[1].unlink()
    with pytest.raises(ConfigError, match=shards[1].name):
        load_lm(model_config(), copy, "cpu")


@pytest.mark.parametrize("change", [lambda _: None, lambda weight: weight[:5].clone()])
def test_weights_that_are_not_there_are_not_made_up(copy: Path, change):
    name = "transformer.h.1.mlp.c_fc.weight"
    _reweigh(copy, name, change)
    with pytest.raises(ConfigError, match=rf"copy lacks 1 of the weights .*: {name} for one$"):
        load_lm(model_config(), copy, "cpu")


def _reweigh(folder: Path, name: str, change) -> None:
    weights = load_file(folder / "model.safetensors")
    changed = {**weights, name: change(weights[name])}
    kept = {name: weight for name, weight in changed.items() if weight is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("config.json", "{", id="config is not JSON"),
        pytest.param("config.json", '{"model_type": "martian"}', id="unknown family"),
        pytest.param("model.safetensors", "short", id="weights are cut off"),
        pytest.param("tokenizer.json", "{", id="tokenizer is not JSON"),
    ],
)
def test_a_broken_folder_is_one_line_that_names_it(copy: Path, file: str, content: str):
    (copy / file).write_text(content)
    with pytest.raises(ConfigError, match="copy") as caught:
        load_lm(model_config(), copy, "cpu")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(copy: Path):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f"extra{i}": len(vocabulary) + i for i in range(9)}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match=r"tokenizer .* tokens, the model only"):
        load_lm(model_config(), copy, "cpu")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_without_a_tokenizer_is_refused(
    folders: dict[str, Path], tmp_path: Path, family: str
):
    bare = shutil.copytree(
        folders[family], tmp_path / "bare", ignore=shutil.ignore_patterns("*token*")
    )
    with pytest.raises(ConfigError, match="bare holds no tokenizer"):
        load_lm(model_config(), bare, "cpu")


def test_a_token_added_to_the_tokenizer_alone_is_refused_where_a_text_has_it(copy: Path):
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(copy)
    lm = load_lm(model_config(), copy, "cpu")
    without, ids = (torch.tensor([lm.encode(text)]) for text in ("anna is", "anna <pad> is"))
    assert lm.residuals(without, torch.ones_like(without).bool(), [0]).isfinite().all()
    with pytest.raises(DataError, match=rf"token {lm.d_vocab}, '<pad>', was added"):
        lm.residuals(ids, torch.ones_like(ids).bool(), [0])


def test_logits_made_in_an_unknown_way_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch):
    forward = torch.nn.LayerNorm.forward
    monkeypatch.setattr(torch.nn.LayerNorm, "forward", lambda self, x: forward(self, x) + 1)
    unembed = LM.unembed
    monkeypatch.setattr(LM, "unembed", lambda self, resid: unembed(self, resid) * 2)
    with pytest.raises(ConfigError, match=r"GPT2LMHeadModel .* makes its logits in a way"):
        load_lm(model_config(), copy, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_no_silent_cpu(folders: dict[str, Path]):
    assert load_lm(model_config(), folders["gpt2"], "auto").device == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match=f"^model.device={name}, but PyTorch sees no GPU"):
            load_lm(model_config(), folders["gpt2"], name)


@pytest.mark.parametrize("name", ["abacus", "cuda:one", ""])
def test_a_device_of_no_such_name_is_refused(name: str):
    with pytest.raises(ConfigError, match="device must be auto"):
        resolve_device(name)


def test_a_model_that_forgets_its_prompt_when_it_generates_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"MambaForCausalLM in .* forgets its prompt"):
        load_lm(model_config(), tiny.tiny_mamba(tmp_path), "cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "bitsandbytes",
            id="quantised, without the library",
        ),
        pytest.param({"num_hidden_layers": "2"}, "expected int, got str", id="wrongly typed"),
    ],
)
def test_a_folder_that_a_library_refuses_is_refused_in_one_line(
    folders: dict[str, Path], tmp_path: Path, changes: dict[str, object], said: str
):
    folder = Path(shutil.copytree(folders["llama"], tmp_path / "copy"))
    _edit(folder / "config.json", **changes)
    with pytest.raises(ConfigError, match=rf"^model: cannot read [^\n]*{said}[^\n]*$"):
        load_lm(model_config(), folder, "cpu")


def test_bos_is_prepended_where_the_tokenizer_does_so_by_itself(
    folders: dict[str, Path], tmp_path: Path
):
    folder = Path(shutil.copytree(folders["llama"], tmp_path / "copy"))
    assert load_lm(model_config(prepend_bos=None), folder, "cpu").prefix_ids == []
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", 0)]
    )
    tokenizer.save_pretrained(folder)
    assert load_lm(model_config(prepend_bos=None), folder, "cpu").prefix_ids == [0]
