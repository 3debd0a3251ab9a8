"""A tiny model, a corpus for it and settings."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.data.config import (
    CorpusConfig,
    CorpusKind,
    ExtractConfig,
    StoreConfig,
    StoreDtype,
)
from ghosttrack.data.corpora import CorpusWindows, corpus_windows, framing
from ghosttrack.models.lm import LM
from tests.support.tiny import WORDS


def sentences(n: int) -> list[str]:
    """Documents of 3 to 27 tokens, all different."""
    words = [word for word in WORDS if word.isalpha()]
    return [
        " ".join(words[(7 * i + j * (i % 5 + 1)) % len(words)] for j in range(2 + i % 25)) + "."
        for i in range(n)
    ]


def corpus_config(**changes) -> CorpusConfig:
    settings = {
        "kind": CorpusKind.text,
        "name": "test",
        "path": "unused.txt",
        "context": 16,
        "num_tokens": 900,
        "heldout_tokens": 200,
    }
    return CorpusConfig(**settings | changes)


def store_config(**changes) -> StoreConfig:
    return StoreConfig(**{"dtype": StoreDtype.bf16, "skip_first": 1, "shard_tokens": 250} | changes)


EXTRACT = ExtractConfig(batch_size=8)


@pytest.fixture(scope="session")
def lm(gpt2_folder: Path) -> LM:
    return LM(
        AutoModelForCausalLM.from_pretrained(gpt2_folder),
        AutoTokenizer.from_pretrained(gpt2_folder),
        prepend_bos=True,
        identity={},
    )


@pytest.fixture(scope="session")
def corpus(lm: LM) -> CorpusWindows:
    return corpus_windows(sentences(120), framing(lm), corpus_config(), skip_first=1, seed=0)
