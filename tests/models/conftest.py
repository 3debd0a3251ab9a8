"""Families of tiny models, each loaded once."""

from pathlib import Path

import pytest

from ghosttrack.models.config import Dtype, ModelConfig, Products, TrainingConfig
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from tests.support import tiny

FAMILIES = {
    "gpt2": tiny.tiny_gpt2,
    "phi": tiny.tiny_phi,
    "llama": tiny.tiny_llama,
    "qwen2": tiny.tiny_qwen2,
    "qwen3": tiny.tiny_qwen3,
    "mistral": tiny.tiny_mistral,
    "gemma3": tiny.tiny_gemma3,
    "gpt_neox": tiny.tiny_gpt_neox,
    "qwen3_5": tiny.tiny_qwen3_5,
    "olmo": tiny.tiny_olmo,
}


def model_config(**changes) -> ModelConfig:
    values = {
        "name": "tiny",
        "hub": None,
        "path": None,
        "revision": None,
        "n_layers": tiny.N_LAYERS,
        "d_model": tiny.D_MODEL,
        "context": 16,
        "d_sae": 64,
        "extract_batch_size": 4,
        "training": TrainingConfig(8, 256, 2e-4, 1000, 80, 5),
        "dtype": Dtype.fp32,
        "products": Products.fp32,
        "device": "auto",
        "prepend_bos": True,
        "trust_remote_code": False,
    }
    return ModelConfig(**{**values, **changes})


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: make(root / name) for name, make in FAMILIES.items()}


@pytest.fixture(scope="session", params=list(FAMILIES))
def lm(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LM:
    return load_lm(model_config(), folders[request.param], "cpu")


@pytest.fixture(scope="session")
def gpt2(folders: dict[str, Path]) -> LM:
    return load_lm(model_config(), folders["gpt2"], "cpu")
