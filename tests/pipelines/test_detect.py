import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ghosttrack.artifacts import KINDS
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.output_scores import OUTPUT_SCORES
from ghosttrack.detector.catalogue import SPECS
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.knownness import SUBJECT_STATISTICS
from ghosttrack.detector.tracks.lens import LENS_STATISTICS
from ghosttrack.detector.tracks.statistics import (
    TRACK_STATISTICS,
)
from ghosttrack.files import read_json
from ghosttrack.sae.bank import Bank
from tests.report.materials import unpacked
from tests.support.commands import Workplace, artifacts, said, times
from tests.support.programs import Done

pytestmark = pytest.mark.slow


def test_the_job_leaves_every_artefact_and_a_report(done: Done):
    store, bank = done.made["activations"], done.made["saes"]
    shards = sorted(file.name for file in store.glob("*.safetensors"))
    assert shards[0] == "heldout-00000.safetensors"
    assert len([name for name in shards if name.startswith("train-")]) >= 10
    assert sorted(load_file(store / shards[-1])) == [
        "document_ids", "layer_0", "layer_1", "layer_2", "positions", "token_ids",
    ]  # fmt: skip
    for layer in range(3):
        assert read_json(bank / f"layer_{layer}" / "cfg.json")["d_sae"] == 64
        assert (bank / f"layer_{layer}" / "sae_weights.safetensors").is_file()
    assert Bank.load(bank).k == 8
    evaluation = done.made["evaluations"]
    page = (evaluation / "report.html").read_text()
    assert "<title>GhostTrack" in page
    assert all(len(one["token_risks"]) == len(one["tokens"]) for one in unpacked(page))
    assert (evaluation / "figures" / "roc.svg").is_file()
    assert (evaluation / "tables" / "detectors.csv").is_file()
    assert str(evaluation / "report.html") in done.said.strip().splitlines()[-1]


def test_the_evaluation_holds_what_others_read(done: Done):
    found = read_json(done.made["evaluations"] / "evaluation.json")
    assert (found["n"], found["n_groups"]) == (72, 24)
    assert 0.2 < found["hallucinated_frac"] < 0.8
    keys = "detector subset n auroc auroc_ci auprc accuracy precision recall f1 ece forwards"
    assert all(set(keys.split()) <= set(row) for row in found["rows"])
    named = {row["detector"] for row in found["rows"]}
    detectors = "output_best output lens probe raw_latents tracks tracks+output ghosts+output"
    assert {*detectors.split(), "interventions+output"} <= named | set(found["left_out"])
    assert {"output", "tracks+output"} <= named
    assert {row["subset"] for row in found["rows"]} >= {"all", "p>0.5", "p>0.8"}
    assert all(set(pair) == {"a", "b", "subset", "delta", "ci"} for pair in found["paired"])
    assert {"label_shuffle", "length"} <= set(found["canaries"])
    assert {one["null"] for one in found["tracking"]} == {"null:shuffled"}
    by_layer = {f"share of layer {layer} that goes on" for layer in (0, 1)}
    assert by_layer < {one["measure"] for one in found["tracking"]}
    assert {one["layers"] for one in found["causal"]} <= {"all", "0 to 1", "1 to 2"}


def test_metrics_tell_the_quality_of_every_hook_point_and_the_seconds_of_every_stage(done: Done):
    for file in (done.made["saes"], done.made["evaluations"]):
        hooks = read_json(file / "metrics.json")["hooks"]
        assert [hook["layer"] for hook in hooks] == [0, 1, 2]
        assert all(
            {"fvu", "explained_variance", "l0", "dead_frac", "mse"} <= set(hook) for hook in hooks
        )
        assert all(hook["l0"] <= 8 for hook in hooks)
    run = min((done.output / "tiny" / "runs" / "detect").glob("2*"))
    metrics = read_json(run / "metrics.json")
    assert 2**27 < metrics["memory_bytes"]["host"] < 2**35
    assert metrics["memory_bytes"]["gpu"] >= 0
    seconds = metrics["seconds"]
    assert {
        "extract",
        "train",
        "answer",
        "ask again",
        "self-checks",
        "track",
        "evaluate",
        "report",
    } <= set(seconds)
    linked = {link.resolve() for link in (run / "artifacts").iterdir()}
    kinds = ("corpora", "activations", "saes", "answers", "tracks", "detectors", "evaluations")
    assert linked == {
        folder.resolve() for kind in kinds for folder in artifacts(done.output, kind).values()
    }


def test_what_is_computed_is_what_the_table_of_statistics_holds(done: Done):
    folders = [done.made["tracks"], *artifacts(done.output, "answers").values()]
    apart = ("lens_trajectory", "null-", "causal", "continued", "persistence-", "tokens", "rivals")
    computed = set()
    for file in (one for folder in folders for one in folder.glob("*.parquet")):
        if file.stem == "answers":
            computed |= set(Answers.load(file).output.names)
        elif not file.stem.startswith(apart):
            computed |= set(Table.load(file).names)
    one_pass = [score.spec for score in OUTPUT_SCORES]
    one_pass += [*LENS_STATISTICS, *TRACK_STATISTICS, *SUBJECT_STATISTICS]
    assert {spec.name for spec in one_pass} <= computed
    assert computed <= {spec.name for spec in SPECS}


def test_nothing_but_the_log_and_the_closing_table_is_printed(done: Done):
    assert done.complaints == ""


def test_the_same_command_again_does_no_work(workplace: Workplace, done: Done):
    before = {kind: times(done.output, kind) for kind in KINDS}
    printed = said(workplace.fork(done.output, "detect"))
    assert {kind: times(done.output, kind) for kind in KINDS} == before
    assert "built" not in printed
    # bank, answers, interventions, self-checks, tracks, detectors, evaluation
    assert printed.count("found ") == 7
    table = [line for line in printed.splitlines() if " [" in line and ":" not in line]
    assert len(table) >= 8
    assert set(table) <= set(done.said.splitlines())


@pytest.mark.long
@pytest.mark.parametrize("position", ["answer_span", "max_pool"])
def test_a_position_moves_the_tracks_of_statistics_and_not_those_that_are_drawn(
    workplace: Workplace, done: Done, tmp_path: Path, position: str
):
    output = tmp_path / "output"
    shutil.copytree(done.output, output, symlinks=True)
    said(workplace.fork(output, "detect", f"detector.position={position}"))
    (moved,) = (
        one for name, one in artifacts(output, "tracks").items() if name != done.made["tracks"].name
    )
    same = {
        name: (moved / name).read_bytes() == (done.made["tracks"] / name).read_bytes()
        for name in ("lens.parquet", "tracks.safetensors", "promotes.json", "tracks.parquet")
    }
    assert same == {
        "lens.parquet": True,
        "tracks.safetensors": True,
        "promotes.json": True,
        "tracks.parquet": False,
    }
    peaks = {f"peak_{spec.name}" for spec in TRACK_STATISTICS}
    names = set(Table.load(moved / "tracks.parquet").names)
    assert names & peaks == (peaks if position == "answer_span" else set())
    (kept,) = (
        one
        for name, one in artifacts(output, "detectors").items()
        if name != done.made["detectors"].name
    )
    assert "tracks+output" not in {one["name"] for one in read_json(kept / "detectors.json")}


def test_nothing_half_done_is_left(done: Done):
    kinds = [one for one in (done.output / "tiny").iterdir() if one.is_dir() and one.name != "runs"]
    leftovers = [one.name for kind in kinds for one in kind.iterdir() if one.suffix == ".partial"]
    assert leftovers == []
    assert not list(done.output.rglob("*.tmp"))
