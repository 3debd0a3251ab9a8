"""What reads results, or finds them, is there at once: it needs no models nor what trains them."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.tiny import add_chat_template

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
from ghosttrack.pipelines.ready import ReadyDetection
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
run = Run(Path("{root}"), "detect")
def config(*settings):
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        settings = ["output_root={root}", *settings]
        return load(compose("detect", settings), DetectProgram)
own = ["model.path={model}", "model.name=own", "corpus=text", "corpus.path={text}"]
asked = ["questions=file", "questions.path={text}", "asking.shots=0", "asking.max_new_tokens=2"]
for settings in ([], [*own, *asked], ['bank={model}']):
    stages = Detection(Setup(config(*settings), run))
    assert not stages.bank.exists and not stages.detectors.exists
    assert "model.name=own" not in settings or "user : " in stages.questions.template
answered = config("questions=answered", "questions.path={text}", "model.name=own")
assert not ReadyDetection(run, answered).evaluation.exists
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


def test_a_program_that_finds_everything_done_imports_no_torch(gpt2_folder: Path, tmp_path: Path):
    model, text = shutil.copytree(gpt2_folder, tmp_path / "model"), tmp_path / "q.jsonl"
    add_chat_template(model)
    rows = [f'{{"question": "who is {name}?", "answers": ["anna"]}}\n' for name in "abcdefgh"]
    text.write_text("".join(rows))
    finds = FINDS.format(root=tmp_path, model=model, text=text)
    status, said, complaint = imported(finds, OF_FITS)
    assert (status, said) == (0, "transformers\n"), complaint  # for the chat's marks alone
