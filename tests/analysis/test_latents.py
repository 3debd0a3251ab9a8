"""What latents fire on, where the model's numbers and the bank's latents are planted."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import GPT2LMHeadModel

from ghosttrack.analysis.latents import find_subject, main
from ghosttrack.artifacts import Key, artifact_id, build
from ghosttrack.config import TrainProgram, load
from ghosttrack.data.corpora import framing, write_corpus
from ghosttrack.files import write_json
from ghosttrack.models.hub import model_identity
from ghosttrack.models.load import load_lm
from ghosttrack.pipelines.extract import store_identity
from ghosttrack.sae.bank import Bank
from tests.support.settings import composed
from tests.support.tiny import VOCABULARY, tiny_gpt2
from tests.sweep.outputs import hook, trained

WORDS = (
    *("paris", "rome", "berlin", "london", "the", "a"),
    *("king", "queen", "red", "blue", "river", "house"),
)
TEXT = {"kind": "text"}
TOKEN, EVERYTHING, PLACE = 0, 1, 2
"""Dimensions of the residual stream that hold what they are named by; noise is in the others."""
PLANTED = {"layer_0": (TOKEN, EVERYTHING, PLACE, None), "layer_2": (None, PLACE, EVERYTHING, TOKEN)}
"""What each latent reads; None is silent."""


def planted_model(folder: Path) -> Path:
    """Blocks that add nothing: the stream is the token's embedding and the position's."""
    model = GPT2LMHeadModel.from_pretrained(tiny_gpt2(folder))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for block in model.transformer.h:
            for part in (block.attn.c_proj, block.mlp.c_proj):
                part.weight.zero_()
                part.bias.zero_()
        tokens, places = model.transformer.wte.weight, model.transformer.wpe.weight
        tokens[:, :3] = torch.tensor([0.0, 1.0, 0.0])
        tokens[VOCABULARY["paris"], TOKEN] = 1
        places[:, :3] = 0
        places[:, PLACE] = torch.rand(len(places), generator=generator) - 0.5
    model.save_pretrained(folder)
    return folder


def planted_bank() -> Bank:
    bank = Bank(list(PLANTED), 32, 4, 3)
    with torch.no_grad():
        for i, dimensions in enumerate(PLANTED.values()):
            for latent, dimension in enumerate(dimensions):
                if dimension is not None:
                    bank.W_enc[i, dimension, latent] = bank.W_dec[i, latent, dimension] = 1
                else:
                    bank.W_dec[i, latent, 31] = 1
    return bank.requires_grad_(False)


def sentences(n: int) -> list[str]:
    generator = np.random.default_rng(0)
    lengths = generator.integers(8, 24, n)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]


def write_text(root: Path, settings: TrainProgram, skip_first: int, texts: list[str]) -> None:
    """A tokenised corpus; those of one kind and seed differ in what they skip."""
    model_is = model_identity(settings.model, root)
    framed = framing(load_lm(settings.model, root), append_eos=False)
    tokens = {"tokenizer": model_is["tokenizer"], "prepend_bos": True, "skip_first": skip_first}
    build(
        Key(root, "corpora", f"skip-{skip_first}", {"corpus": TEXT, "seed": 7, **tokens}),
        lambda folder: write_corpus(folder, texts, framed, settings.corpus, skip_first, 7),
    )


def write_bank(folder: Path) -> None:
    planted_bank().save(folder, None)
    write_json(folder / "metrics.json", {"hooks": [hook(0), hook(2)]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of train.py with its bank, its model, its corpus and another one."""
    folder = tmp_path_factory.mktemp("latents")
    root = folder / "outputs" / "tiny"
    overrides = [
        *(f"model.path={planted_model(folder / 'model')}", "model.name=tiny", "corpus=text"),
        *("corpus.path=x", "corpus.num_tokens=1000", "corpus.heldout_tokens=6000"),
        *("corpus.packing=documents", "model.prepend_bos=true"),
    ]
    config = composed("train", *overrides)
    settings = load(config, TrainProgram)
    write_text(root, settings, 0, ["river house"] * 600)
    write_text(root, settings, 1, sentences(600))
    model_is = model_identity(settings.model, root)
    activations = artifact_id(store_identity(TEXT, [0, 2], settings.store, 7, model_is))
    bank = build(Key(root, "saes", "topk-4-3", {"activations": activations}), write_bank)
    at = trained(root / "runs" / "train" / "a", [], bank.path)
    OmegaConf.save(config, at / ".hydra" / "config.yaml")
    return at


@pytest.fixture(scope="module")
def out(run: Path) -> Path:
    folder = run.parents[4] / "out"
    main([str(run), "--out", str(folder), "--tokens", "5000", "--contexts", "3"])
    return folder


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_latents_are_found_to_mean_what_they_read(out: Path):
    rows = {(row["hook"], int(row["latent"])): row for row in table(out / "latents.csv")}
    read = {(at, i): what for at, row in PLANTED.items() for i, what in enumerate(row)}
    assert rows.keys() == {key for key, what in read.items() if what is not None}
    for key, row in rows.items():
        said = (row["token"], row["monosemantic"], row["enriched tokens"])
        assert said == (("paris", "yes", "1") if read[key] == TOKEN else ("", "no", "0"))
        if read[key] == EVERYTHING:
            assert float(row["rate"]) == float(row["mean activation"]) == 1.0
        if read[key] == TOKEN:
            assert float(row["fold"]) == pytest.approx(12, rel=0.1)
            assert float(row["share on token"]) == 1.0
            assert "[paris]" in row["context"]


def test_the_table_of_enriched_tokens_counts_what_is_in_the_first_half(out: Path):
    rows = table(out / "enrichment.csv")
    assert [(row["hook"], row["latent"], row["token"]) for row in rows] == [
        ("layer_0", "0", "paris"),
        ("layer_2", "3", "paris"),
    ]
    latents = table(out / "latents.csv")
    (latent,) = [row for row in latents if (row["hook"], row["latent"]) == ("layer_0", "0")]
    assert int(rows[0]["firings"]) == int(latent["firings"]) - int(latent["other firings"]) > 100


def test_contexts_have_their_token_between_its_neighbours(out: Path):
    lines = [json.loads(line) for line in (out / "contexts.jsonl").read_text().splitlines()]
    (line,) = [one for one in lines if (one["hook"], one["latent"]) == ("layer_0", 0)]
    documents = sentences(600)
    assert len({one["document"] for one in line["contexts"]}) == 3
    for one in line["contexts"]:
        said = f"{one['before']} {one['token']} {one['after']}".removeprefix("<eos>").strip()
        assert one["token"] == "paris"
        assert said in documents[one["document"]]


def test_what_is_counted_is_printed_with_its_limits(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main([str(run), "--out", str(tmp_path), "--tokens", "3000", "--layers", "2"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split()[:5] == ["layer_2", "4", "1", "1", "1"]
    assert "over 36 pairs" in printed  # three latents that fire, 12 words
    assert "at least 20 firings in 5 windows, at least 90% of them" in printed
    assert "independent draws" in printed
    drawn = (tmp_path / "latents.svg").read_text()
    for said in ("enriched", "monosemantic", "silent"):
        assert f">{said}<" in drawn


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run in outputs of its own, to be spoilt."""
    outputs = shutil.copytree(run.parents[3], tmp_path / "outputs", symlinks=True)
    folder = outputs / "tiny" / "runs" / "train" / "a"
    (link,) = (folder / "artifacts").iterdir()
    bank = outputs / "tiny" / "saes" / link.resolve().name
    link.unlink()
    link.symlink_to(bank)
    return folder


def refused(folder: Path, match: str, *options: str):
    with pytest.raises(SystemExit, match=match):
        main([str(folder), "--out", str(folder / "out"), *options])


def test_a_run_whose_corpus_is_gone_is_one_line(copy: Path):
    shutil.rmtree(copy.parents[2] / "corpora")
    refused(copy, r"corpora: no text there gives, .*run train.py again")


def test_a_model_that_has_changed_is_one_line(copy: Path):
    settings = copy / ".hydra" / "config.yaml"
    settings.write_text(settings.read_text().replace("dtype: fp32", "dtype: bf16"))
    refused(copy, r"no text there gives, with this model as it is now")


def test_a_run_without_a_bank_is_one_line(copy: Path):
    (copy / "metrics.json").unlink()
    refused(copy, "no run there made an SAE bank; give one of train")


def test_a_bank_of_ready_activations_has_no_text(copy: Path):
    settings = copy / ".hydra" / "config.yaml"
    settings.write_text(settings.read_text().replace("kind: text", "kind: activations"))
    refused(copy, "ready activations, without a text")


def test_of_several_runs_the_newest_with_a_bank_is_read(copy: Path):
    other = shutil.copytree(copy, copy.with_name("b"), symlinks=True)
    settings = other / ".hydra" / "config.yaml"
    settings.write_text(settings.read_text().replace("kind: text", "kind: activations"))
    os.utime(other / "metrics.json", (0, 0))
    assert find_subject(copy.parent)[:3] == find_subject(copy)[:3]
    (copy / "metrics.json").unlink()
    refused(copy.parent, "b: its bank is of ready activations")


def test_options_that_cannot_be_met_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    at = ("--out", str(tmp_path))
    with pytest.raises(
        SystemExit, match=r"--layers: the bank has none of \[1, 9\], only of \[0, 2\]"
    ):
        main([str(run), *at, "--layers", "9,0,1"])
    with pytest.raises(SystemExit):
        main([str(run), *at, "--layers", "a"])
    assert "must be block indices with commas, as 0,3; got 'a'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--tokens: so many are of one document"):
        main([str(run), *at, "--tokens", "1"])
