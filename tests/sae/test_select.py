import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack import jit
from ghosttrack.errors import ConfigError
from ghosttrack.sae import compiled, fused
from ghosttrack.sae.architectures import batch_cut, strongest
from ghosttrack.sae.bank import rows_sum
from ghosttrack.sae.config import KernelChoice
from ghosttrack.sae.products import choose
from tests.sae.support import sae_config

SIZES = st.integers(1, 40).flatmap(lambda k: st.tuples(st.just(k), st.integers(max(k, 8), 130)))


def drawn(width: int, seed: int, *, with_ties: bool) -> torch.Tensor:
    pre = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(seed))
    return pre.round() if with_ties else pre


@pytest.mark.parametrize("is_compiled", [True, False])
@given(SIZES, st.integers(0, 10_000), st.booleans())
@settings(max_examples=60)
def test_strongest_holds_the_k_largest_each_at_its_own_index(is_compiled, sizes, seed, with_ties):
    k, width = sizes
    pre = drawn(width, seed, with_ties=with_ties)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "AVAILABLE", is_compiled)
        values, indices = strongest(pre, k)
    assert torch.equal(values, pre.gather(-1, indices))
    assert torch.equal(values.sort(descending=True).values, pre.topk(k).values)
    assert all(len(set(row.tolist())) == k for row in indices.flatten(0, 1))


@given(SIZES, st.integers(0, 10_000), st.booleans())
@settings(max_examples=60)
def test_keep_leaves_the_k_largest_that_are_above_0(sizes, seed, with_ties):
    k, width = sizes
    pre = drawn(width, seed, with_ties=with_ties).flatten(0, 1)
    kept = pre.clone()
    compiled.keep(kept, k)
    assert torch.equal(kept.sort(descending=True).values[:, :k], pre.topk(k).values.relu())
    assert ((kept == 0) | (kept == pre)).all()
    assert ((kept != 0).sum(1) <= k).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [slice(None), slice(0, 3)], ids=["a whole row", "some of it"])
def test_what_is_not_finite_stays_visible_and_inside_its_row(bad, where):
    pre = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    spoiled = torch.arange(2000) % 20 == 7
    pre[spoiled, where] = bad
    values, indices = compiled.select(pre, 5)
    kept = pre.clone()
    compiled.keep(kept, 5)
    assert ((indices >= 0) & (indices < 64)).all()
    if bad != float("-inf"):
        assert not values[spoiled].isfinite().all(1).any()
        assert not kept[spoiled].isfinite().all(1).any()
    others = ~spoiled
    assert torch.equal(values[others].sort().values, pre.topk(5).values[others].sort().values)
    assert ((kept[others] > 0).sum(1) == 5).all()


@pytest.mark.parametrize("n", [1, 40, 700, 3000])
def test_the_cut_of_a_batch_is_its_nth_largest_entry_per_hook_point(n):
    pre = torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(n))
    cut = batch_cut(pre, n, lambda tensor: tensor)
    assert torch.equal(cut, pre.flatten(1).sort(descending=True).values[:, n - 1])


def test_the_cut_of_a_batch_counts_the_other_ranks_entries():
    pre = torch.randn(3, 50, 64)
    cut = batch_cut(pre[:1], 900, lambda mine: torch.cat([mine, _largest(pre[1:], 900)], dim=-1))
    assert torch.equal(cut[0], pre.flatten().sort(descending=True).values[899])


def _largest(pre: torch.Tensor, n: int) -> torch.Tensor:
    return pre.flatten(1).topk(n).values.flatten()[None]


def test_above_collects_what_reaches_the_cut_and_is_positive():
    pre = torch.tensor([[3.0, -1.0, 2.0], [-2.0, -3.0, 1.0], [0.5, 0.0, 4.0]])
    starts, values, indices = compiled.above(pre, 1.0)
    assert starts.tolist() == [0, 2, 3, 4]
    assert values.tolist() == [3.0, 2.0, 1.0, 4.0]
    assert indices.tolist() == [0, 2, 2, 2]
    assert compiled.above(pre, -5.0).values.tolist() == [3.0, 2.0, 1.0, 0.5, 4.0]


def test_rows_sum_by_hand():
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[5.0, 5.0], [0.0, 2.0]]])
    values, indices = torch.tensor([[[2.0, 3.0]], [[1.0, 4.0]]]), torch.tensor([[[1, 0]], [[0, 1]]])
    # hook 0: 2 (0,1) + 3 (1,0); hook 1: 1 (5,5) + 4 (0,2)
    assert rows_sum(values, indices, rows).tolist() == [[[3.0, 2.0]], [[5.0, 13.0]]]


@pytest.fixture(params=[1, 3])
def shared(request, monkeypatch):
    """Work is shared by so many threads, however little it is."""
    monkeypatch.setattr(compiled, "SHARED_FROM", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("shared")
def test_threads_without_a_row_add_nothing():
    error, acts = torch.tensor([[3.0, 1.0], [1.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    gated = compiled.gate(error.clone(), acts)
    squared, total = compiled.residual(error, torch.ones(2, 2), 0.5)
    assert gated.total.tolist() == [4.0, 0.0]
    assert gated.fired.tolist() == [True, False]
    assert squared == 5.0  # 2, 0 and 0, 1
    assert total.tolist() == [1.0, 0.5]


@pytest.mark.usefixtures("shared")
def test_threads_share_the_work_and_change_nothing():
    pre, rows, inputs = (torch.randn(*shape) for shape in ((50, 64), (64, 24), (50, 24)))
    values, indices = compiled.select(pre, 6)
    at = compiled.SparseRows(torch.arange(0, 301, 6), values.relu().flatten(), indices.flatten())
    gradient, d_values = compiled.decode(at, rows, inputs, 0.5)
    by_latent = compiled.transpose(at, d_values, 64)
    sums = compiled.accumulate(by_latent, by_latent.values, inputs)
    dense = torch.zeros_like(pre).scatter(1, indices, values.relu())
    torch.testing.assert_close(gradient, 0.5 * (dense @ rows - inputs))
    torch.testing.assert_close(sums, dense.T @ inputs)
    live = dense.gather(1, indices) > 0
    expected = (gradient @ rows.T).gather(1, indices) * live
    torch.testing.assert_close(d_values.view(50, 6), expected)


@pytest.mark.parametrize(
    ("choice", "k", "device", "missing", "expected"),
    [
        pytest.param("auto", 16, "cpu", None, "compiled", id="3 % on a CPU"),
        pytest.param("auto", 150, "cpu", None, "dense", id="29 % on a CPU"),
        pytest.param("auto", 16, "cuda", None, "triton", id="a GPU"),
        pytest.param("auto", 3, "cuda", "triton", "dense", id="0.6 % on a GPU without Triton"),
        pytest.param("auto", 16, "cuda", "a compiler", "dense", id="a GPU without a compiler"),
        pytest.param("dense", 16, "cpu", None, "dense", id="forced dense"),
        pytest.param("dense", 16, "cuda", None, "dense", id="forced dense on a GPU"),
        pytest.param("sparse", 150, "cuda", None, "sparse", id="forced sparse"),
    ],
)
def test_the_path_follows_from_shape_and_device_unless_forced(
    choice, k, device, missing, expected, monkeypatch
):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(fused, "AVAILABLE", missing != "triton")
    monkeypatch.setattr(fused, "can_launch", lambda: missing != "a compiler")
    config = sae_config(d_sae=512, k=k, kernels=KernelChoice[choice])
    assert choose(config, torch.device(device)) is KernelChoice[expected]


def test_kernels_that_cannot_run_are_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ConfigError, match=r"sae\.kernels=triton needs a GPU"):
        choose(sae_config(kernels=KernelChoice.triton), torch.device("cpu"))


def test_without_numba_the_path_is_that_of_torch(monkeypatch):
    monkeypatch.setattr(jit, "AVAILABLE", False)
    assert choose(sae_config(d_sae=512, k=16), torch.device("cpu")) is KernelChoice.sparse
