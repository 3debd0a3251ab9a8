"""Extraction beside the bare forward pass; bytes on disk; memory at ten times the tokens.

Run:
    python -m tests.benchmarks.extract [--speed] [--memory] [--device cuda] [--json FILE]

`speed`: tokens per second of writing a store of all layers, files synced and hashed, as a multiple
of the floor: the same forward pass without its head on the same batches. Both take turns, now
one first and now the other. GPT-2 architecture with random weights in the sizes of `--layers` and
`--width`, windows of 512, two batches to a shard.
The bytes of all its files are given as a multiple of its tensors' bytes.
`memory`: peak memory of `extract.py` with a million tokens of one text file, as a multiple of that
with a tenth of them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ghosttrack.data.config import StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.store import disk_bytes, torch_dtype
from ghosttrack.data.store_write import write_store
from ghosttrack.data.windows import Cut, DocumentTable, StoredWindows, TokenFile
from ghosttrack.models.config import Products
from ghosttrack.models.lm import LM
from tests.support.tiny import WORDS, tiny_gpt2, tiny_tokenizer

ROOT = Path(__file__).parents[2]
CONTEXT = 512
TURNS = 5


def random_lm(layers: int, width: int, device: str) -> LM:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=width // 64, n_positions=CONTEXT)
    model = GPT2LMHeadModel(config).to(device)
    return LM(model, tiny_tokenizer(), prepend_bos=True, identity={})


def random_corpus(folder: Path, n_windows: int) -> CorpusWindows:
    """Windows of random tokens, as packed blocks are: all of the same length."""
    draw = np.random.default_rng(0)
    with closing(TokenFile(folder)) as file:
        for place in range(n_windows):
            file.append([place], [draw.integers(0, 50257, CONTEXT - 1).tolist()])
    table, cut = DocumentTable.read(folder), Cut(CONTEXT, (0,), skip_first=1)
    parts = (np.arange(1, n_windows + 1), np.arange(2))
    return CorpusWindows(*(StoredWindows(folder, table, part, cut, 10**9) for part in parts))


class Took(NamedTuple):
    """What a turn took; CPU seconds are of all threads, whatever else the machine did."""

    seconds: float
    cpu_seconds: float


def timed(run: Callable[[], None]) -> Took:
    started, cpu_started = time.perf_counter(), time.process_time()
    run()
    return Took(time.perf_counter() - started, time.process_time() - cpu_started)


def bare(lm: LM, corpus: CorpusWindows, batch_size: int) -> None:
    """Run the trunk alone, over the same batches."""
    with torch.no_grad():
        for part in corpus:
            windows = part.read(np.arange(len(part.lengths)))
            for first in range(0, len(part.lengths), batch_size):
                last = min(first + batch_size, len(part.lengths))
                ids = windows.padded(first, last).ids.to(lm.device)
                lm.parts.trunk(input_ids=ids, use_cache=False)
    if lm.device.type == "cuda":
        torch.cuda.synchronize()


def measure_speed(layers: int, width: int, batch_size: int, batches: int, device: str) -> dict:
    lm = random_lm(layers, width, device)
    store = StoreConfig(StoreDtype.bf16, 1, 2 * batch_size * CONTEXT, Products.bf16)
    dtype = torch_dtype(store.dtype)
    extractor = Extractor(
        lm, list(range(layers)), store.skip_first, dtype, batch_size, store.products
    )
    on_disk = 0
    turns: dict[str, list[Took]] = {"bare": [], "extract": []}
    with tempfile.TemporaryDirectory(dir=ROOT / "outputs") as folder:
        corpus = random_corpus(Path(folder), batches * batch_size + 1)
        for turn in range(TURNS + 1):
            target = Path(folder, f"store-{turn}")
            target.mkdir()
            tasks = {
                "bare": partial(bare, lm, corpus, batch_size),
                "extract": partial(write_store, target, extractor, corpus, store),
            }
            order = list(tasks) if turn % 2 else list(tasks)[::-1]
            took = {name: timed(tasks[name]) for name in order}
            if turn:  # the first is to get warm
                for name, value in took.items():
                    turns[name].append(value)
            on_disk = sum(file.stat().st_size for file in target.iterdir())
            shutil.rmtree(target)
    n_tokens = sum(len(part.lengths) for part in corpus) * CONTEXT
    n_kept = sum(int(part.kept.sum()) for part in corpus)
    return {
        "model": f"{layers} layers of {width}, {device}",
        "tokens": n_tokens,
        "tokens_per_s": {
            name: round(n_tokens / min(one.seconds for one in each)) for name, each in turns.items()
        },
        "share_of_bare": _share(turns, "seconds"),
        "share_of_bare_cpu": _share(turns, "cpu_seconds"),
        "bytes_over_tensors": round(on_disk / disk_bytes(n_kept, layers, width, store.dtype), 5),
    }


def _share(turns: dict[str, list[Took]], field: str) -> float:
    """Compare the best turns: what else the machine does only ever adds."""
    bare, ours = (min(getattr(one, field) for one in turns[name]) for name in turns)
    return round(bare / ours, 3)


def measure_memory(n_tokens: int) -> dict:
    """Peak memory of the program, from the kernel's account of the finished process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_gpt2(folder / "model")
        draw = np.random.default_rng(0)
        text = " ".join(draw.choice([word for word in WORDS if word.isalpha()], n_tokens + 10_000))
        words = text.split(" ")
        lines = [" ".join(words[start : start + 60]) for start in range(0, len(words), 60)]
        (folder / "text.txt").write_text("\n".join(lines))
        peaks = [_peak(folder, model, n) for n in (n_tokens // 10, n_tokens)]
    return {
        "tokens": [n_tokens // 10, n_tokens],
        "peak_mb": [round(peak / 1e6, 1) for peak in peaks],
        "ratio": round(peaks[1] / peaks[0], 3),
    }


def _peak(folder: Path, model: Path, n_tokens: int) -> int:
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "extract.py"), f"model.path={model}", "model.name=tiny"),
            *("model.context=64", "corpus=text", f"corpus.path={folder / 'text.txt'}"),
            *(f"corpus.num_tokens={n_tokens}", "corpus.heldout_tokens=5000"),
            *("store.shard_tokens=65536", "extract.batch_size=64", f"output_root={folder}"),
        ],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"extract.py ended with {os.waitstatus_to_exitcode(status)}"
    return usage.ru_maxrss * 1024


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    both = not (given.speed or given.memory)
    found: dict[str, object] = {}
    if given.speed or both:
        sizes = (given.layers, given.width, given.batch_size, given.batches)
        found["speed"] = measure_speed(*sizes, given.device)
    if given.memory or both:
        found["memory"] = measure_memory(given.tokens)
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
