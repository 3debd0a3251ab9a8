"""The three programs' schemas, and the strict `load` between Hydra and everything else.

Values stand in `conf/`, names and types here and beside the package that they configure. Hydra
answers a mistyped override by itself; `load` answers what Hydra lets through.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ghosttrack.data.config import CORPORA, CorpusConfig, CorpusKind, ExtractConfig, StoreConfig
from ghosttrack.errors import ConfigError, DataError, check_numbers, first_line
from ghosttrack.models.config import ModelConfig, ModelSource
from ghosttrack.models.sizing import BankSettings, Sizes, bank_settings
from ghosttrack.processes import has_gpu
from ghosttrack.sae.config import Precision, SAEConfig, TrainRunConfig
from ghosttrack.world.facts import WORLD_FILE

Schema = TypeVar("Schema")
PATHS = (
    *("model.path", "corpus.path", "questions.path", "asking.shots_path"),
    *("bank", "output_root"),
)
PROMPTS = (
    *("asking.template", "asking.p_true", "asking.system", "asking.stop"),
    *("questions.template", "questions.stop"),
)


@dataclass
class ExtractProgram:
    """Settings of `extract.py`: a model reads a corpus, an activation store comes out."""

    model: ModelConfig
    corpus: CorpusConfig
    store: StoreConfig
    extract: ExtractConfig
    layers: Any
    """`all`, or a list of block indices from 0; OmegaConf has no union of the two."""
    output_root: str
    """Folder under which everything is written."""
    seed: int
    """Seeds every random choice."""
    auto: bool
    """Build what is missing upstream; false names the command that does."""
    verify: bool
    """Compare the checksum of every file of every artefact that is read."""
    estimate: bool
    """Measure a little of every phase, say what the whole of it takes, and build nothing."""

    def __post_init__(self) -> None:
        _check_layers(self.layers)


Program = TypeVar("Program", bound=ExtractProgram)


@dataclass
class TrainProgram(ExtractProgram):
    """Settings of `train.py`: activations in, an SAE bank out."""

    sae: SAEConfig
    train: TrainRunConfig
    trainer: dict[str, Any]
    """Arguments of `pytorch_lightning.Trainer`."""
    logger: dict[str, Any]
    """A Lightning logger."""

    @property
    def precision(self) -> Precision:
        """`train.precision`, resolved for the device that trains."""
        if self.train.precision is not Precision.auto:
            return self.train.precision
        accelerator = self.trainer["accelerator"]
        is_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and has_gpu())
        return Precision.bf16 if is_gpu else Precision.fp32

    @property
    def names_wandb(self) -> bool:
        """Tell whether it is W&B's."""
        return self.logger["_target_"].endswith("WandbLogger")

    @property
    def examined(self) -> list[str]:
        """Name what a run is about, for its tags."""
        return [self.sae.architecture.name, f"d_sae={self.sae.d_sae}", f"k={self.sae.k}"]

    @property
    def runs_model(self) -> bool:
        """Tell whether a language model reads anything."""
        return self.corpus.is_text


def by_size(setting: str, own: object, *, _root_: DictConfig) -> object:
    """Resolve a setting tuned on the embedded model, where another may stand in its place.

    Args:
        setting: A field of `BankSettings`.
        own: The preset's value, kept also by a folder that `python -m ghosttrack.world` made,
            by a model that is trained on a world, and where activations are ready.
        _root_: All settings: which model, and how much text a bank learns from.
    """
    source = ModelSource(*(_root_.model[name] for name in ModelSource._fields))
    named = source.path or source.hub
    ready = OmegaConf.select(_root_, "corpus.kind") in ("activations", CorpusKind.activations)
    is_made = _root_.model.world is not None
    if named is None or ready or is_made or Path(named, WORLD_FILE).exists():
        return own
    if setting in BankSettings._field_defaults:
        return BankSettings._field_defaults[setting]
    n_tokens = OmegaConf.select(_root_, "corpus.num_tokens")
    return getattr(bank_settings(_own_sizes(source), n_tokens), setting)


@cache
def _own_sizes(source: ModelSource) -> Sizes:
    """Ask a model for its sizes once, not for every setting that hangs on them."""
    from ghosttrack.models.hub import own_sizes  # asks transformers

    return own_sizes(source, Path())


def at_home(path: str) -> str:
    """Put the home for `~` at a path's head.

    Raises:
        ConfigError: It is the home of nobody here.
    """
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such home; write the whole path") from error


def uninterpolated(text: str) -> str:
    """Have OmegaConf take a text as it is, to which a backslash tells only before `${`."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def register() -> None:
    """Make the schemas known to Hydra under the names that the primary configs use."""
    OmegaConf.register_new_resolver("by_size", by_size, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("home", at_home, replace=True)
    store = ConfigStore.instance()
    store.store(name="extract_schema", node=ExtractProgram)
    store.store(name="train_schema", node=TrainProgram)
    for kind, schema in CORPORA.items():
        store.store(group="schema/corpus", name=kind.name, node=schema)


register()


def load(cfg: DictConfig, schema: type[Schema]) -> Schema:
    """Turn a composed config into its dataclass, refusing what Hydra lets through.

    Raises:
        ConfigError: A required setting is missing, a key is unknown (a stray `+key=`), or a value
            is impossible.
    """
    try:
        _as_meant(cfg)
        _check_keys(cfg, schema)
        check_numbers("", OmegaConf.to_container(cfg, resolve=True))
        return cast("Schema", OmegaConf.to_object(cfg))
    except OmegaConfBaseException as error:
        raise _told(error) from error


def _as_meant(cfg: DictConfig) -> None:
    r"""Take `~` at the head of a path for the home, and a typed `\n` in a prompt for a new line."""
    for key in PATHS:
        value = OmegaConf.select(cfg, key)
        if value == "":
            raise ConfigError(f"{key} is empty; give a path, or leave the setting out")
        if isinstance(value, str):
            OmegaConf.update(cfg, key, uninterpolated(at_home(value)))
    for key in PROMPTS:
        value = OmegaConf.select(cfg, key)
        texts = [value] if isinstance(value, str) else list(value or ())
        if any("\\n" in text for text in texts):
            lines = [uninterpolated(text.replace("\\n", "\n")) for text in texts]
            OmegaConf.update(cfg, key, lines[0] if isinstance(value, str) else lines)


def resolved(settings: Mapping[str, object], group: str) -> dict[str, object]:
    """Give the values of a group of a run's whole settings, as Hydra left them in its folder.

    Raises:
        ConfigError: They hang on a model that cannot be found.
    """
    try:
        node = OmegaConf.create(dict(settings))[group]
        return cast("dict[str, object]", OmegaConf.to_container(node, resolve=True))
    except OmegaConfBaseException as error:
        raise _told(error) from error


def _told(error: OmegaConfBaseException) -> ConfigError:
    """Find what a resolver said, else say what OmegaConf does in its first line."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__ or cause.__context__
    return cause or ConfigError(first_line(error))


def _check_keys(cfg: DictConfig, schema: type) -> None:
    """Refuse a required setting that is missing, and one that there is not."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigError("; ".join(f"{key} is required; set {key}=..." for key in missing))
    for key, suggestion in _stray_keys(cfg, schema, ""):
        group = key.rpartition(".")[0]
        kind = OmegaConf.select(cfg, f"{group}.kind") if group else None
        where = f" of {group}={kind.name}" if kind else ""
        meant = f"; did you mean {suggestion}?" if suggestion else ""
        raise ConfigError(f"{key} is not a setting{where}{meant}")


def restore(schema: type[Schema], values: Mapping[str, object]) -> Schema:
    """Make settings of what was kept of them as JSON.

    Raises:
        DataError: They are those of another version.
    """
    try:
        node = OmegaConf.merge(OmegaConf.structured(schema), dict(values))
        return cast("Schema", OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]
        raise DataError(f"settings of another version of ghosttrack: {said}") from error


def resolve_layers(layers: object, available: Sequence[int], which: str) -> list[int]:
    """List what the setting `layers` names of those that there are, in ascending order.

    Raises:
        ConfigError: It names another; says that `layers` must be `which`.
    """
    if layers == "all":
        return list(available)
    chosen = sorted(cast("Sequence[int]", layers))
    if outside := [layer for layer in chosen if layer not in available]:
        raise ConfigError(f"layers must be {which}, got {outside}")
    return chosen


def _check_layers(layers: object) -> None:
    is_list = isinstance(layers, list) and all(type(layer) is int for layer in layers)
    if layers != "all" and not (is_list and layers):
        raise ConfigError(f"layers must be 'all' or a list of block indices, got {layers!r}")
    if is_list and len(set(cast("list[int]", layers))) < len(cast("list[int]", layers)):
        raise ConfigError(f"layers must name each block once, got {layers!r}")


def _stray_keys(node: DictConfig, schema: type, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield (full key, nearest setting or "") of each key that the schema does not have."""
    types = {field.name: field.type for field in fields(schema)}  # pyright: ignore[reportArgumentType]
    for key in map(str, node):
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            yield prefix + key, prefix + near[0] if near else ""
        elif (nested := _nested(types[key])) and node[key] is not None:
            nested = OmegaConf.get_type(node, key) or nested
            yield from _stray_keys(cast("DictConfig", node[key]), nested, f"{prefix}{key}.")


def _nested(annotation: object) -> type | None:
    """Give the schema that a field holds, or may hold."""
    held = (annotation, *get_args(annotation))
    return next((cast("type", one) for one in held if is_dataclass(one)), None)
