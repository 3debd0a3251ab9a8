"""Check and measure a device, in one command that is to take under eight minutes.

Run:
    python -m tests.gpu [--device cuda] [--small] [--json gpu.json]

Correctness first: every path against float64, bf16, a rank over nccl, a resumed run. Numbers follow
only where that holds; what fails is named in the JSON, and the status is 1. The parts come in the
order of their worth, and none begins after six minutes. `--device cpu --small` shows that all of it
runs.
"""

import argparse
import json
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks import study
from tests.gpu import checks, numbers

LATEST_S = 360
"""Seconds after which no part begins."""


def parts(device: torch.device, small: bool, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that is done, in order; checks come first."""
    sizes = numbers.SMALL if small else numbers.STUDY
    of = study.SMALL if small else study.STUDY
    for name in ("rank", "resume", "point", "corpus"):
        (folder / name).mkdir()
    return {
        "check float64": partial(checks.steps_agree_with_float64, device),
        "check kernels": partial(checks.kernels_agree_with_float64, device),
        "check bf16": partial(checks.bf16_keeps_the_gradients_direction, device),
        "check one rank": partial(checks.one_rank_moves_as_none_does, device, folder / "rank"),
        "check resume": partial(
            checks.a_resumed_run_ends_as_one_that_was_not, device, folder / "resume"
        ),
        "step": partial(numbers.step, device, sizes),
        "products": partial(numbers.products, device, sizes),
        "passes": partial(numbers.passes, device, sizes, folder / "corpus"),
        "study": partial(study.measure, of, device.type, 1, study.run_fresh),
        "select": partial(numbers.select, device, sizes),
        "resume point": partial(numbers.resume_point, device, sizes, folder / "point"),
    }


def run(todo: dict[str, Callable[[], object]], latest_s: float) -> dict[str, object]:
    """Do the parts; after a check that failed, no number is taken."""
    found: dict[str, object] = {}
    started, has_failed = time.monotonic(), False
    for name, one in todo.items():
        is_late = time.monotonic() - started > latest_s
        if is_late or (has_failed and not name.startswith("check")):
            found[name] = "left out: " + ("too late" if is_late else "a check failed")
            continue
        began = time.monotonic()
        try:
            found[name] = {"found": one(), "seconds": round(time.monotonic() - began, 1)}
        except Exception:  # noqa: BLE001 (the next part says more)
            found[name] = {"failed": traceback.format_exc().splitlines()[-12:]}
            has_failed |= name.startswith("check")
        print(name, json.dumps(found[name]), flush=True)
    return found


def main() -> None:
    """Parse, do all, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        found = run(parts(device, args.small, Path(folder)), LATEST_S)
    args.json.write_text(
        json.dumps({"device": name, "torch": torch.__version__, **found}, indent=2)
    )
    raise SystemExit(any("failed" in one for one in found.values() if isinstance(one, dict)))


if __name__ == "__main__":
    main()
