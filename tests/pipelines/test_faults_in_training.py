import pytest
import torch

from ghosttrack.errors import ConfigError, GhostTrackError
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.training.trainer import curable
from tests.sae.support import activations, sae_config, small_bank


def batches(error: Exception):
    yield activations(100)
    raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["GPU", "CPU"],
)
def test_no_memory_names_the_settings_to_lower(error: Exception):
    with pytest.raises(ConfigError) as caught, curable(sae_config()):
        evaluate(small_bank(), batches(error), "cpu")
    said = str(caught.value)
    assert said.startswith("sae.batch_size=128: no memory for a step")
    assert "sae.d_sae=64" in said
    assert "trainer=layers" in said
    assert "\n" not in said


def test_a_lost_rank_is_told_from_a_fault_of_the_settings():
    gloo = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")
    with (
        pytest.raises(GhostTrackError, match="another rank ended") as caught,
        curable(sae_config()),
    ):
        raise gloo
    assert not isinstance(caught.value, ConfigError)


def test_an_error_of_the_code_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), curable(sae_config()):
        torch.ones(2, 3) @ torch.ones(2, 3)
