import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.sae.config import KernelChoice
from ghosttrack.sae.kernels import Dense, Sparse, choose, rows_sum, strongest


@given(
    st.integers(1, 40).flatmap(lambda k: st.tuples(st.just(k), st.integers(max(k, 8), 130))),
    st.integers(0, 10_000),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_strongest_holds_the_k_largest_each_at_its_own_index(sizes, seed, with_ties):
    k, width = sizes
    pre = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(seed))
    if with_ties:
        pre = pre.round()
    values, indices = strongest(pre, k)
    assert torch.equal(values, pre.gather(-1, indices))
    assert torch.equal(values.sort(descending=True).values, pre.topk(k).values)
    assert all(len(set(row.tolist())) == k for row in indices.flatten(0, 1))


def test_two_stages_select_what_one_does_at_the_shapes_of_the_default_bank():
    pre = torch.randn(1, 64, 512)
    assert torch.equal(strongest(pre, 16).values.sort().values, pre.topk(16).values.sort().values)


def test_rows_sum_by_hand():
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[5.0, 5.0], [0.0, 2.0]]])
    values, indices = torch.tensor([[[2.0, 3.0]], [[1.0, 4.0]]]), torch.tensor([[[1, 0]], [[0, 1]]])
    # hook 0: 2 (0,1) + 3 (1,0); hook 1: 1 (5,5) + 4 (0,2)
    assert rows_sum(values, indices, rows).tolist() == [[[3.0, 2.0]], [[5.0, 13.0]]]


@pytest.mark.parametrize(
    ("choice", "k", "device", "expected"),
    [
        pytest.param("auto", 16, "cpu", Sparse, id="3 % on a CPU"),
        pytest.param("auto", 150, "cpu", Dense, id="29 % on a CPU"),
        pytest.param("auto", 16, "cuda", Dense, id="3 % on a GPU"),
        pytest.param("dense", 16, "cpu", Dense, id="forced dense"),
        pytest.param("sparse", 150, "cuda", Sparse, id="forced sparse"),
    ],
)
def test_the_path_follows_from_shape_and_device_unless_forced(choice, k, device, expected):
    assert isinstance(choose(KernelChoice[choice], k, 512, torch.device(device)), expected)
