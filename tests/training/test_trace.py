import pytest
import torch

from ghosttrack.sae.config import Architecture
from ghosttrack.training.trace import StepCost, Traffic, trace_step
from tests.sae.support import sae_config
from tests.sae.test_step import config

GB = 10**9
STUDY = {"d_sae": 5120, "k": 64, "batch_size": 4096}


@pytest.fixture(scope="module")
def study() -> StepCost:
    """A step at the study's shape, on a GPU without Triton's kernels."""
    return trace_step(sae_config(**STUDY), 24, 1024, 4096, torch.bfloat16)


def test_a_step_waits_for_the_device_at_the_count_of_dead_latents_alone(study: StepCost):
    assert study.looks == ["aten._to_copy.default"]


def test_each_matrix_of_weights_is_cast_once_a_step(study: StepCost):
    assert study.weight_casts == 2


def test_a_step_moves_and_holds_no_more_than_it_did(study: StepCost):
    """Adam alone takes 7.1 GB: weights, gradients and both moments read, all but one written."""
    assert study.optimiser_bytes < 15.2 * GB
    assert study.loss_bytes < 23.4 * GB
    assert study.held_bytes < 6.5 * GB


def test_auxk_costs_what_the_hook_points_need_that_have_dead_latents(study: StepCost):
    dead = trace_step(sae_config(**STUDY), 24, 1024, 4096, torch.bfloat16, n_dead=64)
    assert 0 < dead.loss_bytes - study.loss_bytes < 9 * GB
    assert dead.looks == study.looks


@pytest.mark.parametrize("architecture", Architecture)
def test_without_autocast_nothing_is_cast(architecture: Architecture):
    cost = trace_step(config(architecture), 2, 16, 64, None)
    assert cost.weight_casts == 0
    assert cost.looks == ["aten._to_copy.default"]


def test_bytes_are_those_of_what_an_operation_touches():
    x, rows = torch.empty(100, 10, device="meta"), torch.zeros(5, dtype=torch.long, device="meta")
    for operation, n_bytes in (
        (lambda: x + 1, 8000),
        (lambda: x.mul_(2), 8000),
        (lambda: x.T, 0),
        (lambda: x.to(torch.bfloat16), 6000),
        (lambda: x[rows], 2 * 200 + 40),
        (lambda: x.sum(), 4004),
    ):
        with Traffic() as counted:
            operation()
        assert counted.n_bytes == n_bytes


def test_what_is_freed_is_held_no_more():
    x = torch.empty(1000, device="meta")
    with Traffic() as counted:
        for _ in range(5):
            y = x + 1
            del y
    assert counted.peak == 4000
