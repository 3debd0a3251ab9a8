"""Minutes that the earlier study's job takes, from a slice of `train.py` itself.

Run:
    python -m tests.benchmarks.study --device cpu|cuda [--devices N] [--small] [--json FILE]

The job: 24 TopK SAEs (d 1024, d_sae 5120, k 64) of GPT-2 medium's shape, batches of 4,096, ten
million tokens twenty times, the model beside training. `train.py` runs some steps of it with
everything that it has: buffer, loggers, AuxK, resume points. What its own log says of them after
the first buffer is scaled to the job's steps, and what it took before and after them is added.

Shares: a step and a pass of the language model are timed alone in this process; the rest of what a
step took in `train.py` is `else` (buffer, logs, resume points, and the host where it is slower). On
several devices the passes are shared. The fraction of the GEMM peak, which is measured here too, is
of the five products that a dense step needs. `--small` shows that it runs.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.models.config import Products
from tests.benchmarks.bank import (
    PRODUCTS,
    STUDY_TOKENS,
    Shape,
    Time,
    gemm_peak,
    ghosttrack,
    interleaved,
    settings,
)
from tests.benchmarks.extract import random_corpus, random_lm
from tests.support.commands import ROOT, environment, write_corpus
from tests.support.tiny import tiny_tokenizer


class Slice(NamedTuple):
    shape: Shape
    context: int
    buffer_tokens: int
    n_buffers: int
    """That are filled; the first is not timed."""
    extract_batch_size: int


STUDY = Slice(Shape(24, 1024, 5120, 64, 4096, 3), 512, 262144, 4, 32)
SMALL = Slice(Shape(2, 64, 128, 8, 256, 3), 32, 1024, 3, 8)


def make_inputs(of: Slice, folder: Path) -> None:
    """Write a model of random weights, and text in the words of its tokenizer."""
    shape = of.shape
    sizes = GPT2Config(
        **{"n_embd": shape.d_model, "n_layer": shape.n_hooks, "n_head": shape.d_model // 64},
        **{"n_positions": of.context, "vocab_size": 512, "bos_token_id": 0, "eos_token_id": 0},
    )
    GPT2LMHeadModel(sizes).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    write_corpus(folder / "text.txt", 2 * of.buffer_tokens // 12 + 2000)


def command(of: Slice, folder: Path, device: str, devices: int) -> list[str]:
    """The command line of the slice."""
    shape = of.shape
    every = of.buffer_tokens // shape.batch  # steps of a buffer
    accelerator = "gpu" if device == "cuda" else "cpu"
    return [
        *(str(ROOT / "train.py"), f"model.path={folder / 'model'}", "model.name=study"),
        *(f"model.context={of.context}", "model.prepend_bos=true", f"model.products={'bf16'}"),
        *(f"output_root={folder}", "corpus=text", f"corpus.path={folder / 'text.txt'}"),
        *("corpus.packing=blocks", f"corpus.num_tokens={of.buffer_tokens}"),
        *(f"corpus.heldout_tokens={4 * shape.batch}", "train.source=stream"),
        *(f"train.buffer_tokens={of.buffer_tokens}", f"sae.d_sae={shape.d_sae}"),
        *(f"extract.batch_size={of.extract_batch_size}", f"sae.k={shape.k}"),
        *(f"sae.batch_size={shape.batch}", f"sae.dead_after_tokens={of.buffer_tokens // 2}"),
        *(f"trainer.accelerator={accelerator}", f"trainer.devices={devices}"),
        *(f"trainer.max_steps={of.n_buffers * every}", f"trainer.log_every_n_steps={every}"),
        f"train.checkpoint_every={2 * every}",
    ]


def run_fresh(words: Sequence[str]) -> None:
    """Run a program to its end."""
    subprocess.run([sys.executable, *words], check=True, env=environment(Path.home()))


class Timed(NamedTuple):
    """What the slice took."""

    step_s: float
    """A step, everything in it."""
    around_s: float
    """Before the first step and after the last."""


def timed(
    of: Slice, folder: Path, run: Callable[[Sequence[str]], object], words: list[str]
) -> Timed:
    """Run the slice and read its log."""
    started = time.perf_counter()
    run(words)
    whole_s = time.perf_counter() - started
    (file,) = folder.glob("study/runs/train/2*/lightning_logs/*/metrics.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        speeds = [
            float(row["tokens_per_s"]) for row in csv.DictReader(lines) if row["tokens_per_s"]
        ]
    assert len(speeds) == of.n_buffers, speeds
    each = [of.buffer_tokens / speed for speed in speeds]  # a log for each buffer
    step_s = sum(each[1:]) * of.shape.batch / (of.buffer_tokens * (of.n_buffers - 1))
    return Timed(step_s, max(whole_s - sum(each), 0.0))


def alone(of: Slice, device: str, folder: Path) -> dict[str, Time]:
    """Time a step, and the passes that its tokens take, each by itself."""
    shape = of.shape
    x = torch.randn(shape.n_hooks, shape.batch, shape.d_model, device=device)
    train = ghosttrack(shape, settings(shape, "auto", "topk"), x)
    lm = random_lm(shape.n_hooks, shape.d_model, device)
    layers, windows = list(range(shape.n_hooks)), of.extract_batch_size
    products = Products.bf16
    extractor = Extractor(lm, layers, 1, torch.bfloat16, windows, products)
    corpus: CorpusWindows = random_corpus(folder, windows + 1)
    part = corpus.train.read(torch.arange(windows).numpy())
    n_tokens = int(part.lengths.sum())
    times = interleaved(
        {"step": lambda: train(x), "pass": lambda: extractor.forward(part, 0, windows)},
        *(shape.block, 2, device),
    )
    per_step = times["pass"].wall_s * shape.batch / n_tokens
    return {"step": times["step"], "language model": times["pass"]._replace(wall_s=per_step)}


def measure(of: Slice, device: str, devices: int, run: Callable[[Sequence[str]], object]) -> dict:
    """Run, scale and part."""
    shape = of.shape
    with tempfile.TemporaryDirectory(dir=ROOT / "outputs") as name:
        folder = Path(name)
        make_inputs(of, folder)
        took = timed(of, folder, run, command(of, folder, device, devices))
        parts = alone(of, device, folder)
    steps = STUDY_TOKENS / shape.batch
    step_s = parts["step"].wall_s / devices
    lm_s = parts["language model"].wall_s / devices
    shares = {"step": step_s, "language model": lm_s, "else": max(took.step_s - step_s - lm_s, 0)}
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "devices": devices,
        "shape": shape._asdict(),
        "ms_per_step": round(1000 * took.step_s, 2),
        "seconds_around": round(took.around_s, 1),
        "minutes": round((steps * took.step_s + took.around_s) / 60, 1),
        "ms_by_part": {name: round(1000 * one, 2) for name, one in shares.items()},
    }
    if device == "cuda":
        peak = gemm_peak()
        flops = 2 * PRODUCTS * shape.d_model * shape.d_sae * shape.n_hooks * shape.batch
        result |= {
            "gemm_peak_tflops": round(peak / 1e12),
            "share_of_gemm_peak": round(flops / took.step_s / devices / peak, 3),
        }
    return result


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a tiny shape, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    result = measure(SMALL if args.small else STUDY, args.device, args.devices, run_fresh)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
