"""Which fitted detectors there are for a real model, whatever they were fitted on."""

import logging
from pathlib import Path
from typing import Any

from ghosttrack.artifacts import is_complete
from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import ConfigError
from ghosttrack.files import read_json
from ghosttrack.models.config import ModelConfig
from ghosttrack.questions.config import QuestionKind
from ghosttrack.world.facts import WORLD_FILE

FACTS = "asking.json"
"""How a detector's questions were asked, beside its parameters."""

log = logging.getLogger(__name__)


def kept_detector(config: DetectProgram) -> Path | None:
    """Choose the newest detector of a real model where no questions are named; None: settings do.

    Raises:
        ConfigError: There is none, or those that there are lie under another `model.name`.
    """
    model = config.model
    found = fitted_for(config)
    if config.questions.kind is QuestionKind.ghostworld and _is_real(model):
        if not found:
            raise ConfigError(
                f"nothing is fitted for {_lies_in(model)} under output_root="
                f"{config.output_root}; name the questions to fit a detector on, as questions=file"
                " questions.path=<file>"
            )
        log.info("no questions= named: judged by the newest detector, %s", _told(found[0]))
        return found[0]
    if found and model.name not in {folder.parents[1].name for folder in found}:
        raise ConfigError(other_settings(found))
    return None


def fitted_for(config: DetectProgram) -> list[Path]:
    """Find the detectors of a real model, newest first."""
    if not _is_real(config.model):
        return []
    folders = Path(config.output_root).glob("*/detectors/*/")
    found = [
        folder
        for folder in folders
        if is_complete(folder) and _lies_in(_facts(folder)["model"]) == _lies_in(config.model)
    ]
    return sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)


def other_settings(found: list[Path]) -> str:
    """Say that none of the detectors of a model is of the settings, and what can be done."""
    there = "; ".join(map(_told, found))
    return (
        f"no detector of these settings; fitted for this model: {there}. Give the settings of"
        " one, or no questions= for the newest; `python detect.py` with these settings fits another"
    )


def _told(folder: Path) -> str:
    asked = _facts(folder)["questions"]
    where = f" questions.path={path}" if (path := asked.get("path")) else ""
    return f"{folder} (questions={asked['name']}{where})"


def _facts(folder: Path) -> dict[str, Any]:
    return read_json(folder / FACTS)


def _is_real(model: ModelConfig) -> bool:
    """Tell whether a model is of no generated world."""
    where = model.path or model.hub
    return where is not None and not (Path(where) / WORLD_FILE).exists()


def _lies_in(model: ModelConfig | dict[str, Any]) -> str:
    """Give a model's folder, file or hub id."""
    path, hub = (
        (model["path"], model["hub"]) if isinstance(model, dict) else (model.path, model.hub)
    )
    if path is None:
        return str(hub)
    return str(Path(path).resolve()) if Path(path).exists() else path
