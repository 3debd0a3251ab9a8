"""A tiny model's answers to a few questions, for tests of what follows them."""

import json
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir

from ghosttrack.config import DetectProgram, load
from ghosttrack.pipelines.answers import Answered, answer_questions
from ghosttrack.pipelines.setup import Study
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.run import Run
from tests.support.commands import ROOT


class Asked(NamedTuple):
    """What the stages after the answers are given."""

    study: Study
    config: DetectProgram
    questions: QuestionSet
    answered: Answered


def ask(model: Path, folder: Path, rows: list[dict[str, object]], *more: str) -> Asked:
    """Let the model at `model` answer these questions; everything is written under `folder`."""
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        *(f"model.path={model}", "model.name=tiny", f"output_root={folder}", "device=cpu"),
        *("questions=file", f"questions.path={path}", "questions.max_new_tokens=2", *more),
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = load(compose("detect", overrides=settings), DetectProgram)
    study = Study(config, Run(folder, "detect"))
    questions = study.questions(config)
    return Asked(study, config, questions, answer_questions(study, questions))
