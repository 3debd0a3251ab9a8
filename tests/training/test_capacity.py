from dataclasses import replace

import pytest
import torch

from ghosttrack.errors import ConfigError
from ghosttrack.training.capacity import MemoryPlan, StreamModel, check_capacity, what_fits
from tests.sae.support import sae_config

GB = 10**9
READER = StreamModel(24, 1024, torch.float32, pass_tokens=8192, buffer_row_bytes=2048)
STUDY = MemoryPlan(
    sae_config(d_sae=5120, k=64, batch_size=4096),
    **{"n_hooks": 24, "d_model": 1024, "n_rows": 4096, "products": torch.bfloat16},
    reader=READER,
    buffer_tokens=262144,
)


def test_the_studys_bank_takes_some_28_gb_and_a_large_gpu_has_room():
    assert STUDY.state_bytes == 4_028_891_136
    assert STUDY.buffer_bytes == 24 * 262144 * 2048
    assert 24 * GB < STUDY.n_bytes < 30 * GB
    check_capacity(STUDY, 80 * GB, "cuda:0")


def test_a_gpu_that_is_too_small_is_refused_with_what_would_fit():
    with pytest.raises(ConfigError) as refused:
        check_capacity(STUDY, 28 * GB, "cuda:0")
    said = str(refused.value)
    assert said.startswith("sae.batch_size=4096 and sae.d_sae=5120: about ")
    assert "4.0 for weights, gradients and Adam, 6.4 for a step, 12.9 for the buffer" in said
    assert "cuda:0 has 28.0" in said
    for cure in ("sae.batch_size=2048", "trainer=layers trainer.devices=2", "buffer_tokens=131072"):
        assert cure in said
    assert "\n" not in said


def test_every_cure_fits():
    usable = 26 * GB
    assert replace(STUDY, n_rows=2048).n_bytes <= usable < STUDY.n_bytes
    assert STUDY.on(2).n_bytes <= usable
    assert "sae.batch_size=2048" in what_fits(STUDY, usable)


def test_ranks_that_share_batches_share_the_moments():
    assert replace(STUDY, n_owners=4).state_bytes == STUDY.state_bytes * 10 // 16


def test_where_nothing_of_it_fits_the_bank_is_to_be_smaller():
    assert what_fits(STUDY, GB) == ["a smaller sae.d_sae, or fewer layers"]
    stored = replace(STUDY, reader=None, n_hooks=1)
    assert what_fits(stored, GB // 8) == ["a smaller sae.d_sae, or fewer layers"]
