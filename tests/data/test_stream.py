from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from ghosttrack.data.config import StoreDtype
from ghosttrack.data.progress import Meter
from ghosttrack.data.store import ActivationStore, StoreSource
from ghosttrack.data.store_write import write_store
from ghosttrack.data.stream import Split, StreamSource
from ghosttrack.errors import DataError
from tests.data.conftest import extractor, open_lm, store_config, tiny_corpus, watched


def both(folder, lm, corpus, config):
    """A store's source, and a stream of the same activations."""
    passes = extractor(lm, [0, 2], config)
    write_store(folder, passes, corpus, config)
    stream = StreamSource(passes, corpus, buffer_tokens=300)
    return StoreSource(ActivationStore(folder)), stream


@pytest.fixture(scope="module")
def sources(lm, corpus, tmp_path_factory):
    return both(tmp_path_factory.mktemp("s"), lm, corpus, store_config(dtype=StoreDtype.fp32))


def ordered(acts: torch.Tensor) -> torch.Tensor:
    """Rows in an order of their own, all hooks of a token together."""
    rows = acts.transpose(0, 1).flatten(1)
    return rows[rows[:, 0].argsort()]


@pytest.mark.parametrize(
    ("batches", "n_tokens"),
    [
        (lambda source: islice(source.batches(90, seed=0), 10), 900),
        (lambda source: source.heldout_batches(64), 200),
    ],
    ids=["of an epoch", "held out"],
)
def test_store_and_stream_hold_the_same_tokens(sources, batches, n_tokens):
    stored, streamed = (torch.cat(list(batches(source)), dim=1) for source in sources)
    assert stored.shape == (2, n_tokens, 32)
    torch.testing.assert_close(ordered(stored), ordered(streamed), rtol=1e-4, atol=1e-5)


def test_both_sources_say_what_they_hold(sources, monkeypatch):
    meters = []
    meter = lambda *told: meters.append(Meter(*told)) or meters[-1]  # noqa: E731
    monkeypatch.setattr("ghosttrack.data.stream.Meter", meter)
    for source in sources:
        assert source.hooks == ["layer_0", "layer_2"]
        assert source.d_model == 32
        assert source.sample(150).shape == (2, 150, 32)
    assert meters[0].done == meters[0].total >= 150


def test_batches_come_in_the_stores_number_format_and_a_sample_in_fp32(tmp_path, lm, corpus):
    for source in both(tmp_path, lm, corpus, store_config()):
        assert next(source.batches(8, seed=0)).dtype == torch.bfloat16
        assert next(source.heldout_batches(8)).dtype == torch.bfloat16
        assert source.sample(8).dtype == torch.float32


def test_a_stream_tells_of_nan_at_the_end_of_a_buffer(gpt2_folder, tmp_path):
    lm = open_lm(gpt2_folder)
    stream = StreamSource(extractor(lm, [0, 2], store_config()), tiny_corpus(lm, tmp_path), 300)
    lm.parts.blocks[1].mlp.c_proj.bias.data[0] = float("nan")
    with pytest.raises(DataError, match=r"^layer 2: an activation is not a finite"):
        next(stream.batches(90, 5))


def streamed(
    gpt2_folder: Path, folder: Path, rank: int, world_size: int, split: Split | None = None
) -> tuple[list[torch.Tensor], int]:
    """Two epochs of training batches and the held-out ones, and how many windows were read."""
    read: list[int] = []
    lm = watched(open_lm(gpt2_folder), lambda ids: read.append(len(ids)))
    folder.mkdir(exist_ok=True)
    corpus = tiny_corpus(lm, folder)
    stream = StreamSource(extractor(lm, [0, 2], store_config()), corpus, 300, split)
    batches = list(islice(stream.batches(90, 5, rank, world_size, start_step=1), 19))
    return [*batches, *stream.heldout_batches(90, rank, world_size)], sum(read)


def _rank(rank: int, folder: Path, gpt2_folder: Path) -> None:
    address = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.save(streamed(gpt2_folder, folder / str(rank), rank, 2), folder / f"{rank}.pt")
    split = Split([[0], [2]], rank)
    found = streamed(gpt2_folder, folder / f"{rank} of layers", 0, 1, split)
    torch.save(found, folder / f"{rank}-layers.pt")
    distributed.destroy_process_group()


@pytest.mark.long
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
        batches, read = torch.load(tmp_path / f"{rank}-layers.pt", weights_only=True)
        for whole, mine in zip(alone, batches, strict=True):
            assert torch.equal(mine, whole[rank : rank + 1])
        assert 0.4 * n_windows < read < 0.6 * n_windows


def test_a_rank_without_the_others_reads_all_for_its_own_layers(lm, corpus):
    passes = extractor(lm, [0, 2], store_config())
    whole = StreamSource(passes, corpus, 300).sample(100)
    for rank in range(2):
        mine = StreamSource(passes, corpus, 300, Split([[0], [2]], rank))
        assert mine.hooks == [("layer_0", "layer_2")[rank]]
        assert torch.equal(mine.sample(100), whole[rank : rank + 1])
