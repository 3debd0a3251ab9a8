"""What reads results is there at once: it needs neither models nor what trains them."""

import subprocess
import sys

READERS = (
    *("sweep.collect", "sweep.compare_models", "sweep.dashboard", "sweep.heatmaps"),
    *("sweep.sweet_spot", "ghosttrack.analysis.export", "ghosttrack.analysis.positions"),
)
HEAVY = ("torch", "transformers", "pytorch_lightning", "datasets", "wandb")


def test_readers_of_results_import_neither_torch_nor_transformers():
    code = f"import sys, {', '.join(READERS)}\n"
    code += f"print(*(sys.modules.keys() & {set(HEAVY)}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
