from itertools import islice

import pytest
import torch

from ghosttrack.data.config import StoreDtype
from ghosttrack.data.store import ActivationStore, StoreSource, write_store
from ghosttrack.data.stream import StreamSource
from tests.data.conftest import EXTRACT, store_config


@pytest.fixture(scope="module")
def sources(lm, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    config = store_config(dtype=StoreDtype.fp32)
    write_store(folder, lm, corpus, [0, 2], config, EXTRACT)
    stream = StreamSource(lm, corpus, [0, 2], config, EXTRACT, buffer_tokens=300)
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


def test_batches_are_fp32_whatever_the_store(lm, corpus):
    stream = StreamSource(lm, corpus, [1], store_config(), EXTRACT, buffer_tokens=300)
    assert next(stream.batches(8, seed=0)).dtype == torch.float32
