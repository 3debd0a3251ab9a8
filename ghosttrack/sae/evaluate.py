"""Metrics of a bank on a set of activations."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.metrics import BankMetrics, HookMetrics


@torch.no_grad()
def evaluate(
    bank: Bank, batches: Iterable[Tensor], device: torch.device | str, *, reduce: bool = True
) -> list[HookMetrics]:
    """Measure the bank on held-out batches `[hook batch d_model]` of raw activations.

    Args:
        bank: Moved to `device`.
        batches: Every held-out token once, over all ranks.
        device: Where it is measured.
        reduce: Where a process group is up every rank brings batches of its own, and gets the same
            answer; false where each rank has all batches of a bank of its own.
    """
    bank = bank.to(device)
    metrics = bank_metrics(bank, reduce=reduce).to(device)
    for batch in batches:
        x = batch.to(device)
        acts = bank.encode(x)
        metrics.update(x, bank.decode(acts), *acts)
    return metrics.rows()


def bank_metrics(bank: Bank, *, reduce: bool) -> BankMetrics:
    """Make metrics of a bank, that sum over ranks or stay on this one."""
    metrics = BankMetrics(bank.hooks, bank.d_model, bank.d_sae)
    if not reduce:
        metrics.distributed_available_fn = _never
    return metrics


def _never() -> bool:
    return False
