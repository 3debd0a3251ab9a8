import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from ghosttrack.data import huggingface
from ghosttrack.data.config import CorpusKind, DatasetText, Packing
from ghosttrack.data.huggingface import open_dataset
from ghosttrack.errors import ConfigError, DataError
from tests.support.hub import COMMIT, NAME, served

ROWS = {"text": ["one", " two\nmore ", None, "", "three"], "n": [1, 2, 3, 4, 5]}
DOCUMENTS = ["one", "two\nmore", "three"]

STREAM = """
import json, sys
from itertools import islice
from ghosttrack.data.huggingface import open_dataset
from ghosttrack.errors import GhostTrackError
from tests.data.test_huggingface import hub_config

for settings, n in json.loads(sys.argv[1]):
    try:
        found = open_dataset(hub_config(**settings))
        said = [found.identity["commit"], list(islice(found.documents(), n))]
    except GhostTrackError as error:
        said = str(error)
    print(json.dumps(said))
"""


def hub_config(path: object = NAME, **changes: object) -> DatasetText:
    settings = {
        **{"kind": CorpusKind.huggingface, "name": "test", "path": str(path), "column": "text"},
        **{"subset": None, "split": "train", "revision": None, "context": 16},
        **{"packing": Packing.documents, "num_tokens": 900, "heldout_tokens": 200},
    }
    return DatasetText(**settings | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    disable_progress_bars()
    parts = {"train": Dataset.from_dict(ROWS), "empty": Dataset.from_dict({"text": [" "]})}
    DatasetDict(parts).save_to_disk(tmp_path / "both")
    for name in ("one", "cut"):
        parts["train"].save_to_disk(tmp_path / name)
    (table,) = (tmp_path / "cut").glob("*.arrow")
    table.write_bytes(table.read_bytes()[:-200])
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(huggingface.datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface, "is_reachable", lambda: False)
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["both", "one"])
def test_what_save_to_disk_wrote_is_read(folder: Path, name: str):
    assert list(open_dataset(hub_config(folder / name)).documents()) == DOCUMENTS


def test_a_datasets_identity_is_its_content_and_column(folder: Path):
    first = open_dataset(hub_config(folder / "both")).identity
    assert open_dataset(hub_config(folder / "one")).identity == first
    assert open_dataset(hub_config(folder / "one", column="n")).identity != first
    assert open_dataset(hub_config(folder / "both", split="empty")).identity != first
    moved = shutil.copytree(folder / "both", folder / "moved")
    (moved / "train" / "cache-0123.arrow").write_bytes(b"what a map left")
    assert open_dataset(hub_config(moved)).identity == first


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("both", {"split": "test"}, r"split=test must be among \['train', 'empty'\] of .*both$"),
        ("both", {"split": "empty"}, r"both: holds no text"),
        ("cut", {}, r"^corpus\.path="),
        (
            "one",
            {"column": "body"},
            r"one: no text in 'body'; .* one of \['text'\]; not text: n \(int64\)$",
        ),
        (
            "one",
            {"column": "n"},
            r"one: no text in 'n'; .* one of \['text'\]; not text: n \(int64\)$",
        ),
        ("one", {"subset": "x"}, r"^corpus\.subset is for hub ids and .*one a folder"),
        ("one", {"revision": "x"}, r"^corpus\.revision is for hub ids"),
        ("", {}, r"^corpus\.path=.* must be a folder that save_to_disk made, or set corpus=text"),
        ("no/such", {}, r"^corpus\.path=.*no/such: no such folder, nor can it be a hub id$"),
    ],
)
def test_what_a_folder_does_not_hold_is_refused_in_one_line(
    folder: Path, name: str, changes: dict[str, str], message: str
):
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        list(open_dataset(hub_config(folder / name, **changes)).documents())
    assert "\n" not in str(caught.value)


def test_a_dataset_without_rows_is_said_to_be_empty(tmp_path: Path):
    disable_progress_bars()
    Dataset.from_dict({"text": []}).save_to_disk(str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"corpus\.path=.*none holds no rows"):
        _ = open_dataset(hub_config(tmp_path / "none")).identity


def test_an_id_without_network_is_refused_before_the_hub_is_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.undo()  # the real question, answered by a host that no name server knows
    monkeypatch.setattr(huggingface.datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(
        huggingface, "load_dataset_builder", lambda *_, **__: pytest.fail("asked the hub")
    )
    with pytest.raises(ConfigError) as caught:
        _ = open_dataset(hub_config()).identity
    message = str(caught.value)
    assert "\n" not in message
    for part in ("corpus.path=some/data", "hub.invalid", "save_to_disk", "HF_HUB_OFFLINE"):
        assert part in message


def test_a_commit_needs_no_network_to_be_known(cache: Path):
    assert open_dataset(hub_config(revision=COMMIT)).identity["commit"] == COMMIT


def test_without_network_the_cache_is_read(folder: Path, cache: Path):
    kept = cache / "some___data" / "default" / "0.0.0" / COMMIT
    shutil.copytree(folder / "one", kept)
    (table,) = kept.glob("*.arrow")
    table.rename(kept / "data-train.arrow")
    facts = json.loads((kept / "dataset_info.json").read_text())
    splits = {"train": {"name": "train", "num_examples": 5, "dataset_name": "data"}}
    facts |= {"config_name": "default", "dataset_name": "data", "splits": splits}
    (kept / "dataset_info.json").write_text(json.dumps(facts))

    found = open_dataset(hub_config())
    assert list(found.documents()) == DOCUMENTS
    assert found.identity["commit"] == COMMIT
    assert list(open_dataset(hub_config(revision=COMMIT[:7])).documents()) == DOCUMENTS
    with pytest.raises(ConfigError, match=rf"revision=v1: the cache has commit {COMMIT}"):
        open_dataset(hub_config(revision="v1")).documents()
    with pytest.raises(ConfigError, match=r"subset=x.*Available configs .*\['default'\]$"):
        open_dataset(hub_config(subset="x")).documents()


@pytest.mark.slow
def test_an_id_is_streamed_from_the_hub(tmp_path: Path):
    rows = "".join(json.dumps({"text": f"document {n}", "n": n}) + "\n" for n in range(9))
    asked = [
        ({}, 99),
        ({}, 2),
        ({"split": "valid"}, 1),
        ({"column": "body"}, 1),
        ({"subset": "x"}, 1),
        ({"path": "no/such"}, 1),
    ]
    with served({"train.jsonl": rows.encode(), "test.jsonl": b'{"text": "t"}\n'}) as address:
        result = subprocess.run(
            [sys.executable, "-c", STREAM, json.dumps(asked)],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    whole, two, split, column, subset, missing = map(json.loads, result.stdout.splitlines())
    assert whole == [COMMIT, [f"document {n}" for n in range(9)]]
    assert two == [COMMIT, ["document 0", "document 1"]]
    assert split == "corpus.split=valid must be among ['train', 'test'] of some/data"
    assert "no text in 'body'; set corpus.column to one of ['text']; not text: n" in column
    assert "corpus.subset=x" in subset
    assert "Available: ['default']" in subset
    assert missing.startswith("corpus.path=no/such")
    assert result.stderr == ""
