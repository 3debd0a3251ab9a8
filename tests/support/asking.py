"""A tiny model's answers to a few questions, for tests of what follows them."""

import json
from pathlib import Path

from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
from tests.support.settings import detection


def ask(model: Path, folder: Path, rows: list[dict[str, object]], *more: str) -> Detection:
    """Ask the model at `model` these questions; everything is written under `folder`."""
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        *(f"model.path={model}", "model.name=tiny", f"output_root={folder}", "model.device=cpu"),
        *("questions=file", f"questions.path={path}", "questions.max_new_tokens=2"),
        *("asking=plain", *more),
    ]
    return Detection(Setup(detection(*settings), Run(folder, "detect")))
