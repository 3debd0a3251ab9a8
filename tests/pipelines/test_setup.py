from pathlib import Path

import pytest

from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.extract import store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
from ghosttrack.world.facts import FOLDER, load_spec
from tests.support.commands import Workplace, contents, only, said
from tests.support.settings import detection, extraction

OF_TEXT = {"column", "bad_files", "subset", "split", "revision"}


def corpus_identity(folder: Path, *settings: str) -> dict[str, object]:
    return Setup(extraction(*settings), Run(folder, "extract")).corpus_identity


def test_the_embedded_worlds_identity_knows_no_settings_of_text(tmp_path: Path):
    identity = corpus_identity(tmp_path)
    assert identity["content"] == load_spec(FOLDER).to_json()
    assert not OF_TEXT & identity.keys()


def test_whose_text_a_bank_reads_is_part_of_its_identity(tmp_path: Path):
    natural, *others = (
        corpus_identity(tmp_path, f"corpus.coverage={name}")
        for name in ("natural", "balanced", "held_out")
    )
    assert natural == corpus_identity(tmp_path)
    assert "coverage" not in natural
    assert [one.pop("coverage") for one in others] == ["balanced", "held_out"]
    assert others == [natural, natural]


def test_a_corpus_of_text_is_known_by_its_documents_and_its_numbers(tmp_path: Path):
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, text in zip(paths, ("one", "one", "two"), strict=True):
        path.write_text(text)
    same, moved, other = (
        corpus_identity(tmp_path, "corpus=text", f"corpus.path={path}") for path in paths
    )
    assert same == moved != other
    shorter = corpus_identity(
        tmp_path, "corpus=text", f"corpus.path={paths[0]}", "corpus.num_tokens=9"
    )
    assert shorter["content"] == same["content"]
    assert shorter != same


@pytest.mark.slow
def test_a_dataset_gives_the_store_that_its_text_gives(workplace: Workplace, tmp_path: Path):
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    lines = workplace.corpus.read_text().splitlines()
    Dataset.from_dict({"body": lines}).save_to_disk(tmp_path / "dataset")
    settings = ("corpus=huggingface", f"corpus.path={tmp_path / 'dataset'}", "corpus.column=body")
    said(workplace.fork(tmp_path / "of dataset", "extract", *settings))
    said(workplace.fork(tmp_path / "of text", "extract"))
    stores = [only(tmp_path / of, "activations") for of in ("of dataset", "of text")]
    assert contents(stores[0]) == contents(stores[1])
    assert stores[0].name != stores[1].name
    assert "found" in said(workplace.fork(tmp_path / "of dataset", "extract", *settings))


def test_a_seed_of_the_bank_or_of_the_folds_changes_nothing_else(tmp_path: Path):
    def ids(*settings: str) -> tuple[str, str, str]:
        stages = Detection(Setup(detection(*settings), Run(tmp_path, "detect")))
        return store_stage(stages.setup).id, stages.bank.id, stages.evaluation.id

    usual = ids()
    assert [a == b for a, b in zip(usual, ids("sae.seed=1"), strict=True)] == [True, False, False]
    split = ids("evaluation.seed=1")
    assert [a == b for a, b in zip(usual, split, strict=True)] == [True, True, False]
    both = ids("seed=1")
    assert not set(usual) & set(both)
    assert both == ids("seed=1", "sae.seed=1", "evaluation.seed=1")
