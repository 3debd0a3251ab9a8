"""What reads results, or finds them, is there at once: it needs no models nor what trains them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
READERS = (
    *("sweep.collect", "sweep.compare_models", "sweep.dashboard", "sweep.heatmaps"),
    *("sweep.sweet_spot", "ghosttrack.analysis.export", "ghosttrack.analysis.positions"),
)
HEAVY = ("torch", "transformers", "pytorch_lightning", "datasets", "wandb")
OF_FITS = (*HEAVY, "torchmetrics", "sklearn", "matplotlib", "numba", "pandas")
FINDS = """
from pathlib import Path
from hydra import compose, initialize_config_dir
from ghosttrack.config import load
from ghosttrack.detect_config import DetectProgram
from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
    config = load(compose("detect", ["output_root={root}"]), DetectProgram)
stages = Detection(Setup(config, Run(Path("{root}"), "detect")))
assert not stages.bank.exists and not stages.detectors.exists
"""
"""All that a run does which finds everything done: identities, of which each holds those before."""


def imported(code: str, heavy: Sequence[str]) -> tuple[int, str, str]:
    code = f"import sys\n{code}\nprint(*(sys.modules.keys() & {set(heavy)}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout, done.stderr


def test_readers_of_results_import_neither_torch_nor_transformers():
    assert imported(f"import {', '.join(READERS)}", HEAVY)[:2] == (0, "\n")


def test_a_program_that_finds_everything_done_imports_no_torch(tmp_path: Path):
    status, said, complaint = imported(FINDS.format(root=tmp_path), OF_FITS)
    assert (status, said) == (0, "\n"), complaint
