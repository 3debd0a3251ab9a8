"""Adam of a bank that several ranks hold, each of which moves some of its hook points."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, distributed, nn

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.optimiser import UnitNormAdam


class ShardedAdam(UnitNormAdam):
    """`UnitNormAdam` of which every rank does the part of the hook points that it owns.

    A step sums each gradient at its owner alone (reduce-scatter), and sends what moved to all
    (all-gather): of what products take in autocast's number format, the copy in that format, so
    that weights of others are old until `share`. It is exact: an owner has the whole gradient of
    the global batch, and sees no other hook point's for its norm.

    Args:
        bank: The same on every rank; what the owners hold of it is sent to all here.
        owned: Hook points of every rank, in order.
    """

    def __init__(
        self,
        bank: Bank,
        lr: float,
        clip_norm: float,
        owned: Sequence[slice],
        rank: int,
        *,
        with_triton: bool = False,
    ) -> None:
        self._whole, self._owned, self._mine = bank, owned, owned[rank]
        super().__init__(part(bank, self._mine), lr, clip_norm, with_triton=with_triton)
        self.share()

    def step(self, closure: Callable[[], object] | None = None) -> object:  # pyright: ignore
        """Run the closure, which computes this rank's gradients, and move."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._reduce()
        if self._bank.hooks:  # of more ranks than hook points some own none
            super().step()
        self._send_moved()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the bank."""
        super().zero_grad(set_to_none)
        self._whole.zero_grad(set_to_none)

    @torch.no_grad()
    def _reduce(self) -> None:
        """Average the ranks' gradients where they are owned."""
        pairs = list(zip(self._whole.parameters(), self._bank.parameters(), strict=True))
        gradients = [whole.grad for whole, _ in pairs if whole.grad is not None]
        assert len(gradients) == len(pairs), "step() before backward()"
        works = [
            distributed.reduce(rows, owner, async_op=True)
            for gradient in gradients
            for owner, rows in self._by_owner(gradient)
        ]
        _wait(works)
        for gradient, (_, mine) in zip(gradients, pairs, strict=True):
            mine.grad = gradient[self._mine].div_(len(self._owned))

    def share(self) -> None:
        """Give every rank the owners' weights as they are."""
        self._send(list(self._whole.parameters()))

    @torch.no_grad()
    def _send_moved(self) -> None:
        """Give every rank what its products take of the owners' weights."""
        sent: list[Tensor] = []
        for name, weight in self._whole.named_parameters():
            copy = self._whole.copies.target(name, weight)
            if copy is not None:
                copy[self._mine] = weight[self._mine]
                self._whole.copies.written(name, weight, copy)
            sent.append(weight if copy is None else copy)
        self._send(sent)

    def _send(self, tensors: Sequence[Tensor]) -> None:
        works = [
            distributed.broadcast(rows, owner, async_op=True)
            for tensor in tensors
            for owner, rows in self._by_owner(tensor.detach())
        ]
        _wait(works)

    def _by_owner(self, tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield each owner's rows, as they lie in memory."""
        rows = tensor if tensor.is_contiguous() else tensor.mT
        for owner, at in enumerate(self._owned):
            if at.start < at.stop:
                yield owner, rows[at]


def _wait(works: Sequence[distributed.Work | None]) -> None:
    for work in works:
        assert work is not None, "no rank is left out"
        work.wait()


def part(bank: Bank, hooks: slice) -> Bank:
    """Give some hook points as a bank whose parameters are the same memory."""
    with torch.device("meta"):
        some = Bank(bank.hooks[hooks], bank.d_model, bank.d_sae, bank.k, bank.architecture)
    for name, whole in bank.named_parameters():
        setattr(some, name, nn.Parameter(whole.detach()[hooks]))
    return some
