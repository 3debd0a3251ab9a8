"""Minutes of the earlier study's job on paper: traced bytes and counted products at assumed rates.

Run:
    python -m tests.benchmarks.paper

Bytes are those that PyTorch's own operations read and write (`ghosttrack/training/trace.py`), and
of Triton's row kernels those of what they are launched with. Those of Adam's are counted by hand:
gradient and rows read for the clip, then rows, gradient and moments read, and all but the gradient
written. Nothing overlaps. None of it was measured.
"""

from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

from ghosttrack.sae import fused
from ghosttrack.sae.config import Architecture, KernelChoice
from ghosttrack.training.trace import StepCost, trace_step
from tests.benchmarks.bank import PRODUCTS, STUDY_TOKENS
from tests.sae.support import sae_config

HOOKS, D_MODEL, D_SAE, K, BATCH, CONTEXT = 24, 1024, 5120, 64, 4096, 512
WEIGHTS = HOOKS * 2 * D_MODEL * D_SAE
LM_WEIGHTS = 12 * HOOKS * D_MODEL**2
BYTES_S = 0.7 * 4.8e12
"""Of an H200's memory, 70 % of what its maker says."""
L2_BYTES_S = 5.5e12
"""Out of its L2 cache."""
LINK_BYTES_S = 0.7 * 450e9
"""Between two of one machine, each way."""
FLOPS = {"bf16": 0.6 * 989e12, "tf32": 0.6 * 494e12, "fp32": 0.8 * 67e12}
START_S, POINT_S, N_POINTS = 60, 1.0, 2
"""Loading and initialising; copying a resume point to the host, each ten minutes."""


class Row(NamedTuple):
    """Milliseconds of a step of 4,096 tokens."""

    name: str
    products: float
    memory: float
    lm: float
    links: float = 0.0

    @property
    def minutes(self) -> float:
        """Of the whole job."""
        step_ms = self.products + self.memory + self.lm + self.links
        return (STUDY_TOKENS / BATCH * step_ms / 1000 + START_S + POINT_S * N_POINTS) / 60


def step(n_hooks: int, n_rows: int) -> StepCost:
    config = sae_config(architecture=Architecture.topk, d_sae=D_SAE, k=K, batch_size=BATCH)
    return trace_step(config, n_hooks, D_MODEL, n_rows, torch.bfloat16)


class Launches:
    """Stands where Triton's kernels are, and counts what they read and write."""

    def __init__(self) -> None:
        self.n_bytes, self._name = 0, ""

    def __getattr__(self, name: str) -> "Launches":
        self._name = name
        return self

    def __getitem__(self, grid: tuple[int, ...]) -> "Launches":
        return self

    def __call__(self, *arguments: object, **_: int) -> None:
        first, *others = [one for one in arguments if isinstance(one, Tensor)]
        self.n_bytes += sum(one.nbytes for one in others)
        if self._name == "scatter":  # two sectors of 32 bytes an entry
            self.n_bytes += 64 * others[0].numel()
        else:
            self.n_bytes += first.nbytes * (2 if self._name == "top_k" else 1)  # in place


def kernels_loss_bytes(n_hooks: int, n_rows: int) -> int:
    """Those of loss and gradients by Triton's kernels between PyTorch's operations.

    Adam wrote copies of the weights, so there are no casts.
    """
    config = sae_config(d_sae=D_SAE, k=K, batch_size=BATCH, kernels=KernelChoice.triton)
    launches = Launches()
    with (
        mock.patch.object(fused, "_kernels", return_value=launches),
        mock.patch.object(fused, "runs_on", return_value=True),
    ):
        cost = trace_step(config, n_hooks, D_MODEL, n_rows, torch.bfloat16)
    casts = 6 * cost.weight_casts * n_hooks * D_MODEL * D_SAE
    return cost.loss_bytes + launches.n_bytes - casts


def products_ms(share: float, n: int = PRODUCTS) -> float:
    flops = 2 * n * HOOKS * BATCH * D_MODEL * D_SAE
    return 1000 * share * flops / FLOPS["bf16"]


def gathered_ms(share: float) -> float:
    """Three products, and decoder rows gathered in place of two."""
    return (
        products_ms(share, PRODUCTS - 2)
        + 1000 * share * HOOKS * BATCH * K * D_MODEL * 2 / L2_BYTES_S
    )


def lm_ms(products: str, share: float = 1.0) -> float:
    """Two FLOPs a weight and token, and attention over half of the window on average."""
    flops = BATCH * (2 * LM_WEIGHTS + 4 * HOOKS * D_MODEL * CONTEXT // 2)
    return 1000 * share * flops / FLOPS[products]


def memory_ms(loss_bytes: float, optimiser_bytes: float) -> float:
    return 1000 * (loss_bytes + optimiser_bytes) / BYTES_S


def rows() -> list[Row]:
    whole, adam = step(HOOKS, BATCH), 4 * WEIGHTS * (1 + 0.5 + 7 + 0.5)  # and bf16 copies
    kernels, quarter = kernels_loss_bytes(HOOKS, BATCH), kernels_loss_bytes(HOOKS // 4, BATCH)
    quarter_batch = kernels_loss_bytes(HOOKS, BATCH // 4)
    swapped = 2 * BATCH / 4 * HOOKS * D_MODEL * 3 / 4  # bf16 activations of three quarters
    reduced = (4 + 2) * WEIGHTS * 3 / 4  # gradients to their owners, bf16 weights back
    plain = memory_ms(whole.loss_bytes, whole.optimiser_bytes)
    layers, ddp = memory_ms(quarter, adam / 4), memory_ms(quarter_batch, adam / 4)
    return [
        Row("1 GPU, `sae.kernels=dense store.products=fp32`", products_ms(1), plain, lm_ms("fp32")),
        Row("1 GPU, `sae.kernels=dense store.products=tf32`", products_ms(1), plain, lm_ms("tf32")),
        Row("1 GPU, `sae.kernels=dense`", products_ms(1), plain, lm_ms("bf16")),
        Row("1 GPU", gathered_ms(1), memory_ms(kernels, adam), lm_ms("bf16")),
        *(
            Row(name, gathered_ms(1 / 4), memory, lm_ms("bf16", 1 / 4), 1000 * sent / LINK_BYTES_S)
            for name, memory, sent in (
                ("4 GPUs, `trainer=layers`", layers, swapped),
                ("4 GPUs, `trainer=ddp`", ddp, reduced),
            )
        ),
    ]


def main() -> None:
    """Print the table."""
    print("| the study's job on H200s | products | memory | language model | links | minutes |")
    print("|---|---|---|---|---|---|")
    for row in rows():
        cells = [f"{one:.1f}" for one in (row.products, row.memory, row.lm, row.links)]
        print(f"| {row.name} | {' | '.join(cells)} | {row.minutes:.0f} |")


if __name__ == "__main__":
    main()
