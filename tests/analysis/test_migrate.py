import json
from pathlib import Path

import pytest
import torch

from ghosttrack.analysis.migrate import main
from ghosttrack.artifacts import read
from ghosttrack.files import read_json
from ghosttrack.sae.bank import Bank
from tests.sae.test_formats import (
    D_MODEL,
    D_SAE,
    EXACT,
    K,
    jumprelu_checkpoint,
    sample,
    topk_checkpoint,
    weights,
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Both layouts, two models, and what an old root also holds."""
    root = tmp_path / "old"
    small = root / "models" / "checkpoints" / "gpt2"
    wide = small / "sae_wide"
    wide.mkdir(parents=True)
    for layer in (10, 2):
        jumprelu_checkpoint(wide / f"sae_layer_{layer}_best.pt", weights(layer), torch.tensor(0.6))
    jumprelu_checkpoint(wide / "sae_layer_2_final.pt", weights(5), torch.tensor(0.6))
    other = root / "models" / "checkpoints" / "phi"
    other.mkdir()
    for position in (1, 2):
        topk_checkpoint(
            other / f"phi_sweet_spot_pos{position}_layer8.pt", weights(position),
            k=K, layer=8, position=position,
        )  # fmt: skip
    results = root / "results" / "gpt2" / "run 1"
    results.mkdir(parents=True)
    scores = {"auroc": 0.985, "folds": [0.9, 0.8], "test": {"f1": float("nan"), "n": 45}}
    layers = [{"layer": 0, "mse": 0.002}, {"layer": 5, "mse": 0.004}]
    (results / "layers.json").write_text(json.dumps(layers))
    (results / "evaluation.json").write_text(json.dumps(scores))
    return root


def migrate(old: Path, *, complete: bool) -> tuple[Path, dict[str, dict[str, str]]]:
    """Import; return where to, and by source what became of it."""
    outputs = old.parent / "outputs"
    arguments = [str(old), "--output-root", str(outputs)]
    if complete:
        main(arguments)
    else:
        with pytest.raises(SystemExit, match="could not be imported"):
            main(arguments)
    return outputs, {one["source"]: one for one in read_json(outputs / "migration.json")}


def test_checkpoints_of_one_folder_and_shape_are_one_bank(old: Path):
    outputs, done = migrate(old, complete=True)
    (folder,) = (outputs / "gpt2" / "saes").glob("[!.]*")
    assert folder.name.startswith(f"jumprelu-{D_SAE}-")
    bank, x, w = Bank.load(folder), sample(), weights(10)
    assert bank.hooks == ["layer_2", "layer_10"]
    pre = x @ w.W_enc + w.b_enc
    expected = (pre * (pre > 0.6)) @ w.W_dec + w.b_dec
    torch.testing.assert_close(bank(torch.stack([x, x]))[1], expected, **EXACT)
    final = done["models/checkpoints/gpt2/sae_wide/sae_layer_2_final.pt"]
    assert (final["became"], final["reason"]) == ("", "its best checkpoint counts")


def test_the_second_layout_keeps_its_positions(old: Path):
    outputs, _ = migrate(old, complete=True)
    (folder,) = (outputs / "phi" / "saes").glob("[!.]*")
    bank = Bank.load(folder)
    assert bank.hooks == ["layer_8_pos_1", "layer_8_pos_2"]
    assert (bank.d_model, bank.d_sae, bank.k) == (D_MODEL, 2 * D_SAE, K)


def test_an_imported_bank_claims_nothing_that_was_not_measured_and_says_where_it_is_from(old: Path):
    outputs, _ = migrate(old, complete=True)
    (folder,) = (outputs / "phi" / "saes").glob("[!.]*")
    assert not (folder / "metrics.json").exists()
    told = read(folder, "saes", verify=True).manifest["provenance"]["imported_from"]
    assert told["layer_8_pos_1"]["source"] == (
        "models/checkpoints/phi/phi_sweet_spot_pos1_layer8.pt"
    )
    assert told["layer_8_pos_1"]["says"]["explained_variance"] == 0.9
    metadata = read_json(folder / "layer_8_pos_1" / "cfg.json")["metadata"]
    assert "explained_variance" not in metadata


def test_results_keep_their_bytes_and_their_numbers_get_names(old: Path):
    outputs, done = migrate(old, complete=True)
    folder = Path(done["results/gpt2/run 1/evaluation.json"]["became"])
    assert folder.parent == outputs / "gpt2" / "evaluations"
    assert folder.name.startswith("imported-run-1-evaluation-")
    assert (folder / "result.json").read_bytes() == (
        old / "results" / "gpt2" / "run 1" / "evaluation.json"
    ).read_bytes()
    numbers = read_json(folder / "imported.json")["numbers"]
    assert numbers == {"auroc": 0.985, "test/f1": None, "test/n": 45}
    folder = Path(done["results/gpt2/run 1/layers.json"]["became"])
    numbers = read_json(folder / "imported.json")["numbers"]
    assert numbers == {"0/layer": 0, "0/mse": 0.002, "1/layer": 5, "1/mse": 0.004}


def test_files_that_nobody_would_import_are_listed_and_make_no_failure(old: Path):
    (old / "models" / "checkpoints" / "gpt2" / "notes").mkdir()
    (old / "results" / "gpt2" / "plot.png").write_bytes(b"x")
    _, done = migrate(old, complete=True)
    assert "no .json file" in done["results/gpt2/plot.png"]["reason"]
    assert done["models/checkpoints/gpt2/notes"]["became"] == ""


def test_checkpoints_in_other_folders_are_failures_by_name(old: Path):
    place = old / "models" / "checkpoints" / "gpt2" / "notes"
    place.mkdir()
    jumprelu_checkpoint(place / "sae_layer_1.pt", weights(), torch.tensor(0.6))
    _, done = migrate(old, complete=False)
    reason = done["models/checkpoints/gpt2/notes/sae_layer_1.pt"]["reason"]
    assert "nor in a folder sae_*" in reason


def test_a_second_time_finds_what_the_first_imported(old: Path, capsys: pytest.CaptureFixture[str]):
    _, done = migrate(old, complete=True)
    assert "6 of 7 imported" in capsys.readouterr().out
    outputs, again = migrate(old, complete=True)
    assert again == done
    assert len(list((outputs / "gpt2" / "saes").glob("[!.]*"))) == 1


class Harmful:
    """Pickled, it would run code when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harmed"),)  # pyright: ignore[reportReturnType]


def test_everything_that_cannot_be_imported_is_listed_and_stops_nothing(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    wide = old / "models" / "checkpoints" / "gpt2" / "sae_wide"
    (wide / "sae_layer_3_best.pt").write_bytes(b"PK cut")
    torch.save({"model_state_dict": {}, "config": None}, wide / "sae_layer_4_best.pt")
    torch.save(Harmful(), wide / "sae_layer_5_best.pt")
    jumprelu_checkpoint(wide / "sae_layer_10_again.pt", weights(), torch.tensor(0.6))
    (old / "models" / "checkpoints" / "gpt2" / "notes").mkdir()
    results = old / "results" / "gpt2"
    (results / "plot.png").write_bytes(b"x")
    (results / "words.json").write_text('{"note": "none", "ok": true}')
    (results / "cut.json").write_text('{"a": 1')
    (old / "results" / "stray.json").write_text("{}")
    outputs, done = migrate(old, complete=False)
    wanted = {
        "sae_layer_3_best.pt": "cannot be loaded as tensors and numbers",
        "sae_layer_4_best.pt": "malformed",
        "sae_layer_5_best.pt": "it would need code to be run",
        "sae_layer_10_again.pt": "several files of its folder hold layer_10",
        "sae_layer_10_best.pt": "several files of its folder hold layer_10",
        "sae_layer_2_final.pt": "its best checkpoint counts",
        "notes": "neither a .pt file nor in a folder",
        "plot.png": "no .json file",
        "words.json": "no number",
        "cut.json": "cannot be read as JSON",
        "stray.json": "in no model's folder",
    }
    refused = {
        Path(one["source"]).name: one["reason"] for one in done.values() if not one["became"]
    }
    assert refused.keys() == wanted.keys()
    for name, reason in wanted.items():
        assert reason in refused[name], name
    assert not (tmp_path / "harmed").exists()
    (folder,) = (outputs / "gpt2" / "saes").glob("[!.]*")
    assert Bank.load(folder).hooks == ["layer_2"]


def test_another_folder_is_one_line(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"holds neither models/checkpoints/ nor results/"):
        main([str(tmp_path)])
