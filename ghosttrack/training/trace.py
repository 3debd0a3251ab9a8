"""What a step of a bank moves and holds on a GPU, from a run of it without numbers.

PyTorch's meta device does every operation on shapes alone. Each is seen as it is dispatched: bytes
are those of its operands and results, so that a product counts each matrix once, and an operation
that reads twice (top-k) less than it does.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import SAEConfig
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam

aten = torch.ops.aten
PRODUCTS = {aten.bmm.default, aten.baddbmm.default, aten.mm.default, aten.addmm.default}
LOOKS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}
"""Operations whose result's value or size the host waits for."""
UNTOUCHED = {aten.empty.memory_format, aten.empty_strided.default, aten.empty_like.default}
PICKED = {aten.gather.default, aten.index.Tensor, aten.index_select.default}
"""Read no more than they return."""
PUT = {
    *(aten.scatter_.src, aten.scatter_.value, aten.index_put_.default),
    *(aten.scatter_add_.default, aten.index_add_.default),
}
"""Touch no more than they are given, of what they write into."""


class StepCost(NamedTuple):
    """What one step takes of a GPU."""

    loss_bytes: int
    """Read and written by loss and gradients."""
    optimiser_bytes: int
    """Read and written by clipping, Adam and the norms of decoder rows."""
    held_bytes: int
    """Most that is held at once besides weights, gradients and moments."""
    looks: list[str]
    """Operations at which the host waits for the device."""
    weight_casts: int
    """Matrices of weights that are brought to a narrower number format."""


class Traffic(TorchDispatchMode):
    """Counts what operations on the meta device read, write and hold.

    Args:
        products: Format that autocast brings the factors of products to; None: it is off.
        looked_at: What the host sees where it looks.
    """

    def __init__(self, products: torch.dtype | None = None, looked_at: int = 0) -> None:
        super().__init__()
        self.products, self.looked_at = products, looked_at
        self.n_bytes = self.held = self.peak = 0
        self.looks: list[str] = []
        self.casts: Counter[int] = Counter()
        """Number of casts to a narrower format, by elements."""
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 (an overload of an operator)
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Do an operation and count it."""
        kwargs = kwargs or {}
        to_host = func is aten._to_copy.default and kwargs.get("device") == torch.device("cpu")
        if func in LOOKS or to_host:
            self.looks.append(str(func))
            shown = torch.full(args[0].shape, self.looked_at, dtype=args[0].dtype)
            return shown if to_host else self.looked_at
        if func in PRODUCTS and self.products is not None:
            args = tree_map_only(Tensor, self._narrowed, args)
        out = func(*args, **kwargs)
        if func is aten._to_copy.default and out.itemsize < args[0].itemsize:
            self.casts[out.numel()] += 1
        if not (func.is_view or func in UNTOUCHED):
            self.n_bytes += _moved(func, args, kwargs, out)
        self._hold(out)
        return out

    def _narrowed(self, factor: Tensor) -> Tensor:
        """Do what autocast does, which the meta device has none of."""
        if factor.dtype is not torch.float32:
            return factor
        self.casts[factor.numel()] += 1
        self.n_bytes += _size(factor) * 3 // 2
        return self._hold(factor.to(self.products))

    def _hold(self, out: Any) -> Any:  # noqa: ANN401 (whatever an operation returns)
        for one in tree_leaves(out):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                self._alive[StorageWeakRef(storage)] = storage.nbytes()
        self._alive = {ref: size for ref, size in self._alive.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self._alive.values()))
        return out


def _size(tensor: Tensor) -> int:
    """Count the bytes that a tensor's elements lie in; those of an expanded one, once."""
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())


def _moved(func: Any, args: Any, kwargs: Any, out: Any) -> int:  # noqa: ANN401
    """Count what an operation reads and writes."""
    read = [_size(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    written = [_size(one) for one in tree_leaves(out) if isinstance(one, Tensor)]
    if func in PICKED:
        return 2 * sum(written) + sum(read[1:])
    if func in PUT:
        return 2 * sum(read[1:])
    if func is aten._fused_adam_.default:  # returns nothing; gradients are read alone
        weights, _, means, squares = (sum(map(_size, one)) for one in args[:4])
        return sum(read) + weights + means + squares
    name = func.overloadpacket.__name__
    if name in ("copy_", "fill_", "zero_"):
        return sum(read[1:]) + read[0]
    if not written and name.endswith("_"):
        written = [_size(one) for one in tree_leaves(args[0]) if isinstance(one, Tensor)]
    return sum(read) + sum(written)


@contextmanager
def _autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """Have code that asks believe that a GPU's autocast is on."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or before[1])
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def trace_step(
    config: SAEConfig,
    n_hooks: int,
    d_model: int,
    n_rows: int,
    products: torch.dtype | None,
    n_dead: int = 0,
) -> StepCost:
    """Run a step of PyTorch's own operations on the meta device, with Adam's moments there already.

    Args:
        config: How a step goes.
        n_hooks: Hook points that pass at once.
        d_model: Width of the activations.
        n_rows: Tokens of the batch that one device gets.
        products: Format of the products; None is fp32.
        n_dead: Dead latents of every hook point.
    """
    names = [f"layer_{i}" for i in range(n_hooks)]
    with torch.device("meta"):
        bank = Bank(names, d_model, config.d_sae, config.k, config.architecture)
        loss = BankLoss(n_hooks, config)
        x = torch.empty(n_hooks, n_rows, d_model, dtype=torch.bfloat16)
    adam = UnitNormAdam(bank, config.lr, config.clip_norm)
    for parameter in adam.param_groups[0]["params"]:  # made at the first step, on a device alone
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        adam.state[parameter] = {"step": torch.zeros((), device="meta"), **moments}
    counted = Traffic(products, n_dead)
    with _autocast(products), counted:
        losses = loss(bank, x)
        losses.loss.backward()
        after_loss = counted.n_bytes
        adam.step()
    gradients = sum(_size(one) for one in bank.parameters())
    matrix = bank.W_enc.numel()
    return StepCost(
        after_loss,
        counted.n_bytes - after_loss,
        counted.peak - gradients,
        counted.looks,
        counted.casts[matrix],
    )
