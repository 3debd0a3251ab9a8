"""Models that are made here, of worlds and of GGUF files: where they lie, what they hang on."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from ghosttrack.artifacts import Key
from ghosttrack.errors import ConfigError
from ghosttrack.files import sha256_file
from ghosttrack.models.config import ModelConfig
from ghosttrack.models.gguf import gguf_file
from ghosttrack.pipelines.fingerprint import hashed
from ghosttrack.world.facts import FOLDER, Recipe, WorldSpec

SCHEMA = 1
"""Version of the files of a model that is made here."""


def embedded_folder(model: ModelConfig, root: Path) -> Path:
    """Say where a model lies whose settings name no folder and no hub, made or not."""
    if file := gguf_file(model.path):
        return converted_key(file, model, root).folder
    return FOLDER if model.world is None else world_model_key(model, root).folder


def world_folder(model: ModelConfig, embedded: Path) -> Path:
    """Find the model folder whose `world.json` tells what its world is."""
    named = model.path or model.hub
    return embedded if named is None else Path(named)


def converted_key(file: Path, model: ModelConfig, root: Path) -> Key:
    """Say what the folder that is made of a GGUF file is found by."""
    identity = {"file": _hash(file, file.stat().st_mtime_ns), "schema": SCHEMA}
    code = hashed("ghosttrack.models.gguf", "convert")
    return Key(root, "models", model.name, {**identity, "code": code})


@cache
def _hash(file: Path, changed_ns: int) -> str:
    """Read gigabytes once, for all who ask about one state of the file."""
    return sha256_file(file)


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
