"""Runs and artefacts as the programs leave them, written in milliseconds."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from ghosttrack.analysis.runs import BankRecord
from ghosttrack.artifacts import Key, build
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.files import write_json
from ghosttrack.report.tables import write_scores
from tests.report.materials import LABELS, N, evaluation


def hook(
    layer: int, *, pos: int | None = None, fvu: float = 0.1, **more: float
) -> dict[str, object]:
    """A row of a bank's `metrics.json`."""
    return {
        "layer": layer,
        "hook": f"layer_{layer}" if pos is None else f"layer_{layer}_pos_{pos}",
        "fvu": fvu,
        "explained_variance": 1 - fvu,
        "dead_frac": 0.25,
        "l0": 8.0,
        "mse": fvu / 10,
        "cosine": 0.9,
        "n_tokens": 2048,
        **more,
    }


def record(*hooks: dict[str, object]) -> BankRecord:
    """A bank as it is read back."""
    return BankRecord("tiny", "topk-64-8-0", "topk", 64, 8, 32, list(hooks))


def bank(root: Path, d_sae: int, k: int, hooks: Sequence[dict[str, object]]) -> Path:
    """A bank's folder without weights."""

    def write(folder: Path) -> None:
        write_json(folder / "bank.json", {"d_model": 32, "d_sae": d_sae, "k": k})
        write_json(folder / "metrics.json", {"hooks": hooks, "n_heldout_tokens": 2048})

    identity = {"d_sae": d_sae, "k": k, "hooks": list(hooks)}
    return build(Key(root, "saes", f"topk-{d_sae}-{k}", identity), write).path


def judged(root: Path, found: Evaluation | None = None, *, seed: int = 0) -> Path:
    """An evaluation's folder; the odd ones of eight answers are hallucinated."""
    found = found or evaluation()

    def write(folder: Path) -> None:
        write_json(folder / "evaluation.json", found.to_json())
        write_json(folder / "metrics.json", {"hooks": [hook(0), hook(1)]})
        (folder / "tables").mkdir()
        texts = [
            (f"question {i}?", "an answer", "wrong_known" if label else "lucky", f"g{i}")
            for i, label in enumerate(LABELS[:N])
        ]
        write_scores(folder / "tables" / "scores.csv", found, texts)

    identity = {"n_folds": 5, "n_bootstrap": 2000, "seed": seed}
    return build(Key(root, "evaluations", "tiny-baseline", identity), write).path


def run(
    folder: Path,
    program: str,
    overrides: Sequence[str] = (),
    *,
    links: Sequence[Path] = (),
    metrics: dict[str, object] | None = None,
    status: int | None = None,
) -> Path:
    """A run's folder; without metrics it did not finish, with a status it is a sweep's job."""
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True)
    model = folder.parents[2].name
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (hydra / "config.yaml").write_text(yaml.safe_dump({"model": {"name": model}}))
    (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"job": {"name": program}}}))
    for link in links:
        (folder / "artifacts").mkdir(exist_ok=True)
        (folder / "artifacts" / f"{link.parent.name}-{link.name}").symlink_to(link)
    if metrics is not None:
        write_json(folder / "metrics.json", {"duration_s": 12.5, "seconds": {}, **metrics})
    if status is not None:
        job = {"overrides": list(overrides), "exit": status, "seconds": 20.5}
        (folder / "status.json").write_text(json.dumps(job))
    return folder


def trained(folder: Path, overrides: Sequence[str], made: Path, status: int | None = 0) -> Path:
    """A finished job of train.py."""
    hooks = json.loads((made / "metrics.json").read_text())["hooks"]
    metrics: dict[str, object] = {"train": {"bank": str(made), "hooks": hooks}}
    return run(folder, "train", overrides, links=[made], metrics=metrics, status=status)


def detected(folder: Path, overrides: Sequence[str], made: Path, found: Path) -> Path:
    """A finished run of detect.py."""
    hooks = json.loads((made / "metrics.json").read_text())["hooks"]
    metrics: dict[str, object] = {"detect": {"evaluation": str(found), "hooks": hooks}}
    metrics["memory_bytes"] = {"host": 2_500_000_000, "gpu": 0}
    return run(folder, "detect", overrides, links=[made, found], metrics=metrics)
