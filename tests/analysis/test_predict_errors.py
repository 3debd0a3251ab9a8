"""Errors that one latent of the deeper layer gives away."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from ghosttrack.analysis.predict_errors import main
from ghosttrack.artifacts import Key, build
from ghosttrack.files import write_json
from ghosttrack.pipelines.track_files import save_latents
from tests.support.answers import made_up_answers

N = 120


def write_tracks(root: Path) -> Path:
    """Layer 0 is noise; in layer 1 latent 3 is active where the answer is wrong."""
    labels = np.arange(N) % 2
    pairs = tuple(f"g{i // 2}" for i in range(N))
    answers = replace(made_up_answers(N, N), labels=labels, groups=pairs)
    generator = np.random.default_rng(0)
    noise = generator.random((N, 8)) * (generator.random((N, 8)) > 0.5)
    telling = noise.copy()
    telling[:, 3] = labels * (1.0 + noise[:, 3])
    asked = build(
        Key(root, "answers", "tiny", {"n": N}),
        lambda folder: answers.save(folder / "answers.parquet"),
    )
    bank = build(
        Key(root, "saes", "topk-8-4", {"d_sae": 8}),
        lambda folder: write_json(folder / "bank.json", {"hooks": ["layer_0", "layer_5"]}),
    )
    return build(
        Key(root, "tracks", "baseline", {"bank": bank.id, "answers": asked.id}),
        lambda folder: save_latents(
            folder / "latents.safetensors", [csr_array(noise), csr_array(telling)]
        ),
    ).path


def test_the_layer_that_knows_is_told_from_the_one_that_does_not(tmp_path: Path):
    tracks = write_tracks(tmp_path / "tiny")
    out = tmp_path / "out"
    main([str(tracks), "--out", str(out), "--n-folds", "3", "--n-bootstrap", "200"])
    with (out / "errors.csv").open() as file:
        rows = {row["layer"]: row for row in csv.DictReader(file)}
    assert float(rows["5"]["AUROC"]) == 1.0
    assert float(rows["0"]["AUROC low"]) < 0.6
    assert {row["groups"] for row in rows.values()} == {"60"}
    assert (out / "errors.svg").is_file()


def test_what_is_neither_tracks_nor_an_evaluation_is_refused(tmp_path: Path):
    bank = build(Key(tmp_path, "saes", "topk-8-4", {}), lambda folder: write_json(folder / "a", 1))
    with pytest.raises(SystemExit, match="neither tracks nor an evaluation"):
        main([str(bank.path), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("option", ["--n-folds=1", "--n-bootstrap=0", "--seed=-1"])
def test_a_number_that_is_too_small_is_refused_by_its_name(option: str, capsys):
    with pytest.raises(SystemExit):
        main(["tracks", option])
    name, _, value = option.partition("=")
    assert f"argument {name}: must be " in (said := capsys.readouterr().err)
    assert said.endswith(f"got {value}\n")
