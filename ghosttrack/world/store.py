"""The folder of a world's model: Hugging Face files, and `world.json` that says which world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import read_json, write_json
from ghosttrack.world.facts import WorldSpec
from ghosttrack.world.recipe import Recipe
from ghosttrack.world.text import vocabulary_hash

FOLDER: Final = Path(__file__).parent / "weights"
"""The embedded model, made by `python -m ghosttrack.world`."""
WORLD_FILE: Final = "world.json"


def load_spec(folder: Path) -> WorldSpec:
    """Read which world a model was trained on.

    Raises:
        DataError: the folder is not that of a world's model, or its `world.json` is broken or
            was left behind by a rebuild that did not end.
    """
    path = folder / WORLD_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {WORLD_FILE}: corpus=ghostworld and questions=ghostworld need a "
            "model made by `python -m ghosttrack.world`; for others set corpus=text questions=file"
        )
    facts = read_json(path)
    if not isinstance(facts, dict) or not facts.get("measured"):
        raise DataError(f"{path} is unfinished; run `python -m ghosttrack.world` for it again")
    try:
        return WorldSpec.from_json(facts.get("spec"))
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def save_model(folder: Path, model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write model and tokenizer as `AutoModelForCausalLM` and `AutoTokenizer` read them.

    The weights rest in half precision, to which the model is rounded here: that changes next to no
    answer and halves the package. The configuration asks readers to compute in single precision.
    """
    model.half().save_pretrained(folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "dtype": "float32"})
    tokenizer.save_pretrained(folder)


def save_world(
    folder: Path,
    spec: WorldSpec,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    measured: Mapping[str, float],
) -> None:
    """Write `world.json`: what the model was made from, and how well it learned it.

    With nothing measured it marks a folder whose other files are still being written.
    """
    write_json(
        folder / WORLD_FILE,
        {
            "spec": spec.to_json(),
            "recipe": recipe.to_json(),
            "tokenizer": vocabulary_hash(tokenizer),
            "measured": dict(measured),
        },
    )
