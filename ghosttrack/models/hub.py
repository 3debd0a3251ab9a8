"""Find the folder that holds a language model: local first, then the hub's cache, then the hub.

What it holds is told without loading weights.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import read_json, sha256_file
from ghosttrack.models.config import ModelConfig, ModelSource
from ghosttrack.models.gguf import gguf_file, read_header
from ghosttrack.models.sizing import Sizes

if TYPE_CHECKING:
    import transformers

REACH_TIMEOUT_S = 2.0
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""Weight files, the preferred first; nothing but these is read."""
TOKENIZER_FILES = ("*token*", "vocab*", "merges.txt", "*.model")
TEXTS = ("*.json", "*.txt", "*.model")
OF_CLASSES = {"auto_map", "add_bos_token", "add_eos_token", "add_prefix_space"}
"""Settings of a tokenizer that its own class obeys, maybe against its file."""
SIZES = (
    ("num_hidden_layers", "hidden_size", "max_position_embeddings"),
    ("n_layer", "n_embd", "n_positions"),
)
"""What most models call the fields of `Sizes`."""


def model_folder(config: ModelConfig | ModelSource, embedded: Path) -> Path:
    """Return the local folder of the model that the settings name, downloading it if need be.

    Args:
        config: `path` goes before `hub`; where both are None the embedded model is meant.
        embedded: Folder of the embedded model, or of what was made of the GGUF file that `path` is.

    Raises:
        ConfigError: No such folder, an incomplete one, or a hub id that cannot be had.
    """
    if config.path is None and config.hub is None:
        return _checked(embedded, "the embedded model")
    if gguf_file(config.path):
        return _checked(embedded, "model.path")
    setting, name = (
        ("model.hub", config.hub) if config.path is None else ("model.path", config.path)
    )
    assert name is not None
    folder = Path(name).expanduser()
    if config.path is not None and folder.is_dir():
        return _checked(folder, setting)
    if not is_hub_id(name):
        raise ConfigError(f"{setting}: {name} is not a folder, nor can it be a Hugging Face id")
    return _checked(_snapshot(config, setting, name), setting)


def weight_files(folder: Path) -> list[Path]:
    """List the files that hold a folder's weights; of two formats only the preferred."""
    return next((found for p in WEIGHTS if (found := sorted(folder.glob(p)))), [])


def _checked(folder: Path, setting: str) -> Path:
    if (folder / "config.json").is_file() and weight_files(folder):
        return folder
    raise ConfigError(
        f"{setting}: {folder} does not hold a model (config.json and *.safetensors, "
        "as save_pretrained writes them)"
    )


def is_hub_id(name: str) -> bool:
    """Tell what may be an id on the hub from what can only be a path."""
    return not name.startswith((".", "/", "~", "\\")) and name.count("/") <= 1


def _snapshot(config: ModelConfig | ModelSource, setting: str, name: str) -> Path:
    try:
        cached = _download(config, name, WEIGHTS, local_files_only=True)
        if weight_files(cached):
            return cached
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:  # not a well-formed id
        raise ConfigError(f"{setting}: {name} is no folder and no Hugging Face id") from error
    advice = (
        f"{setting}: {name} is not in the local cache and {hub_host()} cannot be reached; point "
        "model.path at a folder made by save_pretrained, or download it where there is a network "
        "and copy its cache (HF_HOME); HF_HUB_OFFLINE must not be 1 for a download"
    )
    if not is_reachable():
        raise ConfigError(advice)
    try:
        folder = _download(config, name, WEIGHTS[:1])
        return folder if weight_files(folder) else _download(config, name, WEIGHTS)
    except GatedRepoError as error:
        raise ConfigError(
            f"{setting}: {name} is gated; accept its terms and run `hf auth login`"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{setting}: cannot download {name}: {reason}") from error


def _download(
    config: ModelConfig | ModelSource,
    name: str,
    weights: tuple[str, ...],
    *,
    local_files_only: bool = False,
) -> Path:
    code = ("*.py",) if config.trust_remote_code else ()
    return Path(
        snapshot_download(
            name,
            revision=config.revision,
            allow_patterns=[*TEXTS, *weights, *code],
            ignore_patterns=["*/*", "consolidated*"],  # exports to other formats; Mistral's own
            local_files_only=local_files_only,
        )
    )


def hub_host() -> str:
    """Return the name of the machine that is the hub."""
    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT


def is_reachable() -> bool:
    """Say within about two seconds whether a connection to the hub, or to the proxy, opens.

    Offline mode (`HF_HUB_OFFLINE=1`) asks nobody.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    target = urlsplit(proxy or constants.ENDPOINT)
    port = target.port or (443 if target.scheme == "https" else 80)
    opened = threading.Event()

    def attempt() -> None:
        try:
            with socket.create_connection((target.hostname or "", port), timeout=REACH_TIMEOUT_S):
                opened.set()
        except OSError:
            return

    # In a thread, because looking a name up obeys no time-out.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return opened.is_set()


def sizes(config: ModelConfig, embedded: Path) -> Sizes:
    """Return the model's sizes without loading weights.

    Args:
        config: Where `path` is set the sizes come from its own config, otherwise from the preset.
        embedded: Folder of the embedded model.

    Raises:
        ConfigError: `path` leads to no model.
    """
    if config.path is None and config.n_layers and config.d_model:
        return Sizes(config.n_layers, config.d_model)
    return own_sizes(config, embedded)


def own_sizes(config: ModelConfig | ModelSource, embedded: Path) -> Sizes:
    """Return the sizes that the model itself tells, whatever the preset says; see `sizes`."""
    if file := gguf_file(config.path):
        return Sizes(*read_header(file)[1:])
    folder = model_folder(config, embedded)
    if told := _told_sizes(folder):
        return told
    settings = read_config(folder, config.trust_remote_code)
    n_ctx = getattr(settings, "max_position_embeddings", None) or 2**31
    return Sizes(settings.num_hidden_layers, settings.hidden_size, n_ctx)


def _told_sizes(folder: Path) -> Sizes | None:
    """Read sizes where they have the usual names; transformers, which imports torch, knows others.

    None where they have not, or the whole model is more than its language part.
    """
    facts = _facts(folder / "config.json")
    if facts.get("is_encoder_decoder") or "text_config" in facts:
        return None
    told: list[list[Any]] = [[facts.get(name) for name in names] for names in SIZES]
    return next((Sizes(*one) for one in told if all(type(n) is int for n in one)), None)


def _facts(file: Path) -> dict[str, Any]:
    """Read a JSON object; nothing of a file that is none, of which transformers tells the fault."""
    with suppress(DataError):
        facts = read_json(file)
        return facts if isinstance(facts, dict) else {}
    return {}


def model_identity(config: ModelConfig, embedded: Path) -> dict[str, str]:
    """Hash what determines the model's numbers, without loading it.

    Raises:
        ConfigError: The model cannot be found.
    """
    return {
        **_content(config, embedded),
        "dtype": config.dtype.value,
        "prepend_bos": str(config.prepend_bos),
    }


def _content(config: ModelConfig, embedded: Path) -> dict[str, str]:
    """Hash configuration, weights and tokenizer; the folder of a GGUF file is named by its hash."""
    if gguf_file(config.path):
        return dict.fromkeys(("config", "weights", "tokenizer"), embedded.name.rpartition("-")[2])
    folder = model_folder(config, embedded)
    return {
        "config": sha256_file(folder / "config.json"),
        "weights": _joint_hash(weight_files(folder)),
        "tokenizer": _joint_hash(tokenizer_files(folder)),
    }


def model_revision(config: ModelConfig, embedded: Path) -> str:
    """Return the hub commit of the model; empty for a folder of one's own."""
    folder = model_folder(config, embedded)
    return folder.name if folder.parent.name == "snapshots" else ""


def read_config(folder: Path, trust_remote_code: bool) -> "transformers.PretrainedConfig":
    """Read what a folder says of its language model.

    Raises:
        ConfigError: It cannot be read, or is not of a causal language model.
    """
    from transformers import AutoConfig

    with reading(folder):
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if settings.is_encoder_decoder:
        raise ConfigError(f"model: {folder} is an encoder-decoder, not a causal language model")
    return settings.get_text_config()


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Answer with one line whatever a folder of others makes a library raise.

    `tokenizers` raises bare exceptions, transformers' configurations a class of their own each, and
    quantised weights ask for libraries that are not there.
    """
    try:
        yield
    except UnpicklingError as error:
        raise ConfigError(
            f"model: cannot read {folder}: its weights are a pickle that holds more than tensors,"
            " which could run code; save them with save_pretrained, as safetensors"
        ) from error
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) if lines else type(error).__name__
        raise ConfigError(f"model: cannot read {folder}: {reason}") from error


def load_tokenizer(config: ModelConfig, embedded: Path) -> "transformers.PreTrainedTokenizerBase":
    """Load the tokenizer without the weights, and without torch where its files tell all of it.

    Raises:
        ConfigError: The model cannot be found, or has none.
    """
    folder = model_folder(config, embedded)
    with quiet():
        if _is_told(folder):
            from transformers import PreTrainedTokenizerFast

            with reading(folder):
                return PreTrainedTokenizerFast.from_pretrained(folder)
        from ghosttrack.models.load import read_tokenizer

        settings = read_config(folder, config.trust_remote_code)
        return read_tokenizer(folder, config, settings.vocab_size)


def _is_told(folder: Path) -> bool:
    """Tell whether no class of its own decides what a tokenizer does or what its marks are."""
    told = _facts(folder / "tokenizer_config.json").keys()
    is_whole = {"bos_token", "eos_token"} <= told and told.isdisjoint(OF_CLASSES)
    return is_whole and (folder / "tokenizer.json").is_file()


def tokenizer_files(folder: Path) -> list[Path]:
    """List the files that make a folder's tokenizer."""
    found = {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' bars and advice while a model is read."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _joint_hash(paths: list[Path]) -> str:
    return sha256(json.dumps([(p.name, _content_hash(p)) for p in paths]).encode()).hexdigest()


def _content_hash(path: Path) -> str:
    """SHA-256 of a file; the hub's cache names large files by it, which saves reading gigabytes."""
    blob = path.resolve()
    is_named = blob.parent.name == "blobs" and len(blob.name) == 64
    return blob.name if is_named else sha256_file(blob)
