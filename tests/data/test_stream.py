from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.data.config import StoreDtype
from ghosttrack.data.store import ActivationStore, StoreSource
from ghosttrack.data.store_write import write_store
from ghosttrack.data.stream import StreamSource
from ghosttrack.models.lm import LM
from tests.data.conftest import extractor, store_config, tiny_corpus


@pytest.fixture(scope="module")
def sources(lm, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    config = store_config(dtype=StoreDtype.fp32)
    passes = extractor(lm, [0, 2], config)
    write_store(folder, passes, corpus, config)
    stream = StreamSource(passes, corpus, buffer_tokens=300)
    return StoreSource(ActivationStore(folder)), stream


def ordered(acts: torch.Tensor) -> torch.Tensor:
    """Rows in an order of their own, all hooks of a token together."""
    rows = acts.transpose(0, 1).flatten(1)
    return rows[rows[:, 0].argsort()]


def test_store_and_stream_hold_the_same_tokens(sources):
    epochs = [torch.cat(list(islice(source.batches(90, seed=0), 10)), dim=1) for source in sources]
    assert epochs[0].shape == (2, 900, 32)
    torch.testing.assert_close(ordered(epochs[0]), ordered(epochs[1]), rtol=1e-4, atol=1e-5)


def test_store_and_stream_hold_the_same_heldout_tokens(sources):
    held = [torch.cat(list(source.heldout_batches(64)), dim=1) for source in sources]
    assert held[0].shape == (2, 200, 32)
    torch.testing.assert_close(ordered(held[0]), ordered(held[1]), rtol=1e-4, atol=1e-5)


def test_both_sources_say_what_they_hold(sources):
    for source in sources:
        assert source.hooks == ["layer_0", "layer_2"]
        assert source.d_model == 32
        assert source.sample(150).shape == (2, 150, 32)


def test_a_stream_resumes_at_any_step(sources):
    _, stream = sources
    whole = list(islice(stream.batches(128, seed=4), 9))
    late = islice(stream.batches(128, seed=4, start_step=6), 3)
    for expected, found in zip(whole[6:], late, strict=True):
        assert torch.equal(expected, found)


def test_batches_come_in_the_stores_number_format_and_a_sample_in_fp32(lm, corpus):
    stream = StreamSource(extractor(lm, [1], store_config()), corpus, buffer_tokens=300)
    assert next(stream.batches(8, seed=0)).dtype == torch.bfloat16
    assert stream.sample(8).dtype == torch.float32


class Counting(LM):
    """Counts the windows that it reads."""

    windows = 0

    def residuals(self, ids, *args, **kwargs):
        self.windows += len(ids)
        return super().residuals(ids, *args, **kwargs)


def streamed(
    gpt2_folder: Path, folder: Path, rank: int, world_size: int
) -> tuple[list[torch.Tensor], int]:
    """Two epochs of training batches and the held-out ones, and how many windows were read."""
    lm = Counting(
        AutoModelForCausalLM.from_pretrained(gpt2_folder),
        AutoTokenizer.from_pretrained(gpt2_folder),
        prepend_bos=True,
        identity={},
    )
    folder.mkdir(exist_ok=True)
    corpus = tiny_corpus(lm, folder)
    stream = StreamSource(extractor(lm, [0, 2], store_config()), corpus, buffer_tokens=300)
    batches = list(islice(stream.batches(90, 5, rank, world_size, start_step=1), 19))
    return [*batches, *stream.heldout_batches(90, rank, world_size)], lm.windows


def _rank(rank: int, folder: Path, gpt2_folder: Path) -> None:
    address = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.save(streamed(gpt2_folder, folder / str(rank), rank, 2), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_the_models_work_and_get_the_batches_of_one(gpt2_folder, tmp_path):
    alone, n_windows = streamed(gpt2_folder, tmp_path, 0, 1)
    # Spawned: a fork of a process whose OpenMP threads have run hangs at its first product.
    multiprocessing.start_processes(_rank, (tmp_path, gpt2_folder), nprocs=2, start_method="spawn")
    for rank in range(2):
        batches, read = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(batches) == len(alone) == 19 + 3
        for whole, mine in zip(alone, batches, strict=True):
            assert torch.equal(mine, whole[:, rank::2])
        assert 0.4 * n_windows < read < 0.6 * n_windows
