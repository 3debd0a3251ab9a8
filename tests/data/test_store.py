import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ghosttrack.data.config import ExtractConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.store import ActivationStore, StoreSource, disk_bytes, plan, write_store
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.lm import LM
from tests.data.conftest import EXTRACT, store_config


@pytest.fixture(scope="session")
def folder(lm: LM, corpus: CorpusWindows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, lm, corpus, [0, 2], store_config(), EXTRACT)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_row_is_the_residual_of_its_token_at_its_position(folder, lm, corpus):
    seen = 0
    for part, windows in zip(("train", "heldout"), corpus, strict=True):
        for number, shard in enumerate(plan(part, windows, 1, 250)):
            tensors = load_file(folder / f"{part}-{number:05d}.safetensors")
            row = 0
            for index in shard.windows:
                ids, mask = windows.padded(np.array([index]))
                alone = lm.residuals(ids, mask, [0, 2])[:, 0]
                end = row + ids.shape[1] - 1
                assert tensors["token_ids"][row:end].tolist() == ids[0, 1:].tolist()
                assert tensors["positions"][row:end].tolist() == list(range(1, ids.shape[1]))
                assert set(tensors["document_ids"][row:end].tolist()) == {windows.documents[index]}
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
    write_store(tmp_path, lm, corpus, [0, 2], config, ExtractConfig(batch_size=3))
    for path in folder.glob("*.safetensors"):
        stored, other = load_file(path), load_file(tmp_path / path.name)
        for name in stored:
            torch.testing.assert_close(
                stored[name], other[name].to(stored[name].dtype), rtol=2**-7, atol=1e-5
            )


@pytest.mark.parametrize("complete", [0, 1, 3])
def test_an_interrupted_store_ends_byte_identical(folder, lm, corpus, tmp_path, complete):
    calls = 0

    class Dying(LM):
        def residuals(self, *args, **kwargs):
            nonlocal calls
            calls += 1
            if len(list(tmp_path.glob("train-*"))) == complete and calls % 2 == 0:
                raise KeyboardInterrupt
            return super().residuals(*args, **kwargs)

    dying = Dying(lm.model, lm.tokenizer, prepend_bos=True, identity={})
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, dying, corpus, [0, 2], store_config(), EXTRACT)
    assert len(list(tmp_path.glob("train-*"))) == complete
    # what `kill -9` leaves behind
    (tmp_path / f".train-{complete:05d}.safetensors.tmp").write_bytes(b"junk" * 10_000)
    write_store(tmp_path, lm, corpus, [0, 2], store_config(), EXTRACT)
    assert files(tmp_path) == files(folder)


def test_complete_shards_are_not_computed_again(folder, lm, corpus, tmp_path, monkeypatch):
    for path in folder.glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(Extractor, "run", lambda *_: pytest.fail("the model ran"))
    write_store(tmp_path, lm, corpus, [0, 2], store_config(), EXTRACT)
    assert (tmp_path / "store.json").read_bytes() == (folder / "store.json").read_bytes()


@pytest.mark.parametrize("dtype", list(StoreDtype))
def test_the_tensors_take_the_bytes_that_were_foretold(dtype, lm, corpus, tmp_path):
    write_store(tmp_path, lm, corpus, [1], store_config(dtype=dtype), EXTRACT)
    foretold = disk_bytes(900 + 200, 1, lm.d_model, dtype)
    paths = list(tmp_path.glob("*.safetensors"))
    tensors = [tensor for path in paths for tensor in load_file(path).values()]
    assert sum(tensor.nbytes for tensor in tensors) == foretold
    headers = sum(int.from_bytes(path.read_bytes()[:8], "little") + 8 for path in paths)
    assert sum(path.stat().st_size for path in paths) == foretold + headers


def test_a_store_that_does_not_fit_is_refused_before_the_first_byte(
    lm, corpus, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match=r"^store\.dtype=bf16.*corpus\.num_tokens"):
        write_store(tmp_path, lm, corpus, [0], store_config(), EXTRACT)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_no_half_shard(lm, corpus, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_store(tmp_path, lm, corpus, [0], store_config(), EXTRACT)
    assert not list(tmp_path.glob("*.safetensors"))


def test_out_of_memory_halves_the_batch_and_goes_on(folder, lm, corpus, tmp_path, caplog):
    class Small(LM):
        def residuals(self, ids, *args, **kwargs):
            if len(ids) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().residuals(ids, *args, **kwargs)

    small = Small(lm.model, lm.tokenizer, prepend_bos=True, identity={})
    write_store(tmp_path, small, corpus, [0, 2], store_config(), EXTRACT)
    assert "extract.batch_size=" in caplog.text
    name = "train-00000.safetensors"
    torch.testing.assert_close(load_file(tmp_path / name), load_file(folder / name))


def test_overflow_in_fp16_is_refused(lm, corpus, tmp_path):
    class Loud(LM):
        def residuals(self, *args, **kwargs):
            return super().residuals(*args, **kwargs) * 1e6

    loud = Loud(lm.model, lm.tokenizer, prepend_bos=True, identity={})
    with pytest.raises(DataError, match=r"^layer 1: .*store\.dtype=bf16"):
        write_store(tmp_path, loud, corpus, [1], store_config(dtype=StoreDtype.fp16), EXTRACT)


def test_a_truncated_shard_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "train-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="train-00001"):
        ActivationStore(tmp_path / "copy").part("train")


def test_rows_are_gathered_over_shards_in_the_order_asked(folder):
    part = ActivationStore(folder).part("train")
    whole = torch.cat([shard["layer_2"] for shard in part.shards]).float()
    rows = np.random.default_rng(0).permutation(len(whole))[:200]
    assert torch.equal(part.read(rows)[1], whole[rows])


def test_the_store_says_what_it_holds(folder):
    held = ActivationStore(folder)
    assert (held.layers, held.hooks, held.d_model) == ([0, 2], ["layer_0", "layer_2"], 32)
    assert (held.n_train, held.n_heldout, held.dtype) == (900, 200, torch.bfloat16)
    assert StoreSource(held).train.unit_tokens.sum() == 900
