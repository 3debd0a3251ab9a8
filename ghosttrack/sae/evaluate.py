"""Metrics of a bank on a set of activations."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.metrics import BankMetrics, HookMetrics


@torch.no_grad()
def evaluate(
    bank: Bank, batches: Iterable[Tensor], device: torch.device | str
) -> list[HookMetrics]:
    """Measure the bank on held-out batches `[hook batch d_model]` of raw activations.

    Where a process group is up, every rank brings its own batches and gets the same answer.
    """
    bank = bank.to(device)
    metrics = BankMetrics(bank.hooks, bank.d_model, bank.d_sae).to(device)
    for batch in batches:
        x = batch.to(device)
        acts = bank.encode(x)
        metrics.update(x, bank.decode(acts), *acts)
    return metrics.rows()
