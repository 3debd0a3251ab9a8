import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ghosttrack.data.ready import convert, read_ready, ready_hooks
from ghosttrack.data.store import ActivationStore, StoreSource
from ghosttrack.errors import DataError
from tests.data.conftest import store_config

N, LAYERS, POSITIONS, D = 10, [2, 5], [3, 4, 1], 4
# problem, layer, position, d: each number tells where it stands
WHOLE = torch.arange(N * 2 * 3 * D, dtype=torch.float32).reshape(N, 2, 3, D)
IDS = [f"p{index % 7}" for index in range(N)]
HOOKS = [f"layer_{layer}_pos_{position}" for layer in LAYERS for position in (1, 3, 4)]
FACTS = {"layers": LAYERS, "positions": POSITIONS, "problem_ids": IDS}


def samples(acts: torch.Tensor = WHOLE) -> list[dict]:
    return [
        {
            "problem_id": problem,
            "question": "?",
            "thoughts": {
                f"layer_{layer}": rows.tolist() for layer, rows in zip(LAYERS, sample, strict=True)
            },
        }
        for problem, sample in zip(IDS, acts, strict=True)
    ]


def write_pt(folder: Path) -> Path:
    torch.save({"activations": WHOLE, **FACTS}, folder / "a.pt")
    return folder / "a.pt"


def write_pt_by_layer(folder: Path) -> Path:
    by_layer = {f"layer_{layer}": WHOLE[:, at] for at, layer in enumerate(LAYERS)}
    torch.save({**by_layer, "positions": torch.tensor(POSITIONS), "problem_ids": IDS}, folder / "a")
    return (folder / "a").rename(folder / "a.pt")


def write_safetensors(folder: Path) -> Path:
    metadata = {name: json.dumps(value) for name, value in FACTS.items()}
    save_file({"acts": WHOLE}, folder / "a.safetensors", metadata=metadata)
    return folder / "a.safetensors"


def write_npy_folder(folder: Path) -> Path:
    for at, layer in enumerate(LAYERS):
        np.save(folder / f"layer_{layer}.npy", WHOLE[:, at].numpy())
    facts = {"positions": POSITIONS, "problem_ids": IDS}
    (folder / "metadata.json").write_text(json.dumps(facts))
    return folder


def write_json(folder: Path) -> Path:
    (folder / "a.json").write_text(json.dumps({"model": "x", "samples": samples(), "n": N}))
    (folder / "metadata.json").write_text(json.dumps({"positions": POSITIONS}))
    return folder


WRITERS = [write_pt, write_pt_by_layer, write_safetensors, write_npy_folder, write_json]


@pytest.mark.parametrize("write", WRITERS)
def test_every_layout_gives_the_same_rows_by_hook_point(tmp_path, write):
    path = write(tmp_path)
    assert ready_hooks(path) == {2: HOOKS[:3], 5: HOOKS[3:]}
    ready = read_ready(path, [2, 5], tmp_path / "spool")
    assert list(ready.acts) == HOOKS
    assert ready.problems == IDS
    for at_layer, layer in enumerate(LAYERS):
        for at, position in enumerate(POSITIONS):
            rows = ready.acts[f"layer_{layer}_pos_{position}"]
            assert torch.equal(rows, WHOLE[:, at_layer, at])
    assert list(read_ready(path, [5], tmp_path / "spool").acts) == HOOKS[3:]


def test_without_positions_a_layer_is_a_hook_point_and_a_row_a_problem(tmp_path):
    np.save(tmp_path / "acts.npy", WHOLE[:, :, 0].numpy())
    ready = read_ready(tmp_path / "acts.npy", [0, 1], tmp_path / "spool")
    assert list(ready.acts) == ["layer_0", "layer_1"]
    assert ready.problems == [str(row) for row in range(N)]
    assert torch.equal(ready.acts["layer_1"], WHOLE[:, 1, 0])


@pytest.mark.parametrize("write", WRITERS)
def test_a_store_keeps_a_problem_on_one_side_with_all_its_rows(tmp_path, write):
    source = tmp_path / "source"
    source.mkdir()
    convert(tmp_path, write(source), LAYERS, store_config(shard_tokens=3), seed=0)
    store = ActivationStore(tmp_path)
    assert store.hooks == HOOKS
    assert store.n_train + store.n_heldout == N
    names = sorted(set(IDS))
    sides: dict[str, set] = {"train": set(), "heldout": set()}
    for shard in store.shards:
        mapped = load_file(tmp_path / shard.file)
        assert shard.n_rows <= 3
        for row, document in enumerate(mapped["document_ids"].tolist()):
            sides[shard.part].add(names[document])
            # the first hook point's first number is 24 times the problem's row, if bf16 holds it
            problem = round((float(mapped["layer_2_pos_3"][row, 0])) / 24)
            assert IDS[problem] == names[document]
            expected = WHOLE[problem, 1, 2].bfloat16()
            assert torch.equal(mapped["layer_5_pos_1"][row], expected)
    assert not sides["train"] & sides["heldout"]
    assert (len(sides["train"]), len(sides["heldout"])) == (6, 1)  # a fifth of 7, rounded
    assert StoreSource(store).sample(4).shape == (6, 4, D)
    assert not (tmp_path / ".spool").exists()


def test_another_seed_holds_out_other_problems(tmp_path):
    path = write_pt(tmp_path)
    held = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        convert(folder, path, LAYERS, store_config(), seed)
        held.append(tuple(load_file(folder / "heldout-00000.safetensors")["document_ids"]))
    assert len({tuple(map(int, one)) for one in held}) > 1


def test_json_is_read_in_the_memory_of_a_few_samples(tmp_path):
    acts = torch.randn(N, 2, 3, 100)
    text = json.dumps(samples(acts))[1:-1]
    n_samples = 20 * N
    with (tmp_path / "a.json").open("w") as file:
        file.write('{"samples": [' + ", ".join([text] * 20) + "]}")
    tracemalloc.start()
    convert(tmp_path, tmp_path / "a.json", LAYERS, store_config(), seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # a number in a list takes 32 bytes: all samples 3.8 MB, one 19 kB; ijson reads 64 kB at a time
    assert n_samples * 2 * 3 * 100 * 32 > 3_800_000
    assert peak < 1_000_000
    assert ActivationStore(tmp_path).n_train + ActivationStore(tmp_path).n_heldout == n_samples


def save(path: Path, value: object) -> None:
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif path.suffix == ".json":
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    elif path.suffix == ".npy":
        np.save(path, value)
    else:
        torch.save(value, path)


def convert_whole(folder: Path, path: Path) -> None:
    convert(folder, path, list(ready_hooks(path)), store_config(), seed=0)


def changed(number: int, thoughts: object) -> dict:
    rows = samples()
    rows[number]["thoughts"] = thoughts
    return {"samples": rows}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.npy", np.zeros((3, 4)), r"a\.npy: tensors \{'a': \[3, 4\]\} are no known layout; give"),
        ("a.npy", np.zeros((3, 2, 4), int), "layer_0 is int64 .* no known layout; give one tensor"),
        ("a.npy", np.zeros((1, 2, 4)), "holds one problem; training and held-out rows need one"),
        ("a.npy", np.array([{}, None]), r"a\.npy: not a readable \.npy file \("),
        ("a.pt", {"x": WHOLE, "y": WHOLE}, "are no known layout; give one tensor"),
        ("a.pt", {"layer_2": WHOLE}, "layer_2 is float32 .10, 2, 3, 4., no known layout"),
        ("a.pt", {"layer_0": WHOLE[:, 0], "layer_1": WHOLE[:9, 0]}, "hook points differ in shape"),
        ("a.pt", {"x": WHOLE, "layers": [1, 1]}, "layers must be 2 different integers, got"),
        ("a.pt", {"x": WHOLE, "positions": "abc"}, "positions must be 3 different integers, got"),
        ("a.pt", {"x": WHOLE, "problem_ids": [1, 2]}, "2 problem_ids for 10 rows"),
        ("a.pt", {"x": WHOLE, "f": Path("x")}, r"a\.pt: not a readable \.pt file"),
        ("a.pt", {"x": WHOLE * torch.nan}, "layer_0_pos_0 holds what is not a finite bf16"),
        ("a.json", '{"samples": [{"thoughts": ', r"a\.json: not JSON \("),
        ("a.json", {"sample": []}, 'holds no "samples"'),
        ("a.json", {"samples": [3]}, 'sample 0: has no "thoughts" of'),
        ("a.json", changed(2, {"layer_2": [[1.0]]}), "sample 2: layers .2, 5. are not each .3, 4."),
        ("a.json", changed(3, {"layer_2": [[1.0], []]}), "sample 3: thoughts are not lists of vec"),
        ("a.json", changed(4, {"layer_2": [1.0]}), 'sample 4: has no "thoughts" of "layer_<l>"'),
        ("a.txt", "1 2 3", r"a\.txt: no \.npy, \.pt, \.safetensors or \.json of activations"),
    ],
)
def test_what_is_not_accepted_is_answered_in_one_line(tmp_path, name, value, message):
    save(tmp_path / name, value)
    with pytest.raises(DataError, match=message) as error:
        convert_whole(tmp_path, tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("empty.npy", b"", "malformed", id="nothing in it"),
        pytest.param("metadata.json", b"[1]", "malformed", id="metadata that is a list"),
        pytest.param(
            "b.pt",
            {"layer_0": torch.zeros(4, 3)},
            r"layer_0\.npy: layer_0 is in another file of its folder",
            id="a name in two files",
        ),
    ],
)
def test_a_folder_with_a_file_that_fits_no_layout_is_refused(tmp_path, name, value, message):
    np.save(tmp_path / "layer_0.npy", np.zeros((4, 3), np.float32))
    save(tmp_path / name, value)
    with pytest.raises(DataError, match=message):
        ready_hooks(tmp_path)
