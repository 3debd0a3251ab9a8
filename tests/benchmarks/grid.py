"""Seconds of the continuous-thought study's two jobs, through `train.py`, from a store.

Run:
    python -m tests.benchmarks.grid [--epochs 10] [--json FILE]

The study had 57,600 training vectors of 768 dimensions: 800 problems x 12 layers x 6 positions. Its
grid trained one autoencoder on all of them for each of eight (d_sae, k), in 20 s on an A100, and
one for each of the 72 hook points, in 3 min; how many epochs it took is not known here, so the
number is an argument. Vectors are sums of 20 of 2,000 random directions. `grid` is
`sweep=topk_grid`, eight programs one after the other, `hooks` all 72 hook points as one bank; both
times hold everything from the start of Python to the held-out metrics, with the store made before.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from ghosttrack.sae.select import rows_sum

ROOT = Path(__file__).parents[2]
PROBLEMS, LAYERS, POSITIONS, D_MODEL = 1000, 12, 6, 768
"""A fifth of the problems is held out."""
BATCH = 256


def make(folder: Path) -> tuple[Path, Path]:
    """Write the vectors twice: as one hook point, and as 72."""
    torch.manual_seed(0)
    features = F.normalize(torch.randn(1, 2000, D_MODEL), dim=-1)
    shape = (1, PROBLEMS * LAYERS * POSITIONS, 20)
    x = rows_sum(1 + torch.rand(shape), torch.randint(2000, shape), features)[0]
    problems = torch.arange(PROBLEMS).repeat_interleave(LAYERS * POSITIONS)
    pooled, apart = folder / "pooled.safetensors", folder / "apart.safetensors"
    save_file({"layer_0": x, "problem_ids": problems}, pooled)
    by_hook = x.view(PROBLEMS, LAYERS, POSITIONS, D_MODEL)
    layers = {f"layer_{i}": by_hook[:, i].contiguous() for i in range(LAYERS)}
    save_file({**layers, "problem_ids": torch.arange(PROBLEMS)}, apart)
    return pooled, apart


def run(program: str, output: Path, corpus: Path, *settings: str) -> float:
    command = [
        *(sys.executable, str(ROOT / f"{program}.py"), "corpus=activations"),
        *(f"corpus.path={corpus}", f"corpus.name={corpus.stem}", f"output_root={output}"),
        *settings,
    ]
    started = time.perf_counter()
    subprocess.run(command, cwd=output, check=True, stdin=subprocess.DEVNULL)
    return round(time.perf_counter() - started, 1)


def measure(epochs: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pooled, apart = make(folder)
        n_train = PROBLEMS * 4 // 5
        grid_steps = n_train * LAYERS * POSITIONS * epochs // BATCH
        hook_steps = n_train * epochs // BATCH
        common = ("model=gpt2-small", "logger=csv", f"sae.batch_size={BATCH}")
        stores = [run("extract", folder, path, "model=gpt2-small") for path in (pooled, apart)]
        grid = run(
            *("train", folder, pooled, "sweep=topk_grid", *common),
            f"trainer.max_steps={grid_steps}",
        )
        hooks = run(
            *("train", folder, apart, "sae.d_sae=512", "sae.k=150", *common),
            f"trainer.max_steps={hook_steps}",
        )
    return {
        "epochs": epochs,
        "steps": {"grid": grid_steps, "hooks": hook_steps},
        "store_s": stores,
        "grid_s": grid,
        "hooks_s": hooks,
        "study_on_an_a100_s": {"grid": 20, "hooks": 180},
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    result = measure(args.epochs)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
