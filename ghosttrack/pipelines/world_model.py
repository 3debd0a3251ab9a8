"""The model of a generated world, trained before a program that needs it begins."""

import logging
from pathlib import Path

from ghosttrack.artifacts import build, is_complete
from ghosttrack.config import ExtractProgram
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.worlds import world_model_key, world_recipe
from ghosttrack.world.make import make

log = logging.getLogger(__name__)


def make_world_model(config: ExtractProgram) -> None:
    """Train the model of the settings' world where it is missing.

    Raises:
        ConfigError: It is missing and `auto` is off, or no more than an estimate is wanted.
    """
    key = world_model_key(config.model, Path(config.output_root) / config.model.name)
    spec, recipe = world_recipe(config.model)
    if not is_complete(key.folder):
        _check_may_train(config)
        log.info("no model of this world yet: training it, for some minutes of two cores")
    build(key, lambda folder: make(folder, spec, recipe))


def _check_may_train(config: ExtractProgram) -> None:
    cure = "`python extract.py` with the same settings but"
    if config.estimate:
        raise ConfigError(
            "estimate=true cannot tell before the model of this world is trained; run"
            f" {cure} estimate=false, which takes some minutes"
        )
    if not config.auto:
        raise ConfigError(f"auto=false and there is no model of this world; run {cure} auto=true")
