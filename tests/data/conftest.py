"""A tiny model, a corpus for it and settings."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.data.config import BadFiles, CorpusKind, FileText, Packing, StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows, framing, read_corpus, write_corpus
from ghosttrack.data.forward import Extractor
from ghosttrack.data.shards import ShardFile
from ghosttrack.data.store import RowFormat, ShardFacts, torch_dtype, write_facts
from ghosttrack.models.config import Products
from ghosttrack.models.lm import LM
from tests.support.tiny import WORDS


def sentences(n: int) -> list[str]:
    """Documents of 3 to 27 tokens, all different."""
    words = [word for word in WORDS if word.isalpha()]
    return [
        " ".join(words[(7 * i + j * (i % 5 + 1)) % len(words)] for j in range(2 + i % 25)) + "."
        for i in range(n)
    ]


def corpus_config(**changes) -> FileText:
    settings = {
        "kind": CorpusKind.text,
        "name": "test",
        "path": "unused.txt",
        "column": "text",
        "bad_files": BadFiles.refuse,
        "context": 16,
        "packing": Packing.documents,
        "num_tokens": 900,
        "heldout_tokens": 200,
    }
    return FileText(**settings | changes)


def store_config(**changes) -> StoreConfig:
    settings = {"dtype": StoreDtype.bf16, "skip_first": 1, "shard_tokens": 250}
    return StoreConfig(**settings | {"products": Products.fp32} | changes)


def extractor(lm: LM, layers: Sequence[int], store: StoreConfig, batch_size: int = 8) -> Extractor:
    dtype = torch_dtype(store.dtype)
    return Extractor(lm, list(layers), store.skip_first, dtype, batch_size)


def plain_store(
    folder: Path, hooks: Sequence[str], shard_rows: Sequence[int], d_model: int
) -> None:
    """A store without a model: row r of the i-th hook point holds r + i / 8, held-out rows too."""
    shards, row = [], 0
    for number, n_rows in enumerate(shard_rows):
        part = "train" if number < len(shard_rows) - 1 else "heldout"
        shard = ShardFacts(f"{part}-{number:05d}.safetensors", part, n_rows)
        layout = {hook: (torch.float32, (n_rows, d_model)) for hook in hooks}
        with ShardFile(folder / shard.file, layout) as file:
            for index, hook in enumerate(hooks):
                rows = torch.arange(row, row + n_rows) + index / 8
                file.write(hook, 0, rows[:, None].expand(n_rows, d_model))
        shards.append(shard)
        row += n_rows
    write_facts(folder, RowFormat(hooks, d_model, StoreDtype.fp32), shards)


def tiny_corpus(lm: LM, folder: Path) -> CorpusWindows:
    framed = framing(lm, append_eos=False)
    write_corpus(folder, sentences(120), framed, corpus_config(), skip_first=1, seed=0)
    return read_corpus(folder)


def open_lm(folder: Path) -> LM:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return LM(model, AutoTokenizer.from_pretrained(folder), prepend_bos=True, identity={})


def watched(lm: LM, look: Callable[[Tensor], None]) -> LM:
    """The same model, with a look at the windows before it reads them."""

    class Watched(LM):
        def residuals(self, ids, *args, **kwargs):
            look(ids)
            return super().residuals(ids, *args, **kwargs)

    return Watched(lm.model, lm.tokenizer, prepend_bos=True, identity={})


def with_room_for(lm: LM, most: int, tried: list[int] | None = None) -> LM:
    """The same model on a device that takes so many windows at a time."""

    def look(ids: Tensor) -> None:
        if tried is not None:
            tried.append(len(ids))
        if len(ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return watched(lm, look)


@pytest.fixture(scope="session")
def lm(gpt2_folder: Path) -> LM:
    return open_lm(gpt2_folder)


@pytest.fixture(scope="session")
def corpus(lm: LM, tmp_path_factory) -> CorpusWindows:
    return tiny_corpus(lm, tmp_path_factory.mktemp("corpus"))
