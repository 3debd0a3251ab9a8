import shutil
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from ghosttrack.errors import ConfigError
from ghosttrack.models import hub
from ghosttrack.models.hub import model_folder, model_revision, weight_files
from tests.models.conftest import model_config

NOWHERE = Path("/nowhere")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub on a port where nobody listens."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    return tmp_path


def test_the_embedded_model_is_meant_where_nothing_is_named(folders: dict[str, Path]):
    assert model_folder(model_config(), folders["gpt2"]) == folders["gpt2"]
    with pytest.raises(ConfigError, match="the embedded model: /nowhere does not hold a model"):
        model_folder(model_config(), NOWHERE)


def test_an_id_without_network_is_one_line_after_one_attempt(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    attempts: list[object] = []

    def refused(address: object, **_: object):
        attempts.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(hub.socket, "create_connection", refused)
    with pytest.raises(ConfigError) as caught:
        model_folder(model_config(hub="openai-community/gpt2"), NOWHERE)
    assert attempts == [("127.0.0.1", 9)]
    message = str(caught.value)
    assert "\n" not in message
    for part in ("model.hub", "openai-community/gpt2", "model.path", "HF_HUB_OFFLINE"):
        assert part in message


def test_offline_mode_asks_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.threading, "Thread", lambda **_: pytest.fail("asked the network"))
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        model_folder(model_config(hub="openai-community/gpt2"), NOWHERE)


def test_a_host_that_does_not_answer_is_not_waited_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub, "REACH_TIMEOUT_S", 0.1)
    released = threading.Event()

    def hang(*_args, **_kwargs):
        released.wait()
        raise TimeoutError

    monkeypatch.setattr(hub.socket, "create_connection", hang)
    assert not hub.is_reachable()
    released.set()


def test_a_cached_snapshot_is_found_without_network(folders: dict[str, Path], cache: Path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--some--model"
    shutil.copytree(folders["gpt2"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    config = model_config(hub="some/model")
    assert model_folder(config, NOWHERE) == repository / "snapshots" / commit
    assert model_revision(config, NOWHERE) == commit
    assert model_revision(model_config(), folders["gpt2"]) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/", ".* does not hold a model"),
        *((name, ".* is not a folder") for name in ("./models/mine", "/mine", "~/mine", "a/b/c")),
        ("my model!", "my model!"),
    ],
)
def test_what_cannot_be_an_id_is_refused_by_name(name: str, message: str, cache: Path):
    with pytest.raises(ConfigError, match=rf"model\.path: {message}"):
        model_folder(model_config(path=name), NOWHERE)


def _hub_answers(monkeypatch: pytest.MonkeyPatch, answer) -> list[list[str]]:
    """Let the hub be reachable and answer; return the file patterns of each request."""
    asked: list[list[str]] = []

    def snapshot_download(name, *, local_files_only, allow_patterns, **_kwargs):
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        asked.append(allow_patterns)
        return answer(allow_patterns)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    return asked


def test_pickled_weights_are_fetched_only_where_there_are_no_safetensors(
    folders: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
):
    old = shutil.copytree(folders["gpt2"], cache / "old")
    (old / "model.safetensors").rename(cache / "weights")

    def answer(patterns: list[str]) -> str:
        if "pytorch_model*.bin" in patterns:
            shutil.copy(cache / "weights", old / "pytorch_model.bin")
        return str(old)

    asked = _hub_answers(monkeypatch, answer)
    folder = model_folder(model_config(hub="some/model"), NOWHERE)
    assert [path.name for path in weight_files(folder)] == ["pytorch_model.bin"]
    assert len(asked) == 2
    assert not any("*.py" in patterns for patterns in asked)


def test_a_repository_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def answer(_patterns: list[str]) -> str:
        raise OSError("404: no such repository\nmore advice")

    _hub_answers(monkeypatch, answer)
    with pytest.raises(ConfigError, match=r"cannot download some/model: 404: no such repository$"):
        model_folder(model_config(hub="some/model"), NOWHERE)
