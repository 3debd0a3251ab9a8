"""A tiny model's answers to a few questions, for tests of what follows them."""

import json
from pathlib import Path

from hydra import compose, initialize_config_dir

from ghosttrack.config import DetectProgram, load
from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
from tests.support.commands import ROOT


def ask(model: Path, folder: Path, rows: list[dict[str, object]], *more: str) -> Detection:
    """Ask the model at `model` these questions; everything is written under `folder`."""
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        *(f"model.path={model}", "model.name=tiny", f"output_root={folder}", "device=cpu"),
        *("questions=file", f"questions.path={path}", "questions.max_new_tokens=2", *more),
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = load(compose("detect", overrides=settings), DetectProgram)
    return Detection(Setup(config, Run(folder, "detect")))
