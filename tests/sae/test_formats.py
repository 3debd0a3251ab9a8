"""Files of other libraries, written here with their equations, and read as a bank."""

import importlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ghosttrack.errors import DataError
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.formats import read_saes
from tests.sae.support import activations

D_MODEL, D_SAE, K = 16, 40, 5
EXACT = {"rtol": 1e-5, "atol": 1e-5}


class Weights(NamedTuple):
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor


def weights(seed: int = 0, *, unit: bool = False) -> Weights:
    """Rows of W_dec have norms from 0.5 to 2 or so, unless they are of unit norm; one is 0."""
    draw = torch.Generator().manual_seed(seed)
    W_dec = F.normalize(torch.randn(D_SAE, D_MODEL, generator=draw), dim=1)
    if not unit:
        W_dec *= 0.5 + 1.5 * torch.rand(D_SAE, 1, generator=draw)
        W_dec[7] = 0
    return Weights(
        0.3 * torch.randn(D_MODEL, D_SAE, generator=draw),
        0.5 * torch.randn(D_SAE, generator=draw),
        W_dec,
        torch.randn(D_MODEL, generator=draw),
    )


def sample() -> Tensor:
    return activations(60, n_hooks=1)[0]


def top(values: Tensor, k: int = K) -> Tensor:
    best = values.topk(k, dim=-1)
    return torch.zeros_like(values).scatter(-1, best.indices, best.values)


def write_folder(folder: Path, cfg: Mapping[str, object], name: str, tensors: Mapping[str, Tensor]):
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / name)


def saelens(
    folder: Path, w: Weights, *, tensors: Mapping[str, Tensor] | None = None, **cfg
) -> Path:
    settings = {"d_in": D_MODEL, "d_sae": D_SAE, "dtype": "float32", "apply_b_dec_to_input": True}
    place = {"sae_lens_version": "6.5.0", "hook_name": "blocks.3.hook_resid_post"}
    write_folder(
        folder,
        {**settings, "normalize_activations": "none", "metadata": place, **cfg},
        "sae_weights.safetensors",
        {**w._asdict(), **(tensors or {})},
    )
    return folder


def read(path: Path) -> tuple[Bank, Tensor]:
    bank = Bank.of(read_saes(path))
    return bank, bank(sample()[None])[0]


@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("rescales", [True, False])
def test_saelens_topk(tmp_path: Path, rescales: bool, applies: bool):
    w, x = weights(), sample()
    norm = w.W_dec.norm(dim=1) if rescales else 1.0
    pre = ((x - applies * w.b_dec) @ w.W_enc + w.b_enc) * norm
    safe = norm.clamp(min=1e-9) if rescales else 1.0
    assert torch.equal(top(pre) != 0, top(pre / safe) != 0) != rescales  # or norms had no say
    expected = (top(pre).relu() / safe) @ w.W_dec + w.b_dec
    settings = {"apply_b_dec_to_input": applies, "rescale_acts_by_decoder_norm": rescales}
    folder = saelens(tmp_path / "any", w, architecture="topk", k=K, **settings)
    bank, x_hat = read(folder)
    assert (bank.hooks, bank.architecture, bank.k) == (["layer_3"], Architecture.topk, K)
    torch.testing.assert_close(x_hat, expected, **EXACT)
    norms = bank.W_dec[0].norm(dim=1)
    torch.testing.assert_close(norms[norms > 0].std() < 1e-5, torch.tensor(rescales))


@pytest.mark.parametrize("applies", [True, False])
def test_saelens_jumprelu_gets_unit_rows_and_the_same_output(tmp_path: Path, applies: bool):
    w, x = weights(), sample()
    threshold = torch.linspace(-0.5, 2, D_SAE)
    pre = (x - applies * w.b_dec) @ w.W_enc + w.b_enc
    expected = (pre.relu() * (pre > threshold)) @ w.W_dec + w.b_dec
    folder = saelens(
        *(tmp_path / "any", w),
        tensors={"threshold": threshold},
        architecture="jumprelu",
        apply_b_dec_to_input=applies,
    )
    bank, x_hat = read(folder)
    assert bank.architecture is Architecture.jumprelu
    torch.testing.assert_close(x_hat, expected, **EXACT)
    norms = bank.W_dec[0].norm(dim=1)
    assert norms[norms > 0].tolist() == pytest.approx([1.0] * (D_SAE - 1))


@pytest.mark.parametrize("rescales", [True, False])
@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_batchtopk_in_training_has_one_threshold(tmp_path: Path, name: str, rescales: bool):
    """SAELens 6.54, `save_inference_model`: the threshold is of pre-activations, by norm or not."""
    w, x = weights(), sample()
    norm = w.W_dec.norm(dim=1) if rescales else torch.ones(D_SAE)
    pre = ((x - w.b_dec) @ w.W_enc + w.b_enc) * norm
    acts = pre * (pre > 0.7) / norm.clamp(min=1e-9)
    folder = saelens(
        *(tmp_path / "any", w),
        tensors={"topk_threshold": torch.tensor(0.7, dtype=torch.float64)},
        architecture=name,
        k=5.4,
        rescale_acts_by_decoder_norm=rescales,
    )
    bank, x_hat = read(folder)
    assert (bank.architecture.value, bank.k) == (name.removesuffix("_batchtopk"), 5)
    torch.testing.assert_close(x_hat, acts @ w.W_dec + w.b_dec, **EXACT)


OLD = {
    **{"hook_point": "blocks.4.hook_resid_pre", "normalize_activations": False, "metadata": {}},
    **{"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
}
"""What SAELens said before version 6."""


@pytest.mark.parametrize(
    ("cfg", "activation"), [({}, torch.relu), (OLD, lambda pre: top(pre).relu())], ids=["6", "5"]
)
def test_saelens_standard_is_a_relu_unless_an_earlier_version_says_otherwise(
    tmp_path: Path, cfg: dict, activation: Callable[[Tensor], Tensor]
):
    w, x = weights(), sample()
    bank, x_hat = read(saelens(tmp_path / "any", w, architecture="standard", **cfg))
    assert bank.hooks == ["layer_3"]
    expected = activation((x - w.b_dec) @ w.W_enc + w.b_enc) @ w.W_dec + w.b_dec
    torch.testing.assert_close(x_hat, expected, **EXACT)


@pytest.mark.parametrize("normalises", [True, False])
def test_sparsify(tmp_path: Path, normalises: bool):
    """sparsify 1.3, `sparse_coder.py`: ReLU, then the k largest of W (x - b_dec) + b."""
    w, x = weights(unit=normalises), sample()
    expected = top(((x - w.b_dec) @ w.W_enc + w.b_enc).relu()) @ w.W_dec + w.b_dec
    bank, x_hat = read(sparsify(tmp_path / "layers.3", w))
    assert (bank.hooks, bank.k) == (["layer_3"], K)
    torch.testing.assert_close(x_hat, expected, **EXACT)


def sparsify(folder: Path, w: Weights, **cfg) -> Path:
    settings = {"activation": "topk", "expansion_factor": 32, "num_latents": D_SAE, "k": K}
    write_folder(
        folder,
        {**settings, "normalize_decoder": True, "signed": False, "d_in": D_MODEL, **cfg},
        "sae.safetensors",
        {"encoder.weight": w.W_enc.T, "encoder.bias": w.b_enc, "W_dec": w.W_dec, "b_dec": w.b_dec},
    )
    return folder


def jumprelu_checkpoint(
    path: Path, w: Weights, threshold: Tensor, bias: str = "W_dec.bias"
) -> Path:
    state = {
        "threshold": threshold,
        "W_enc.weight": w.W_enc.T,
        "W_enc.bias": w.b_enc,
        "W_dec.weight": w.W_dec.T,
        bias: w.b_dec,
    }
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))]).state_dict()
    rest = {"epoch": 3, "history": {"val_loss": [0.5, 0.4]}, "config": {"epochs": 4}}
    torch.save({"model_state_dict": state, "optimizer_state_dict": optimiser, **rest}, path)
    return path


@pytest.mark.parametrize("bias", ["W_dec.bias", "b_dec"])
def test_the_earlier_jumprelu_encodes_x_uncentred_with_one_threshold(tmp_path: Path, bias: str):
    w, x = weights(), sample()
    pre = x @ w.W_enc + w.b_enc
    expected = (pre * (pre > 0.6)) @ w.W_dec + w.b_dec
    path = jumprelu_checkpoint(tmp_path / "sae_layer_11_best.pt", w, torch.tensor(0.6), bias)
    bank, x_hat = read(path)
    assert (bank.hooks, bank.architecture) == (["layer_11"], Architecture.jumprelu)
    torch.testing.assert_close(x_hat, expected, **EXACT)


def topk_checkpoint(path: Path, w: Weights, **config) -> Path:
    state = {
        "encoder.weight": w.W_enc.T,
        "encoder.bias": w.b_enc,
        "decoder.weight": w.W_dec.T,
        "decoder.bias": w.b_dec,
    }
    metrics = {"explained_variance": 0.9, "l0_mean": 5.0}
    torch.save({"model_state_dict": state, "config": config, "metrics": metrics}, path)
    return path


def test_the_earlier_topk_selects_by_magnitude_and_keeps_the_sign(tmp_path: Path):
    w, x = weights(), sample()
    pre = x @ w.W_enc + w.b_enc
    acts = torch.where(top(pre.abs()) > 0, pre, 0.0)
    assert (acts < 0).any()
    config = {"input_dim": D_MODEL, "latent_dim": D_SAE, "k": K, "position": 2, "layer": 8}
    bank, x_hat = read(topk_checkpoint(tmp_path / "gpt2_sweet_spot_pos2_layer8.pt", w, **config))
    assert (bank.hooks, bank.d_sae, bank.k) == (["layer_8_pos_2"], 2 * D_SAE, K)
    torch.testing.assert_close(x_hat, acts @ w.W_dec + w.b_dec, **EXACT)


TOPK = {"architecture": "topk", "k": K}


def of_layer(layer: int) -> dict[str, str]:
    return {"hook_name": f"blocks.{layer}.hook_resid_post"}


WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "saelens": lambda folder, layer: saelens(
        folder / f"any_{layer}", weights(layer), metadata=of_layer(layer), **TOPK
    ),
    "saelens by folder": lambda folder, layer: saelens(
        folder / of_layer(layer)["hook_name"], weights(layer), metadata={}, **TOPK
    ),
    "sparsify": lambda folder, layer: sparsify(folder / f"layers.{layer}", weights(layer)),
    "sparsify of GPT-2": lambda folder, layer: sparsify(folder / f"h.{layer}", weights(layer)),
    "earlier jumprelu": lambda folder, layer: jumprelu_checkpoint(
        folder / f"sae_layer_{layer}_best.pt", weights(layer), torch.tensor(0.1)
    ),
    "earlier topk": lambda folder, layer: topk_checkpoint(
        folder / f"any_{layer}.pt", weights(layer), k=K, layer=layer
    ),
}


@pytest.mark.parametrize("library", WRITERS)
def test_a_folder_of_several_hook_points_is_one_bank_in_their_order(tmp_path: Path, library: str):
    write = WRITERS[library]
    for layer in (10, 9, 0):
        write(tmp_path, layer)
    (tmp_path / "config.json").write_text("{}")
    bank = Bank.of(read_saes(tmp_path))
    assert bank.hooks == ["layer_0", "layer_9", "layer_10"]
    together = bank(sample().expand(3, -1, -1))
    for i, layer in enumerate((0, 9, 10)):
        (tmp_path / str(layer)).mkdir()
        torch.testing.assert_close(
            read(write(tmp_path / str(layer), layer))[1], together[i], **EXACT
        )


MIXED = {
    "saelens": ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"),
    "sparsify": ("layers.0.mlp", "layers.0", "layers.1"),
}


@pytest.mark.parametrize("library", MIXED)
def test_of_a_folder_of_many_what_no_block_gives_out_refuses_no_other(
    tmp_path: Path, library: str, caplog: pytest.LogCaptureFixture
):
    for number, name in enumerate(MIXED[library]):
        if library == "saelens":
            saelens(tmp_path / name, weights(number), metadata={"hook_name": name}, **TOPK)
        else:
            sparsify(tmp_path / name, weights(number))
    found = read_saes(tmp_path)
    assert [sae.hook for sae in found] == ["layer_0", "layer_1"]
    torch.testing.assert_close(found[0].b_enc, weights(1).b_enc)
    assert f"1 of 3 SAEs are of no block's output and left out: {MIXED[library][0]}" in caplog.text
    assert [sae.hook for sae in read_saes(tmp_path, [1])] == ["layer_1"]


def test_a_field_that_is_null_is_one_that_is_not_there(tmp_path: Path):
    nulls = dict.fromkeys(
        ("apply_b_dec_to_input", "activation_fn_kwargs", "reshape_activations", "hook_name")
    )
    for name, fields in {"a": {}, "b": nulls}.items():
        saelens(tmp_path / name, weights(), **{**TOPK, **fields})
    torch.testing.assert_close(read(tmp_path / "a")[1], read(tmp_path / "b")[1])


def test_of_a_best_and_a_final_checkpoint_the_best_is_read(tmp_path: Path):
    for name, seed in (("best", 0), ("final", 1)):
        jumprelu_checkpoint(tmp_path / f"sae_layer_2_{name}.pt", weights(seed), torch.tensor(0.1))
    best = read(tmp_path / "sae_layer_2_best.pt")[1]
    assert torch.equal(read(tmp_path)[1], best)
    assert not torch.allclose(read(tmp_path / "sae_layer_2_final.pt")[1], best)


def test_one_hook_point_of_a_saved_bank_is_readable_alone(tmp_path: Path):
    bank, _ = read(saelens(tmp_path / "any", weights(unit=True), architecture="topk", k=K))
    bank.save(tmp_path / "bank", evaluate(bank, [sample()[None]], "cpu"))
    torch.testing.assert_close(
        read(tmp_path / "bank" / "layer_3")[1], bank(sample()[None])[0], **EXACT
    )


class Code:
    """Runs when it is unpickled as code may."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def different(folder: Path) -> Path:
    sparsify(folder / "layers.0", weights())
    sparsify(folder / "layers.1", weights(), k=6)
    return folder


def twice(folder: Path) -> Path:
    for name in ("layers.0", "h.0"):
        sparsify(folder / name, weights())
    return folder


def short(folder: Path) -> Path:
    return saelens(folder / "any", weights()._replace(b_enc=torch.zeros(D_SAE - 1)), **TOPK)


def cfg(**changes) -> Callable[[Path], Path]:
    return lambda folder: saelens(folder / "any", weights(), **changes)


def coder(name: str = "layers.3", **changes) -> Callable[[Path], Path]:
    return lambda folder: sparsify(folder / name, weights(), **changes)


def old(**changes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "sae_layer_0_best.pt"
        jumprelu_checkpoint(path, weights(), torch.tensor(0.1))
        content = torch.load(path, weights_only=True)
        state = {**content["model_state_dict"], **changes}
        kept = {name: value for name, value in state.items() if value is not None}
        return saved(path, content | {"model_state_dict": kept})

    return write


def broken(name: str, value: float) -> Weights:
    changed = weights()._asdict()[name].clone()
    changed.view(-1)[3] = value
    return weights()._replace(**{name: changed})


def ours(folder: Path) -> Path:
    bank = Bank(["layer_0"], D_MODEL, D_SAE, K)
    with torch.no_grad():
        for name, value in broken("b_enc", math.nan)._asdict().items():
            getattr(bank, name).copy_(value[None])
    bank.save(folder, None)
    return folder


def garbage(folder: Path) -> Path:
    (folder / "sae_layer_0.pt").write_bytes(b"not a zip")
    return folder / "sae_layer_0.pt"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda f: f, "no SAE: neither bank.json"),
    "nowhere": (lambda f: f / "none", "no such file or folder; give a bank"),
    "gated": (cfg(architecture="gated"), r"cfg.json: architecture"),
    "normalised": (
        cfg(normalize_activations="layer_norm", **TOPK),
        "cfg.json: normalize_activations is 'layer_norm', only 'none'",
    ),
    "reshaped": (
        cfg(reshape_activations="hook_z", **TOPK), "cfg.json: reshape_activations is 'hook_z'"
    ),
    "tanh": (cfg(activation_fn_str="tanh-relu"), "activation_fn_str"),
    "finetuned": (cfg(finetuning_scaling_factor=True), "finetuning_scal"),
    "no k": (cfg(architecture="topk"), "cfg.json lacks k"),
    "k": (cfg(architecture="topk", k=41), r"k must be in 1..40"),
    "threshold": (cfg(architecture="jumprelu"), "lacks threshold"),
    "another place": (
        cfg(metadata={"hook_name": "blocks.3.hook_mlp_out"}, **TOPK),
        "'blocks.3.hook_mlp_out' is not the residual stream after a block",
    ),
    "shapes": (short, r"b_enc is \[39\]"),
    "threshold's shape": (
        cfg(tensors={"threshold": torch.zeros(3)}, architecture="jumprelu"),
        r"threshold is \[3\]",
    ),
    "old shape": (old(**{"W_dec.bias": torch.zeros(3)}), r"b_dec is \[3\]"),
    "mlp": (coder("layers.3.mlp"), "'layers.3.mlp' is not"),
    "coder": (coder(transcode=True), "transcode"),
    "max": (coder(activation="groupmax"), "groupmax"),
    "different": (different, r"layer_0 has .*5\), layer_1 has .*6\)"),
    "twice": (twice, "several SAEs of layer_0"),
    "code": (
        lambda f: saved(f / "sae_layer_0.pt", {"model_state_dict": {}, "x": Code()}),
        "sae_layer_0.pt: cannot be loaded as tensors and numbers: it would need code to be run",
    ),
    "no checkpoint": (garbage, r"sae_layer_0\.pt: cannot be loaded"),
    "no state": (lambda f: saved(f / "a.pt", {"x": 1}), "lacks model_state_dict"),
    "no layer": (
        lambda f: jumprelu_checkpoint(f / "model.pt", weights(), torch.tensor(0.1)),
        "model.pt: no layer in it or in its name",
    ),
    "old no k": (lambda f: topk_checkpoint(f / "layer_0.pt", weights()), "lacks config.k"),
    "negative": (old(threshold=torch.tensor(-0.1)), "threshold is negative"),
    "old thresh": (old(threshold=None), "best.pt lacks threshold"),
    "old bias": (old(**{"W_dec.bias": None}), "lacks b_dec"),
    "NaN": (
        lambda f: saelens(f / "any", broken("W_enc", math.nan), **TOPK),
        r"sae_weights\.safetensors: W_enc holds NaN or infinity",
    ),
    "infinity": (
        lambda f: sparsify(f / "layers.0", broken("W_dec", math.inf)),
        r"sae\.safetensors: W_dec holds NaN or infinity",
    ),
    "old NaN": (
        old(threshold=torch.tensor(math.nan)), r"best\.pt: threshold holds NaN or infinity"
    ),
    "old infinity": (
        lambda f: topk_checkpoint(f / "layer_0.pt", broken("b_dec", -math.inf), k=K),
        r"layer_0\.pt: b_dec holds NaN or infinity",
    ),
    "ours": (ours, "b_enc holds NaN or infinity"),
}  # fmt: skip
"""What is written, and what is said of it."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_by_name(tmp_path: Path, case: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        read_saes(write(tmp_path))
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not Path("unpickled").exists()


TRAINERS = ["topk", "jumprelu", "batchtopk", "matryoshka_batchtopk", "standard"]


@pytest.mark.parametrize("as_trained", [True, False])
@pytest.mark.parametrize("architecture", TRAINERS)
def test_what_saelens_writes_gives_its_output(tmp_path: Path, architecture: str, as_trained: bool):
    """A training SAE's output is that of its batch; what is compared is inference."""
    sae_lens = pytest.importorskip("sae_lens")
    registry = importlib.import_module("sae_lens.registry")
    w, x = weights(), sample()
    w.W_dec[7] = w.W_dec[8]  # SAELens divides by the norm of a row
    widths = {"matryoshka_widths": [20, D_SAE]} if architecture.startswith("matryoshka") else {}
    k = {"k": K} if "topk" in architecture else {}
    training, config = registry.get_sae_training_class(architecture)
    sae = training(config(d_in=D_MODEL, d_sae=D_SAE, **k, **widths))
    with torch.no_grad():
        for name, value in w._asdict().items():
            getattr(sae, name).copy_(value)
        if hasattr(sae, "log_threshold"):
            sae.log_threshold.fill_(-1.0)
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.7)
    sae.cfg.metadata.hook_name = "blocks.3.hook_resid_post"
    sae.save_inference_model(tmp_path / "inference")
    sae.save_model(tmp_path / "trained")
    expected = sae_lens.SAE.load_from_disk(str(tmp_path / "inference"))(x)
    folder = tmp_path / ("trained" if as_trained else "inference")
    torch.testing.assert_close(read(folder)[1], expected, **EXACT)


def test_k_without_an_architecture_is_refused(tmp_path: Path):
    folder = saelens(tmp_path / "any", weights(), architecture=None, k=K)
    with pytest.raises(DataError, match=r"cfg\.json lacks architecture"):
        read_saes(folder)


def test_an_empty_file_is_one_line(tmp_path: Path):
    (tmp_path / "empty.pt").touch()
    with pytest.raises(DataError, match=r"empty\.pt: cannot be loaded as tensors and numbers \("):
        read_saes(tmp_path / "empty.pt")
