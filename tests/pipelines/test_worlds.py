import re
import signal
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from ghosttrack.errors import ConfigError
from ghosttrack.files import read_json
from ghosttrack.models.config import WorldConfig
from ghosttrack.pipelines.made_model import make_model
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
from ghosttrack.scoring.detector import Detector
from ghosttrack.world.facts import WorldSpec, load_spec
from tests.support.commands import ROOT, Workplace, only, said
from tests.support.settings import detection

TINY = (
    *("model=ghostworld-1", "model.name=tiny", "model.n_layers=2", "model.d_model=32"),
    *("model.world.head=12", "model.world.mid=0", "model.world.rare=0", "model.world.unseen=12"),
    *("model.world.head_exposure=30", "model.world.n_values=12"),
    *("corpus.num_tokens=8192", "corpus.heldout_tokens=1024"),
)
LEARNED = ("model.d_model=64", "model.world.head_exposure=120")
"""Enough of both for most of what the text states."""
SMALL = (
    *("sae.d_sae=64", "sae.k=8", "sae.batch_size=256", "trainer.max_steps=30", "logger=csv"),
    *("evaluation.n_folds=2", "evaluation.n_bootstrap=20", "detector.nulls=[shuffled]"),
    *("interventions=quick", "corpus.coverage=held_out"),
)


def setup(folder: Path, *settings: str) -> Setup:
    config = detection(*TINY, f"output_root={folder}", *settings)
    make_model(config)
    return Setup(config, Run(folder / "run", "detect"))


def test_another_world_differs_from_the_shipped_one_in_its_seed_alone():
    assert [field.name for field in fields(WorldConfig)] == [f.name for f in fields(WorldSpec)]
    for name, seed in (("ghostworld-1", 1), ("ghostworld-2", 2)):
        world = detection(f"model={name}").model.world
        assert world is not None
        assert WorldSpec(**asdict(world)) == WorldSpec(seed=seed)


def test_the_skewed_world_differs_in_its_answers_alone():
    world = detection("model=ghostworld-skewed").model.world
    assert world is not None
    assert 16 <= world.n_values <= 40
    assert world.zipf == 0.6
    usual = WorldSpec()
    assert replace(WorldSpec(**asdict(world)), n_values=usual.n_values, zipf=usual.zipf) == usual


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("auto=false",), "auto=false and there is no model of this world; run `python extr"),
        (("estimate=true",), "estimate=true cannot tell before the model of this world is trained"),
        (("model.world.gap_frac=2",), r"model=tiny: gap_frac must be in \[0, 1\), got 2.0"),
        (("model.d_model=30",), "model=tiny: d_model must be a multiple of 4, got 30"),
    ],
)
def test_a_world_that_is_not_to_be_trained_is_one_line(
    settings: tuple[str, ...], message: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match=message):
        setup(tmp_path, *settings)
    assert not (tmp_path / "tiny" / "models").exists()


@pytest.mark.parametrize("setting", ["path", "hub"])
def test_a_world_beside_another_model_is_refused(setting: str):
    with pytest.raises(ConfigError, match=r"model\.world is of a model .*; drop x"):
        detection("model=ghostworld-1", f"model.{setting}=x")


@pytest.mark.slow
def test_a_worlds_model_is_trained_once_and_is_of_its_world(tmp_path: Path):
    first = setup(tmp_path)
    assert first.world == WorldSpec(
        seed=1, head=12, mid=0, rare=0, unseen=12, head_exposure=30, n_values=12
    )
    assert (first.lm.n_layers, first.lm.d_model) == (2, 32)
    weights = only(tmp_path, "models") / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = setup(tmp_path, "auto=false")
    assert again.model_identity == first.model_identity
    assert weights.stat().st_mtime_ns == written
    other = setup(tmp_path, "model.world.seed=2")
    assert other.model_identity["weights"] != first.model_identity["weights"]
    assert other.world.seed == 2
    assert other.corpus_identity != first.corpus_identity


@pytest.mark.slow
def test_training_that_was_killed_begins_anew(workplace: Workplace, tmp_path: Path):
    command = [str(ROOT / "extract.py"), *TINY, f"output_root={tmp_path}"]
    models = tmp_path / "tiny" / "models"
    begun = workplace.forks.run(command, lambda: any(models.glob(".*.partial")), signal.SIGKILL)
    assert begun.returncode != 0
    assert not list(models.glob("tiny-*"))
    printed = said(workplace.forks.run(command))
    assert "no model of this world yet: training it" in printed
    assert re.search(r"step (\d+)/\1 ", printed)
    assert load_spec(only(tmp_path, "models")).seed == 1


@pytest.fixture(scope="module")
def moved(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `detect.py` made of a world of 24 entities, elsewhere than it was made."""
    folder = tmp_path_factory.mktemp("worlds")
    output = f"output_root={folder / 'made'}"
    said(workplace.forks.run([str(ROOT / "detect.py"), *TINY, *LEARNED, *SMALL, output]))
    return (folder / "made").rename(folder / "moved")


@pytest.mark.slow
def test_a_detector_finds_the_model_of_its_world_wherever_both_lie(moved: Path):
    detector = Detector.load(only(moved, "detectors"), "cpu")
    subject = detector.facts.names["person"][0]
    assert detector.world == load_spec(only(moved, "models"))
    assert detector.score(f"Where was {subject} born?").subject == subject


@pytest.mark.slow
def test_answers_about_entities_that_the_bank_never_read_of_are_judged_apart(moved: Path):
    rows = read_json(only(moved, "evaluations") / "evaluation.json")["rows"]
    n_of = {row["subset"]: row["n"] for row in rows if row["detector"] == "output"}
    saw, never = n_of["bank saw the entity"], n_of["bank never saw it"]
    assert saw + never == n_of["all"]
    assert abs(saw - never) < n_of["all"] / 4
