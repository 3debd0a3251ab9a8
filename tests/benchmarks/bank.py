"""Speed of a bank's training step: tokens per second against a plain dense PyTorch loop.

Run:
    python -m tests.benchmarks.bank --config A|B|SIX|HOOKS|MEDIUM [--json FILE] [--device cuda]

`ghosttrack` is loss, backward and optimiser step of a bank, as `train.py` runs them; `dense_loop`
a TopK autoencoder as one would write it (linear encoder, torch.topk, scatter, dense decoder,
autograd, foreach Adam), one for each hook point; `floor` the encoder's product `x @ W_enc` alone,
into a buffer that is there already. They take turns in blocks of some steps; a number is the median
of the blocks. Tokens count once for all hook points. On a CPU the seconds of CPU time stand beside,
because machines are shared; on a GPU bf16 autocast is on and the fraction of the GEMM peak,
measured in the same run, is of the five products that a dense step needs.

`--stream` adds a language model of GPT-2's architecture with random weights that feeds the bank,
and the time that the earlier study's job (10M tokens, 20 epochs) would take at that speed.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from ghosttrack.models.config import Dtype
from ghosttrack.models.load import load_lm
from ghosttrack.sae.bank import Bank, initialise
from ghosttrack.sae.config import Architecture, KernelChoice, SAEConfig
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam
from ghosttrack.sae.products import choose
from tests.models.conftest import model_config
from tests.sae.support import sae_config
from tests.support.tiny import tiny_tokenizer

STUDY_TOKENS = 10_000_000 * 20
PRODUCTS = 5


class Shape(NamedTuple):
    n_hooks: int
    d_model: int
    d_sae: int
    k: int
    batch: int
    block: int
    """Steps in one turn."""


SHAPES = {
    "A": Shape(1, 768, 4096, 64, 4096, 3),
    "B": Shape(1, 768, 512, 150, 256, 40),
    "SIX": Shape(6, 128, 512, 16, 1024, 10),
    "HOOKS": Shape(72, 768, 512, 150, 256, 1),
    "MEDIUM": Shape(24, 1024, 5120, 64, 4096, 3),
    "TINY": Shape(2, 32, 64, 4, 128, 3),
}
"""SIX is the default run's bank, HOOKS 12 layers x 6 positions, MEDIUM GPT-2 medium's bank; TINY
shows that everything runs."""

Step = Callable[[], object]


def settings(shape: Shape, kernels: str, architecture: str) -> SAEConfig:
    return sae_config(
        architecture=Architecture[architecture],
        d_sae=shape.d_sae,
        k=shape.k,
        batch_size=shape.batch,
        dead_after_tokens=10**12,  # none dies: AuxK is no part of what is compared
        kernels=KernelChoice[kernels],
    )


def ghosttrack(shape: Shape, config: SAEConfig, x: Tensor) -> Callable[[Tensor], None]:
    hooks = [f"layer_{i}" for i in range(shape.n_hooks)]
    bank = Bank(hooks, shape.d_model, shape.d_sae, shape.k, config.architecture)
    initialise(bank, x.cpu())
    bank.to(x.device)
    loss = BankLoss(shape.n_hooks, config).to(x.device)
    adam = UnitNormAdam(bank, config.lr, config.clip_norm)

    def step(batch: Tensor) -> None:
        with autocast(batch.device):
            losses = loss(bank, batch)
        adam.zero_grad()
        losses.loss.backward()
        adam.step()

    return step


def dense_loop(shape: Shape, x: Tensor) -> Step:
    steps = [_dense_sae(shape, one) for one in x]
    return lambda: [step() for step in steps]


def _dense_sae(shape: Shape, x: Tensor) -> Step:
    encoder = nn.Linear(shape.d_model, shape.d_sae, device=x.device)
    decoder = nn.Linear(shape.d_sae, shape.d_model, device=x.device)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-4, foreach=True)

    def step() -> None:
        with autocast(x.device):
            pre = encoder(x - decoder.bias).relu()
            values, indices = pre.topk(shape.k)
            acts = torch.zeros_like(pre).scatter(-1, indices, values)
            loss = (decoder(acts) - x).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def floor(shape: Shape, x: Tensor) -> Step:
    dtype = torch.bfloat16 if x.is_cuda else x.dtype
    x = x.to(dtype)
    W_enc = torch.randn(shape.n_hooks, shape.d_model, shape.d_sae, dtype=dtype, device=x.device)
    out = x.new_empty(shape.n_hooks, shape.batch, shape.d_sae)
    if shape.n_hooks == 1:
        return lambda: torch.mm(x[0], W_enc[0], out=out[0])
    return lambda: torch.bmm(x, W_enc, out=out)


def autocast(device: torch.device):
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


class Time(NamedTuple):
    wall_s: float
    cpu_s: float


def interleaved(steps: dict[str, Step], block: int, repeats: int, device: str) -> dict[str, Time]:
    """Median seconds of a step; the first turn warms up."""
    times: dict[str, list[Time]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(block):
                step()
            if device == "cuda":
                torch.cuda.synchronize()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append(Time(*(one / block for one in spent)))
    return {
        name: Time(*(statistics.median(column) for column in zip(*of[1:], strict=True)))
        for name, of in times.items()
    }


def gemm_peak() -> float:
    """FLOP/s of a large bf16 product on the GPU."""
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    seconds = interleaved({"gemm": lambda: a @ b}, 20, 3, "cuda")["gemm"].wall_s
    return 2 * 8192**3 / seconds


def stream(shape: Shape, step: Callable[[Tensor], None], device: str) -> Step:
    """Let a model of random weights make the batch anew for every step."""
    context, n_heads = (512, 16) if shape.d_model >= 768 else (64, 4)
    with tempfile.TemporaryDirectory() as folder:
        sizes = GPT2Config(
            n_embd=shape.d_model,
            n_layer=shape.n_hooks,
            n_head=n_heads,
            n_positions=context,
            vocab_size=50257 if shape.d_model >= 768 else 200,
            bos_token_id=0,
            eos_token_id=0,
        )
        GPT2LMHeadModel(sizes).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        dtype = Dtype.bf16 if device == "cuda" else Dtype.fp32
        lm = load_lm(model_config(path=folder, dtype=dtype), Path(folder), device)
    ids = torch.randint(100, (max(1, shape.batch // context), context))
    mask = torch.ones_like(ids, dtype=torch.bool)

    def run() -> None:
        step(lm.residuals(ids, mask, range(shape.n_hooks)).flatten(1, 2))

    return run


def measure(args: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(0)
    shape, device = SHAPES[args.config], torch.device(args.device)
    config = settings(shape, args.kernels, args.architecture)
    x = torch.randn(shape.n_hooks, shape.batch, shape.d_model, device=device)
    train = ghosttrack(shape, config, x)
    steps: dict[str, Step] = {
        "ghosttrack": lambda: train(x),
        "dense_loop": dense_loop(shape, x),
        "floor": floor(shape, x),
    }
    if args.stream:
        steps["ghosttrack_stream"] = stream(shape, train, args.device)
    times = interleaved(steps, shape.block, args.repeats, args.device)
    speed = {name: shape.batch / of.wall_s for name, of in times.items()}
    result: dict[str, object] = {
        "config": args.config,
        "shape": shape._asdict(),
        "architecture": args.architecture,
        "kernels": choose(config, device).name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "repeats": args.repeats,
        "tokens_per_s": {name: round(of) for name, of in speed.items()},
        "times_dense_loop": round(speed["ghosttrack"] / speed["dense_loop"], 2),
        "share_of_floor": round(speed["ghosttrack"] / speed["floor"], 3),
    }
    if device.type == "cpu":
        cpu = {name: of.cpu_s for name, of in times.items()}
        result["cpu_s_per_step"] = {name: round(of, 5) for name, of in cpu.items()}
        result["times_dense_loop_cpu"] = round(cpu["dense_loop"] / cpu["ghosttrack"], 2)
        result["share_of_floor_cpu"] = round(cpu["floor"] / cpu["ghosttrack"], 3)
    else:
        peak, flops = gemm_peak(), 2 * PRODUCTS * shape.d_model * shape.d_sae * shape.n_hooks
        result["gemm_peak_tflops"] = round(peak / 1e12)
        result["share_of_gemm_peak"] = round(flops * speed["ghosttrack"] / peak, 3)
    if args.stream:
        result["study_minutes"] = round(STUDY_TOKENS / speed["ghosttrack_stream"] / 60, 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=SHAPES, required=True)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--architecture", default="topk", choices=["topk", "batchtopk"])
    parser.add_argument("--kernels", default="auto", choices=[one.name for one in KernelChoice])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stream", action="store_true", help="with a language model beside it")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
