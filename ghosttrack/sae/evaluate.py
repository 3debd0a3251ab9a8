"""How well a bank reconstructs held-out activations, and what its model loses by that."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from ghosttrack.data.progress import Meter
from ghosttrack.data.windows import Windows
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.hooks import layer_of
from ghosttrack.sae.metrics import BankMetrics, HookMetrics

LOGITS = 2**24
"""Logits held at once, over all runs that are compared."""
ENCODE_TOKENS = 1024
"""Tokens that the bank gets at once: its pre-activations are larger than what goes in."""


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
    metrics = BankMetrics(bank.hooks, bank.d_model, bank.d_sae, reduce=reduce).to(device)
    for batch in batches:
        x = batch.to(device)
        acts = bank.encode(x)
        metrics.update(x, bank.decode(acts), *acts)
    return metrics.rows()


class Fidelity(NamedTuple):
    """The model's predictions after positions that a bank reconstructs, at one hook point.

    Cross-entropies (`ce`) are means over predicted tokens, in nats.
    """

    hook: str
    ce_clean: float
    """Of the model as it is."""
    ce_recon: float
    """With reconstructions in place of the residual stream at this hook point."""
    ce_zero: float
    """With zeros in its place."""
    kl: float
    """Mean KL(clean || with reconstructions) per predicted token, in nats."""
    n_tokens: int

    @property
    def ce_recovered(self) -> float:
        """Share of the loss by zeros that reconstructions avoid; 1 is all of it.

        >>> Fidelity("layer_0", ce_clean=3, ce_recon=4, ce_zero=13, kl=1, n_tokens=9).ce_recovered
        0.9
        """
        return (self.ce_zero - self.ce_recon) / (self.ce_zero - self.ce_clean)


@torch.no_grad()
def fidelity(
    lm: LM, bank: Bank, windows: Windows, skip_first: int, batch_size: int
) -> list[Fidelity]:
    """Replace the residual stream at one hook point after the other, and see what is predicted.

    Args:
        lm: Whose residual stream the bank reconstructs.
        bank: Moved to the model's device; its hook points are whole layers, `layer_<l>`.
        windows: Held-out text, by length.
        skip_first: Leading positions that stay as they are, for the bank has never seen them.
        batch_size: Windows per forward pass.
    """
    layers = [layer_of(hook) for hook in bank.hooks]
    assert bank.hooks == [f"layer_{layer}" for layer in layers], "a position is no whole layer"
    bank = bank.to(lm.device)
    sums = torch.zeros(4, len(layers), dtype=torch.float64)
    lengths, n_runs, n_predicted = windows.lengths, 1 + 2 * len(layers), 0
    n_tokens = int(lengths.sum() + (lengths - 1 - skip_first).clip(0).sum())
    with Meter("predicting from reconstructions", n_runs * n_tokens) as meter:
        for start in range(0, len(lengths), batch_size):
            ids, mask = windows.padded(start, start + batch_size)
            replaced = mask.clone()
            replaced[:, :skip_first] = False
            predicts = replaced[:, :-1] & mask[:, 1:]
            runs = []
            for run in _runs(lm, bank, layers, ids, mask, replaced):
                runs.append(run[:, :-1][predicts.to(run.device)])
                meter.advance(int(mask.sum()))
            targets = ids[:, 1:][predicts].to(lm.device)
            sums += _sums(lm, torch.stack(runs), targets, meter.advance)
            n_predicted += len(targets)
    means = (sums / n_predicted).T.tolist()
    return [
        Fidelity(hook, clean, recon, zero, kl, n_predicted)
        for hook, (clean, recon, zero, kl) in zip(bank.hooks, means, strict=True)
    ]


def _runs(
    lm: LM,
    bank: Bank,
    layers: Sequence[int],
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    replaced: Bool[Tensor, "batch pos"],
) -> Iterator[Float[Tensor, "batch pos d_model"]]:
    """Yield the last residual stream: clean, with each layer's reconstruction, with its zeros."""
    *clean, last = lm.residuals(ids, mask, [*layers, lm.n_layers - 1])
    yield last
    at = replaced.to(last.device)
    x = torch.stack([resid[at] for resid in clean])
    x_hat = torch.cat([bank(some) for some in x.split(ENCODE_TOKENS, dim=1)], dim=1).to(x.dtype)
    for instead in (x_hat, torch.zeros_like(x)):
        for layer, resid, values in zip(layers, clean, instead, strict=True):
            yield lm.resume(resid.masked_scatter(at[..., None], values), mask, layer)


def _sums(
    lm: LM,
    last: Float[Tensor, "run token d_model"],
    targets: Int[Tensor, " token"],
    advance: Callable[[int], object],
) -> Float64[Tensor, "4 layer"]:
    """Sum `ce_clean`, `ce_recon`, `ce_zero` and `kl` over tokens."""
    n_runs, n_tokens, _ = last.shape
    n_layers = n_runs // 2
    sums = torch.zeros(4, n_layers, dtype=torch.float64)
    chunk = max(1, LOGITS // (n_runs * lm.d_vocab))
    for start in range(0, n_tokens, chunk):
        some = slice(start, start + chunk)
        logprobs = lm.unembed(last[:, some]).float().log_softmax(-1)
        at = targets[some].expand(n_runs, -1)[..., None]
        ce = -logprobs.gather(2, at)[..., 0].double().sum(1)
        clean, recon = logprobs[0], logprobs[1 : 1 + n_layers]
        kl = (clean.exp() * (clean - recon)).sum(-1).double().sum(1)
        each = ce[:1].expand(n_layers), ce[1 : 1 + n_layers], ce[1 + n_layers :], kl
        sums += torch.stack(each).cpu()
        advance(logprobs[..., 0].numel())
    return sums
