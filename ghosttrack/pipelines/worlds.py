"""Models of generated worlds: where they lie, and what determines them."""

from dataclasses import asdict
from pathlib import Path

from ghosttrack.artifacts import Key
from ghosttrack.errors import ConfigError
from ghosttrack.models.config import ModelConfig
from ghosttrack.pipelines.fingerprint import hashed
from ghosttrack.world.facts import FOLDER, Recipe, WorldSpec

SCHEMA = 1
"""Version of the files of a generated world's model."""


def embedded_folder(model: ModelConfig, root: Path) -> Path:
    """Say where a model lies whose settings name neither folder nor hub, made or not.

    Args:
        model: Its settings.
        root: Folder of all that is made with it.
    """
    return FOLDER if model.world is None else world_model_key(model, root).folder


def world_folder(model: ModelConfig, embedded: Path) -> Path:
    """Find the model folder whose `world.json` tells what its world is."""
    named = model.path or model.hub
    return embedded if named is None else Path(named)


def world_model_key(model: ModelConfig, root: Path) -> Key:
    """Say what the model of a generated world is found by."""
    spec, recipe = world_recipe(model)
    settings = {"world": spec.to_json(), "recipe": recipe.to_json(), "schema": SCHEMA}
    code = hashed("ghosttrack.world.make", "make")  # whoever finds the model never imports it
    return Key(root, "models", model.name, {**settings, "code": code})


def world_recipe(model: ModelConfig) -> tuple[WorldSpec, Recipe]:
    """Say which world a model is of, and how it learns it.

    Raises:
        ConfigError: There can be no such world or model.
    """
    assert model.world is not None, model
    assert model.n_layers is not None, model
    assert model.d_model is not None, model
    try:
        spec = WorldSpec(**asdict(model.world))
        return spec, Recipe(n_layers=model.n_layers, d_model=model.d_model)
    except ConfigError as error:
        raise ConfigError(f"model={model.name}: {error}") from error
