"""Minutes of the earlier study's job on paper: traced bytes and counted products at assumed rates.

Run:
    python -m tests.benchmarks.paper

Bytes are those that PyTorch's own operations read and write (`ghosttrack/training/trace.py`); those
of Adam by Triton's row kernels are counted by hand: gradient and rows read for the clip, then rows,
gradient and moments read, and all but the gradient written. Nothing overlaps. None of it was
measured.
"""

from typing import NamedTuple

import torch

from ghosttrack.sae.config import Architecture
from ghosttrack.training.trace import StepCost, trace_step
from tests.benchmarks.bank import PRODUCTS, STUDY_TOKENS
from tests.sae.support import sae_config

HOOKS, D_MODEL, D_SAE, K, BATCH, CONTEXT = 24, 1024, 5120, 64, 4096, 512
WEIGHTS = HOOKS * 2 * D_MODEL * D_SAE
LM_WEIGHTS = 12 * HOOKS * D_MODEL**2
BYTES_S = 0.7 * 4.8e12
"""Of an H200's memory, 70 % of what its maker says."""
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


def products_ms(share: float) -> float:
    flops = 2 * PRODUCTS * HOOKS * BATCH * D_MODEL * D_SAE
    return 1000 * share * flops / FLOPS["bf16"]


def lm_ms(products: str, share: float = 1.0) -> float:
    """Two FLOPs a weight and token, and attention over half of the window on average."""
    flops = BATCH * (2 * LM_WEIGHTS + 4 * HOOKS * D_MODEL * CONTEXT // 2)
    return 1000 * share * flops / FLOPS[products]


def memory_ms(cost: StepCost, optimiser_bytes: float) -> float:
    return 1000 * (cost.loss_bytes + optimiser_bytes) / BYTES_S


def rows() -> list[Row]:
    whole, kernels = step(HOOKS, BATCH), 4 * WEIGHTS * (1 + 0.5 + 7)
    quarter, quarter_batch = step(HOOKS // 4, BATCH), step(HOOKS, BATCH // 4)
    swapped = 2 * BATCH / 4 * HOOKS * D_MODEL * 3 / 4  # bf16 activations of three quarters
    reduced = 2 * 4 * WEIGHTS * 3 / 4  # gradients to their owners, weights back
    plain = memory_ms(whole, whole.optimiser_bytes)
    layers = memory_ms(quarter, kernels / 4)
    ddp = memory_ms(quarter_batch, kernels / 4)
    return [
        Row("1 GPU, `sae.kernels=dense store.products=fp32`", products_ms(1), plain, lm_ms("fp32")),
        Row("1 GPU, `sae.kernels=dense store.products=tf32`", products_ms(1), plain, lm_ms("tf32")),
        Row("1 GPU, `sae.kernels=dense`", products_ms(1), plain, lm_ms("bf16")),
        Row("1 GPU", products_ms(1), memory_ms(whole, kernels), lm_ms("bf16")),
        *(
            Row(name, products_ms(1 / 4), memory, lm_ms("bf16", 1 / 4), 1000 * sent / LINK_BYTES_S)
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
