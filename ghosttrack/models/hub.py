"""Find the folder that holds a language model: local first, then the hub's cache, then the hub."""

import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from ghosttrack.errors import ConfigError
from ghosttrack.models.config import ModelConfig, ModelSource
from ghosttrack.models.gguf import gguf_file

REACH_TIMEOUT_S = 2.0
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""Weight files, the preferred first; nothing but these is read."""
TEXTS = ("*.json", "*.txt", "*.model")


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
