"""Models of generated worlds: where they lie, and how one is made that is missing."""

import logging
from dataclasses import asdict
from pathlib import Path

from ghosttrack.artifacts import Artifact, Key, build, is_complete
from ghosttrack.config import ExtractProgram
from ghosttrack.errors import ConfigError
from ghosttrack.models.config import ModelConfig
from ghosttrack.pipelines.fingerprint import fingerprint
from ghosttrack.world.facts import FOLDER, WorldSpec
from ghosttrack.world.make import make
from ghosttrack.world.recipe import Recipe

SCHEMA = 1
"""Version of the files of a generated world's model."""

log = logging.getLogger(__name__)


def embedded_folder(model: ModelConfig, root: Path) -> Path:
    """Say where a model lies whose settings name neither folder nor hub, made or not.

    Args:
        model: Its settings.
        root: Folder of all that is made with it.
    """
    return FOLDER if model.world is None else _key(model, root).folder


def world_folder(model: ModelConfig, embedded: Path) -> Path:
    """Find the model folder whose `world.json` tells what its world is."""
    named = model.path or model.hub
    return embedded if named is None else Path(named)


def world_model(config: ExtractProgram, root: Path) -> Artifact:
    """Return the model of the settings' world, training it where it is missing.

    Raises:
        ConfigError: It is missing and `auto` is off, or no more than an estimate is wanted.
    """
    key, (spec, recipe) = _key(config.model, root), _recipe(config.model)
    if not is_complete(key.folder):
        _check_may_train(config)
        log.info("no model of this world yet: training it, for some minutes of two cores")
    return build(key, lambda folder: make(folder, spec, recipe))


def _key(model: ModelConfig, root: Path) -> Key:
    spec, recipe = _recipe(model)
    settings = {"world": spec.to_json(), "recipe": recipe.to_json(), "schema": SCHEMA}
    identity = {**settings, "code": fingerprint(make)}
    return Key(root, "models", model.name, identity)


def _recipe(model: ModelConfig) -> tuple[WorldSpec, Recipe]:
    assert model.world is not None, model
    assert model.n_layers is not None, model
    assert model.d_model is not None, model
    try:
        spec = WorldSpec(**asdict(model.world))
        return spec, Recipe(n_layers=model.n_layers, d_model=model.d_model)
    except ConfigError as error:
        raise ConfigError(f"model={model.name}: {error}") from error


def _check_may_train(config: ExtractProgram) -> None:
    cure = "`python extract.py` with the same settings but"
    if config.estimate:
        raise ConfigError(
            "estimate=true cannot tell before the model of this world is trained; run"
            f" {cure} estimate=false, which takes some minutes"
        )
    if not config.auto:
        raise ConfigError(f"auto=false and there is no model of this world; run {cure} auto=true")
