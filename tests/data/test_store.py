import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from socket import gethostname

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ghosttrack.artifacts import CHECKSUMS
from ghosttrack.data.config import StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.shards import clear_unfinished
from ghosttrack.data.store import ERRORS, ActivationStore, Room, StoreSource, disk_bytes
from ghosttrack.data.store_write import plan, write_store
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.lm import LM
from ghosttrack.processes import ALONE, Place
from tests.data.conftest import extractor, plain_store, store_config, watched, with_room_for


def write(
    folder: Path,
    lm: LM,
    corpus: CorpusWindows,
    layers: Sequence[int] = (0, 2),
    store: StoreConfig | None = None,
    batch_size: int = 8,
    place: Place = ALONE,
) -> None:
    store = store or store_config()
    write_store(folder, extractor(lm, layers, store, batch_size), corpus, store, place)


@pytest.fixture(scope="session")
def folder(lm: LM, corpus: CorpusWindows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write(folder, lm, corpus)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != CHECKSUMS}


def test_every_row_is_the_residual_of_its_token_at_its_position(folder, lm, corpus):
    seen = 0
    for part, windows in zip(("train", "heldout"), corpus, strict=True):
        for number, shard in enumerate(plan(part, windows, 250)):
            tensors = load_file(folder / f"{part}-{number:05d}.safetensors")
            row = 0
            for index in shard.windows:
                one = windows.read(np.array([index]))
                ids, mask = one.padded(0, 1)
                alone = lm.residuals(ids, mask, [0, 2])[:, 0]
                end = row + ids.shape[1] - 1
                assert tensors["token_ids"][row:end].tolist() == ids[0, 1:].tolist()
                assert tensors["positions"][row:end].tolist() == list(range(1, ids.shape[1]))
                assert set(tensors["document_ids"][row:end].tolist()) == set(one.documents.tolist())
                for layer, expected in zip((0, 2), alone[:, 1:], strict=True):
                    # bf16 keeps 8 bits: half a unit in the last place is 2^-9 of the value
                    stored = tensors[f"layer_{layer}"][row:end]
                    assert stored.dtype == torch.bfloat16
                    torch.testing.assert_close(
                        stored.float(), expected, rtol=2**-8, atol=1e-5, check_dtype=False
                    )
                row = end
            assert row == len(tensors["token_ids"])
            seen += row
    assert seen == 900 + 200


def test_another_batch_size_changes_nothing_beyond_rounding(folder, lm, corpus, tmp_path):
    config = store_config(dtype=StoreDtype.fp32)
    write(tmp_path, lm, corpus, store=config, batch_size=3)
    for path in folder.glob("*.safetensors"):
        stored, other = load_file(path), load_file(tmp_path / path.name)
        for name in stored:
            torch.testing.assert_close(
                stored[name], other[name].to(stored[name].dtype), rtol=2**-7, atol=1e-5
            )


@pytest.mark.parametrize("complete", [0, 1, 3])
def test_an_interrupted_store_ends_byte_identical(folder, lm, corpus, tmp_path, complete):
    one = extractor(lm, (0, 2), store_config(), 8)
    whole = [
        len(list(one.batches(corpus.train.read(shard.windows).lengths)))
        for shard in plan("train", corpus.train, 250)[:complete]
    ]
    passes = iter([True] * (sum(whole) + 1))

    def die(_ids):
        if not next(passes, False):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, watched(lm, die), corpus)
    assert len(list(tmp_path.glob("train-*"))) == complete
    # what `kill -9` leaves behind
    (tmp_path / f".train-{complete:05d}.safetensors.here.99.tmp").write_bytes(b"junk" * 10_000)
    write(tmp_path, lm, corpus)
    assert files(tmp_path) == files(folder)


def test_complete_shards_are_not_computed_again(folder, lm, corpus, tmp_path, monkeypatch):
    for path in folder.glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(Extractor, "run", lambda *_: pytest.fail("the model ran"))
    write(tmp_path, lm, corpus)
    assert (tmp_path / "store.json").read_bytes() == (folder / "store.json").read_bytes()


@pytest.mark.parametrize("dtype", list(StoreDtype))
def test_the_tensors_take_the_bytes_that_were_foretold(dtype, lm, corpus, tmp_path):
    write(tmp_path, lm, corpus, [1], store_config(dtype=dtype))
    foretold = disk_bytes(900 + 200, 1, lm.d_model, dtype)
    paths = list(tmp_path.glob("*.safetensors"))
    tensors = [item for path in paths for item in load_file(path).items()]
    assert sum(tensor.nbytes for name, tensor in tensors if name != ERRORS) == foretold
    assert (ERRORS in dict(tensors)) == (dtype is StoreDtype.int8)


def test_a_store_that_does_not_fit_is_refused_before_the_first_byte(
    lm, corpus, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match=r"^store\.dtype=bf16.*corpus\.num_tokens"):
        write(tmp_path, lm, corpus, [0])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_no_half_shard(lm, corpus, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write(tmp_path, lm, corpus, [0])
    assert not list(tmp_path.glob("*.safetensors"))


def test_out_of_memory_halves_the_batch_and_goes_on(folder, lm, corpus, tmp_path, caplog):
    write(tmp_path, with_room_for(lm, 3), corpus)
    warned = "out of memory at 4 windows: going on with extract.batch_size=2"
    assert [record.getMessage() for record in caplog.records] == [warned]
    name = "train-00000.safetensors"
    torch.testing.assert_close(load_file(tmp_path / name), load_file(folder / name))


def test_overflow_in_fp16_is_refused(lm, corpus, tmp_path):
    class Loud(LM):
        def residuals(self, *args, **kwargs):
            return super().residuals(*args, **kwargs) * 1e6

    loud = Loud(lm.model, lm.tokenizer, prepend_bos=True, identity={})
    with pytest.raises(DataError, match=r"^layer 1: .*store\.dtype=bf16"):
        write(tmp_path, loud, corpus, [1], store_config(dtype=StoreDtype.fp16))


def test_a_truncated_shard_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "train-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="train-00001"):
        StoreSource(ActivationStore(tmp_path / "copy"))


def test_the_store_says_what_it_holds(folder):
    held = ActivationStore(folder)
    assert (held.hooks, held.d_model) == (["layer_0", "layer_2"], 32)
    assert (held.n_train, held.n_heldout, held.dtype) == (900, 200, torch.bfloat16)
    assert StoreSource(held).train.unit_tokens.sum() == 900


HOOKS = ["layer_0_pos_1", "layer_0_pos_2", "layer_3_pos_1"]
SHARD_ROWS = [3000, 700, 1801, 600]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> ActivationStore:
    """5,501 training rows in blocks of 512 and what is left over, 600 for metrics."""
    folder = tmp_path_factory.mktemp("numbered")
    plain_store(folder, HOOKS, SHARD_ROWS, d_model=4)
    return ActivationStore(folder)


@pytest.mark.parametrize("chunk_rows", [10_000, 1200], ids=["mapped", "in chunks"])
@pytest.mark.parametrize("world_size", [1, 3])
def test_every_row_of_every_hook_comes_once_an_epoch(numbered, chunk_rows, world_size):
    batches = []
    for rank in range(world_size):
        source = StoreSource(numbered, chunk_bytes=chunk_rows * 3 * 4 * 4)
        batches.append(list(islice(source.batches(300, 0, rank, world_size), 19)))
    drawn = [torch.cat(own, dim=1) for own in batches]
    assert {acts.shape for acts in drawn} == {(3, 19 * 300 // world_size, 4)}
    # put together again as the single process has them: rank r has rows r, r + world_size, ...
    acts = torch.stack(drawn, dim=2).flatten(1, 2)
    assert sorted(acts[0, :5501, 0].int().tolist()) == list(range(5501))
    alone = StoreSource(numbered, chunk_bytes=chunk_rows * 3 * 4 * 4).batches(300, 0)
    assert torch.equal(acts, torch.cat(list(islice(alone, 19)), dim=1))
    for index in range(3):
        assert torch.equal(acts[index] - index / 8, acts[0][:, :1].expand(-1, 4))


@pytest.mark.parametrize("chunk_rows", [10_000, 1200], ids=["mapped", "in chunks"])
def test_some_hooks_come_in_the_order_of_all_and_alone_are_read(numbered, chunk_rows, tmp_path):
    chunk_bytes = chunk_rows * 3 * 4 * 4
    alone = StoreSource(numbered, HOOKS[1:2], chunk_bytes)
    assert alone.hooks == HOOKS[1:2]
    whole = StoreSource(numbered, chunk_bytes=chunk_bytes)
    for one, all_three in zip(
        islice(alone.batches(256, 3), 30), whole.batches(256, 3), strict=False
    ):
        assert torch.equal(one, all_three[1:2])
    assert torch.equal(alone.sample(99), whole.sample(99)[1:2])
    held = torch.cat(list(alone.heldout_batches(256)), dim=1)
    assert held[0, :, 0].tolist() == [row + 1 / 8 for row in range(5501, 6101)]


def test_a_shard_cut_while_it_is_read_is_named(numbered, tmp_path):
    shutil.copytree(numbered.folder, tmp_path / "copy")
    source = StoreSource(ActivationStore(tmp_path / "copy"), chunk_bytes=1)
    path = tmp_path / "copy" / "train-00000.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train-00000\.safetensors: ended while layer_"):
        list(islice(source.batches(256, 0), 30))


AN_EPOCH = """
import resource, sys
from pathlib import Path
from ghosttrack.data.store import ActivationStore, StoreSource

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

source = StoreSource(ActivationStore(Path(sys.argv[1])), chunk_bytes=int(sys.argv[2]))
source.sample(512)
start = peak = resident()
batches = source.batches(512, seed=0)
for _ in range(sum(source.train.unit_tokens) // 512):
    next(batches)
    peak = max(peak, resident())
print(peak - start)
"""


@pytest.mark.slow
def test_an_epoch_of_a_large_store_takes_the_memory_of_two_chunks(tmp_path):
    # 4 shards of 32 MiB, read 4 MiB at a time; a batch is 1 MiB, three of them are at hand
    plain_store(tmp_path, ["layer_0", "layer_1"], [16384] * 4 + [512], d_model=256)
    grown = subprocess.run(
        [sys.executable, "-c", AN_EPOCH, str(tmp_path), str(2**22)],
        capture_output=True,
        text=True,
        check=True,
        # chunks as small as these would be kept by malloc for later; real ones go back at once
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"},
    )
    assert int(grown.stdout) < 2 * 2**22 + 8 * 2**20


@pytest.mark.parametrize("chunk_bytes", [2**31, 1], ids=["mapped", "in chunks"])
def test_int8_rows_come_back_to_half_a_level_and_the_loss_is_told(
    lm, corpus, tmp_path, chunk_bytes
):
    exact, small = tmp_path / "exact", tmp_path / "small"
    for folder, dtype in ((exact, StoreDtype.fp32), (small, StoreDtype.int8)):
        folder.mkdir()
        write(folder, lm, corpus, store=store_config(dtype=dtype))
    stores = ActivationStore(exact), ActivationStore(small)
    sources = [StoreSource(store, chunk_bytes=chunk_bytes) for store in stores]
    drawn = [torch.cat(list(islice(one.batches(90, seed=1), 10)), dim=1) for one in sources]
    assert drawn[1].dtype == torch.float32
    level = drawn[0].abs().amax(-1, keepdim=True) / 127
    assert bool(((drawn[1] - drawn[0]).abs() <= level / 2 + 1e-6).all())
    assert not torch.equal(*drawn)
    held = [torch.cat(list(one.heldout_batches(90)), dim=1) for one in sources]
    exact, stored = (torch.cat(pair, dim=1).double() for pair in zip(drawn, held, strict=True))
    spread = (exact - exact.mean(1, keepdim=True)).square().sum((1, 2))
    lost = (stored - exact).square().sum((1, 2)) / spread
    told = torch.tensor(list(stores[1].fvu.values()), dtype=torch.float64)
    torch.testing.assert_close(told, lost, rtol=1e-3, atol=0)
    assert stores[0].fvu == {}


def test_what_int8_loses_does_not_depend_on_the_batches(lm, corpus, tmp_path):
    told = []
    for size in (1, 16):
        folder = tmp_path / str(size)
        folder.mkdir()
        write(folder, lm, corpus, store=store_config(dtype=StoreDtype.int8), batch_size=size)
        told.append(ActivationStore(folder).fvu)
    assert told[0] == pytest.approx(told[1], rel=1e-3)


def test_a_rank_that_comes_when_the_store_is_done_writes_nothing(lm, corpus, tmp_path):
    write(tmp_path / "gone", lm, corpus, place=Place(1, 1, 2))
    assert not (tmp_path / "gone").exists()


def test_what_a_dead_process_left_half_filled_takes_no_room(lm, corpus, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    stale, alive = (
        tmp_path / f".train-00009.safetensors.{gethostname()}.{pid}.tmp"
        for pid in (child.pid, os.getpid())
    )
    stale.write_bytes(b"x" * 100_000)
    alive.write_bytes(b"x" * 8192)
    assert clear_unfinished(tmp_path) == 8192
    assert alive.exists()
    assert not stale.exists()


def test_several_processes_share_the_shards_and_leave_the_store_of_one(
    folder, lm, corpus, tmp_path
):
    (tmp_path / ".train-00000.safetensors.here.99.tmp").write_bytes(b"of a process that was killed")
    write(tmp_path, lm, corpus, place=Place(1, 1, 2))
    ours = {path.name for path in tmp_path.glob("*.safetensors")}
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    every = sorted(path.name for path in folder.glob("*.safetensors"))
    assert 0 < len(ours) < len(every)
    assert not (tmp_path / "store.json").exists()
    write(tmp_path, lm, corpus, place=Place(0, 0, 2))
    assert files(tmp_path) == files(folder)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in ours} == written


def test_what_another_process_wrote_is_hashed_while_it_is_at_hand(folder):
    for line in (folder / CHECKSUMS).read_text().splitlines():
        name, size, _, digest = json.loads(line)
        content = (folder / name).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (size, digest)


def test_memory_is_given_out_again_only_when_nobody_holds_it():
    room = Room()
    first = room.take(1000)
    view = torch.from_numpy(first)[:10]
    address = first.ctypes.data
    del first
    assert room.take(1000).ctypes.data != address  # a part of it is held
    del view
    assert {room.take(900 + n).ctypes.data for n in range(3)} == {address}
