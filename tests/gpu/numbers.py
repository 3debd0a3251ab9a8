"""What is measured on a device, each number by itself."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from ghosttrack.data.forward import Extractor
from ghosttrack.models.config import Products
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.loss import BankLoss
from ghosttrack.training.resume import BankCheckpoints
from tests.benchmarks.bank import Shape, gemm_peak, ghosttrack, interleaved, settings
from tests.benchmarks.extract import random_corpus, random_lm

REPEATS = 3


class Sizes(NamedTuple):
    """How large what is measured is."""

    shape: Shape
    windows: list[int]
    """Of 512 tokens, that the language model reads at once."""
    lm_layers: int
    lm_width: int


STUDY = Sizes(Shape(24, 1024, 5120, 64, 4096, 3), [16, 32, 64, 128, 256], 24, 1024)
SMALL = Sizes(Shape(2, 32, 64, 4, 64, 1), [1, 2], 2, 64)


def _ms(run: Callable[[], object], device: torch.device, block: int = 3) -> float:
    """Milliseconds of a call, the median of some turns."""
    return 1000 * interleaved({"it": run}, block, REPEATS, device.type)["it"].wall_s


def select(device: torch.device, sizes: Sizes) -> dict[str, float]:
    """Select the active latents of a step: 98,304 rows of 5,120 at the study's shape."""
    shape, found = sizes.shape, {}
    pre = torch.randn(shape.n_hooks, shape.batch, shape.d_sae, device=device).bfloat16()
    for name in ("topk", "batchtopk"):
        rule = BankLoss(shape.n_hooks, settings(shape, "auto", name)).rule
        ways = {"plain": rule.dense}
        if device.type == "cuda" and hasattr(rule, "fused"):
            ways["triton"] = lambda pre, _, rule=rule: rule.fused(pre)
        for way, run in ways.items():
            copies = [pre.clone() for _ in range(REPEATS + 1)]  # it overwrites them
            select_one = partial(lambda run, copies: run(copies.pop(), None), run, copies)
            found[f"{name} {way}"] = _ms(select_one, device, block=1)
    return found


def products(device: torch.device, sizes: Sizes) -> dict[str, float]:
    """The encoder's product of all hook points in bf16, and a large square one: TFLOP/s."""
    shape = sizes.shape
    x = torch.randn(shape.n_hooks, shape.batch, shape.d_model, device=device).bfloat16()
    W = torch.randn(shape.n_hooks, shape.d_model, shape.d_sae, device=device).bfloat16()
    ms = _ms(lambda: torch.bmm(x, W), device)
    flops = 2 * shape.n_hooks * shape.batch * shape.d_model * shape.d_sae
    found = {"ms": ms, "tflops": flops / ms / 1e9}
    return found | ({"peak_tflops": gemm_peak() / 1e12} if device.type == "cuda" else {})


def resume_point(device: torch.device, sizes: Sizes, folder: Path) -> dict[str, float]:
    """Seconds that training waits for a resume point, and that its thread writes."""
    shape = sizes.shape
    bank = _bank(shape).to(device)
    moments = {name: torch.zeros_like(bank.W_dec) for name in ("a", "b", "c", "d")}
    content = {"state_dict": bank.state_dict(), "optimizer_states": [{"state": {0: moments}}]}
    checkpoints, found = BankCheckpoints(bank.hooks), {}
    for turn in ("first", "later"):  # pinned memory is kept for the next one
        started = time.perf_counter()
        checkpoints.save_checkpoint(content, folder / "point" / "00000.ckpt")
        found[f"copied_s {turn}"] = time.perf_counter() - started
        checkpoints.finish()
        found[f"written_s {turn}"] = time.perf_counter() - started
    size = (folder / "point" / "00000.ckpt").stat().st_size
    return found | {"gigabytes": size / 1e9}


def passes(device: torch.device, sizes: Sizes, folder: Path) -> dict[str, float]:
    """Milliseconds per 4,096 tokens that the language model reads, by format and windows."""
    lm, found = random_lm(sizes.lm_layers, sizes.lm_width, device.type), {}
    corpus = random_corpus(folder, max(sizes.windows) + 1)
    for products_ in Products if device.type == "cuda" else [Products.fp32]:
        for n in sizes.windows:
            extractor = Extractor(lm, list(range(lm.n_layers)), 1, torch.bfloat16, n, products_)
            part = corpus.train.read(torch.arange(n).numpy())
            ms = _ms(lambda e=extractor, p=part, n=n: e.forward(p, 0, n), device, block=1)
            found[f"{products_.name} {n}"] = ms * 4096 / int(part.lengths.sum())
    return found


def step(device: torch.device, sizes: Sizes) -> dict[str, float]:
    """Milliseconds of a step, and the most memory that it took."""
    shape, found = sizes.shape, {}
    x = torch.randn(shape.n_hooks, shape.batch, shape.d_model, device=device)
    for name in ("topk", "batchtopk"):
        for kernels in ("auto", "dense"):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            train = ghosttrack(shape, settings(shape, kernels, name), x)
            found[f"{name} {kernels} ms"] = _ms(lambda train=train: train(x), device, shape.block)
            if device.type == "cuda":
                peak = torch.cuda.max_memory_allocated()
                found[f"{name} {kernels} peak_gb"] = peak / 1e9
    return found


def _bank(shape: Shape) -> Bank:
    names = [f"layer_{i}" for i in range(shape.n_hooks)]
    return Bank(names, shape.d_model, shape.d_sae, shape.k, Architecture.topk)
