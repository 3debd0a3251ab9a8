"""Speed of teacher-forced scoring: microseconds per row of 12 tokens against the bare forward.

Run:
    OMP_NUM_THREADS=1 python -m tests.benchmarks.score [--json FILE] [--device cuda]

A GPT-2 with 6 blocks, width 128, 1,000 words and random weights scores rows of 10 prompt and 2
answer tokens, all different. `bare` is the forward of the same loaded model, trunk and head at all
positions, over the same rows without a statistic; `stock` that of the model as transformers loads
it. Rounds are interleaved and the quickest counts; on a CPU the clock is CPU time, because the
machine is shared.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from ghosttrack.models.config import Dtype, ModelConfig, TrainingConfig
from ghosttrack.models.load import load_lm
from ghosttrack.models.score import score
from tests.support.tiny import tiny_tokenizer

N_TOKENS, N_ANSWER = 12, 2
BATCHES = (2048, 4096, 8192, 16384)


def save_model(folder: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 1000, "n_positions": 32, "n_embd": 128, "n_layer": 6, "n_head": 4}
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


@torch.no_grad()
def bare(model: PreTrainedModel, rows: Tensor, batch_tokens: int) -> None:
    for batch in rows.split(batch_tokens // N_TOKENS):
        model(batch.to(model.device), use_cache=False)


def quickest(
    actions: dict[str, Callable[[], object]], n_rows: int, rounds: int, device: str
) -> dict[str, float]:
    """Return the least microseconds per row of each action."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            start = clock()
            action()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
    return {name: round(min(s[1:]) / n_rows * 1e6, 1) for name, s in seconds.items()}


def measure(n_rows: int, rounds: int, device: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder)
        config = ModelConfig(
            name="bench",
            hub=None,
            path=str(folder),
            revision=None,
            n_layers=6,
            d_model=128,
            context=32,
            d_sae=1,
            extract_batch_size=1,
            training=TrainingConfig(8, 256, 2e-4, 1000, 80, 5),
            dtype=Dtype.fp32,
            prepend_bos=True,
            trust_remote_code=False,
        )
        lm = load_lm(config, folder, device)
        stock = AutoModelForCausalLM.from_pretrained(folder).eval().to(device)
    rows = torch.randint(0, 1000, (n_rows, N_TOKENS), generator=torch.Generator().manual_seed(0))
    prompts = rows[:, :-N_ANSWER].tolist()
    answers = rows[:, -N_ANSWER:].tolist()
    actions: dict[str, Callable[[], object]] = {}
    for n in BATCHES:
        actions[f"score/{n}"] = lambda n=n: score(lm, prompts, answers, batch_tokens=n)
        actions[f"bare/{n}"] = lambda n=n: bare(lm.model, rows, n)
        actions[f"stock/{n}"] = lambda n=n: bare(stock, rows, n)
    best = quickest(actions, n_rows, rounds, device)
    ratios = {
        f"{k}/{n}": best[f"score/{n}"] / best[f"{k}/{n}"]
        for k in ("bare", "stock")
        for n in BATCHES
    }
    return {
        "us_per_row": best,
        "score_over": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "threads": torch.get_num_threads(),
        "device": device,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    result = measure(args.rows, args.rounds, args.device)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
