import json
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.files import read_json
from tests.support.commands import Workplace, artifacts, only, said

pytestmark = pytest.mark.slow

N_SAMPLES, N_LAYERS, N_POSITIONS, D = 300, 4, 3, 16
HOOKS = [f"layer_{layer}_pos_{pos}" for layer in range(N_LAYERS) for pos in range(N_POSITIONS)]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings for the JSON of a small study: samples with a few directions at every hook point."""
    draw = np.random.default_rng(0)
    directions = draw.normal(size=(N_LAYERS, N_POSITIONS, 8, D))
    chosen = draw.integers(8, size=(N_SAMPLES, N_LAYERS, N_POSITIONS, 2))
    samples = []
    for number in range(N_SAMPLES):
        thoughts = {
            f"layer_{layer}": [
                directions[layer, pos, chosen[number, layer, pos]].sum(0).round(4).tolist()
                for pos in range(N_POSITIONS)
            ]
            for layer in range(N_LAYERS)
        }
        samples.append({"problem_id": number // 2, "thoughts": thoughts})
    path = tmp_path_factory.mktemp("ready") / "thoughts.json"
    path.write_text(json.dumps({"samples": samples}))
    return [
        *("corpus=activations", f"corpus.path={path}"),
        # A model that is not there: nobody may look for it.
        *("model.path=nowhere", "sae.d_sae=32", "sae.k=2", "sae.batch_size=60"),
    ]


def for_extract(settings: list[str]) -> list[str]:
    return [word for word in settings if not word.startswith("sae.")]


def test_ready_activations_train_every_layer_and_position_as_one_bank(
    workplace: Workplace, ready: list[str], tmp_path: Path
):
    printed = said(workplace.fork(tmp_path, "train", *ready))
    assert "no activation store for this configuration yet" in printed
    bank = only(tmp_path, "saes")
    assert sorted(one.name for one in bank.glob("layer_*")) == HOOKS
    rows = read_json(bank / "metrics.json")["hooks"]
    assert [row["hook"] for row in rows] == HOOKS
    assert max(row["fvu"] for row in rows) < 0.9
    store = read_json(only(tmp_path, "activations") / "store.json")
    assert (store["hooks"], store["n_train"], store["n_heldout"]) == (HOOKS, 240, 60)

    assert "found" in said(workplace.fork(tmp_path, "extract", *for_extract(ready)))
    said(workplace.fork(tmp_path, "train", *ready, "sae.k=3", "experiment=layers_x_positions"))
    assert len(artifacts(tmp_path, "activations")) == 1
    assert len(artifacts(tmp_path, "saes")) == 2


def test_some_layers_of_ready_activations_are_converted(
    workplace: Workplace, ready: list[str], tmp_path: Path
):
    said(workplace.fork(tmp_path, "extract", *for_extract(ready), "layers=[3,1]"))
    store = read_json(only(tmp_path, "activations") / "store.json")
    assert store["hooks"] == HOOKS[3:6] + HOOKS[9:]


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        (["train.source=stream"], "config: corpus=activations has no text for a language model"),
        (["layers=[0,9]"], "config: layers must be among [0, 1, 2, 3] of corpus.path, got [9]"),
        (
            ["+corpus.num_tokens=100"],
            "config: corpus.num_tokens is not a setting of corpus=activations",
        ),
        (["corpus.path=no.json"], "config: corpus.path=no.json: no such file or folder"),
    ],
)
def test_what_ready_activations_cannot_do_is_answered_in_one_line(
    workplace: Workplace, ready: list[str], tmp_path: Path, more: list[str], answer: str
):
    result = workplace.fork(tmp_path, "train", *ready, *more)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert answer in result.stderr
    assert artifacts(tmp_path, "activations") == {}


def test_an_estimate_needs_the_converted_store_and_no_model(
    workplace: Workplace, ready: list[str], tmp_path: Path
):
    result = workplace.fork(tmp_path, "train", *ready, "estimate=true")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("config: estimate=true cannot tell of corpus=activations before")
    said(workplace.fork(tmp_path, "extract", *(one for one in ready if "sae." not in one)))
    printed = said(workplace.fork(tmp_path, "train", *ready, "estimate=true"))
    phases = [line.split()[0] for line in printed.splitlines() if line[:1].islower()]
    assert phases == ["phase", "tokenise", "extract", "train", "measure", "total"]
    assert artifacts(tmp_path, "saes") == {}
