import pytest

from ghosttrack.artifacts import KINDS
from tests.support.commands import Workplace, artifacts

pytestmark = pytest.mark.slow

FAULTS = [
    (("extract", "layers=[1,9]"), "config: layers must be in 0..2 for this model, got [9]"),
    (("extract", "corpus.path=no.txt"), "config: corpus.path=no.txt: no such file or folder"),
    (("extract", "corpus=huggingface", "corpus.path=a/b"), "config: corpus.path=a/b"),
    (("extract", "corpus=huggingface"), "must be a folder that save_to_disk made"),
    (("extract", "model.path=nowhere"), "config: model.path: nowhere"),
    (("train", "auto=false"), "config: auto=false and there is no activation store for this"),
    (("train", "auto=false"), "run `python extract.py` with the same settings"),
    (("train", "trainer.accelerator=abacus"), "config: trainer: "),
    (("train", "trainer.devices=0"), "config: trainer: "),
    (("train", "trainer.max_steps=0"), "config: trainer.max_steps must be at least 1, got 0"),
    (("train", "+trainer.nonsense=1"), "config: trainer: "),
    (("train", "+logger.nonsense=1"), "config: logger: "),
    (("train", "logger=wandb", "logger.offline=false"), "config: logger.offline=false needs a key"),
    (
        ("train", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=3"),
        "config: sae.batch_size=256 is not a multiple of the 3 processes",
    ),
    (("detect", "questions.path=no.csv"), "config: questions.path=no.csv"),
    (("detect", "auto=false"), "run `python train.py` with the same settings"),
]
"""A command, and what stands in the one line that answers it."""

LATE = ("train", "+trainer.max_time='00:00:00:00'")
"""A fault that only shows when training has ended."""


@pytest.fixture(scope="module")
def answers(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory):
    """What each command answered; the late one writes elsewhere."""
    early, late = (tmp_path_factory.mktemp(name) for name in ("early", "late"))
    commands = dict.fromkeys(command for command, _ in FAULTS)
    results = {command: workplace.fork(early, *command) for command in commands}
    return early, late, results | {LATE: workplace.fork(late, *LATE)}


@pytest.mark.parametrize(
    ("command", "answer"), [*FAULTS, (LATE, "another limit of `trainer` ended training at step 0")]
)
def test_a_fault_is_answered_in_one_line(answers, command, answer):
    result = answers[-1][command]
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert answer in result.stderr


def test_a_fault_of_the_settings_is_found_before_anything_is_built(answers):
    assert [kind for kind in KINDS if artifacts(answers[0], kind)] == []


def test_a_bank_that_was_not_trained_to_its_last_step_is_not_kept(answers):
    assert artifacts(answers[1], "saes") == {}
    assert len(artifacts(answers[1], "activations")) == 1
