"""A model that is made here, before a program that needs it begins: of a world, of a GGUF file."""

import logging
from pathlib import Path

from ghosttrack.artifacts import build, is_complete
from ghosttrack.config import ExtractProgram
from ghosttrack.errors import ConfigError
from ghosttrack.models.gguf import convert, gguf_file
from ghosttrack.pipelines.model_folders import converted_key, world_model_key, world_recipe

log = logging.getLogger(__name__)


def make_model(config: ExtractProgram) -> None:
    """Make the model of the settings where it is one that is made here, and missing.

    torch is imported only if it is.

    Raises:
        ConfigError: It is missing and `auto` is off, or no more than an estimate is wanted; or a
            GGUF file cannot be read.
    """
    root = Path(config.output_root) / config.model.name
    if file := gguf_file(config.model.path):
        key = converted_key(file, config.model, root)
        if is_complete(key.folder):
            return
        log.info("dequantising %s, once", file)
        build(key, lambda folder: convert(file, folder))
    elif config.model.world is not None:
        _make_world_model(config, root)


def _make_world_model(config: ExtractProgram, root: Path) -> None:
    key, (spec, recipe) = world_model_key(config.model, root), world_recipe(config.model)
    if is_complete(key.folder):
        return
    from ghosttrack.world.measure import make_measured

    _check_may_train(config)
    log.info("no model of this world yet: training it, for some minutes of two cores")
    build(key, lambda folder: make_measured(folder, spec, recipe))


def _check_may_train(config: ExtractProgram) -> None:
    cure = "`python extract.py` with the same settings but"
    if config.estimate:
        raise ConfigError(
            "estimate=true cannot tell before the model of this world is trained; run"
            f" {cure} estimate=false, which takes some minutes"
        )
    if not config.auto:
        raise ConfigError(f"auto=false and there is no model of this world; run {cure} auto=true")
