"""Fixtures that several packages' tests share."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; workers side by side share the cores

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before whatever imports triton

from tests.support import tiny

pytest_plugins = ["tests.support.programs"]
collect_ignore = ["benchmarks/fuzz.py"]  # needs atheris, which nothing else does

# A deadline would test the machine and what else it does. Examples are derived from each test's
# code: a commit that changes none fails on none that the one before passed.
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def phi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_phi(tmp_path_factory.mktemp("phi"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run tests marked long")
    parser.addoption("--regen-golden", action="store_true", help="write the golden numbers anew")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="takes long: --long runs it")
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what was imported, which outlives all tests."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test where a shell started these in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
