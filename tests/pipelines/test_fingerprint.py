"""An edit of the product is made where its source is read; nothing is written."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ghosttrack.pipelines import fingerprint as code
from ghosttrack.pipelines.activations import write_activations
from ghosttrack.pipelines.answers import write_answers, write_checks, write_interventions
from ghosttrack.pipelines.detectors import write_detectors
from ghosttrack.pipelines.evaluation import write_evaluation
from ghosttrack.pipelines.tracks import write_tracks
from ghosttrack.pipelines.train_bank import write_trained
from tests.support.asking import ask

WRITERS: dict[str, Callable[..., None]] = {
    "activations": write_activations,
    "bank": write_trained,
    "answers": write_answers,
    "again": write_interventions,
    "checks": write_checks,
    "tracks": write_tracks,
    "evaluation": write_evaluation,
    "detectors": write_detectors,
}


def forget() -> None:
    for cached in (code.hashed, code._source, code._by_use):
        cached.cache_clear()


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch):
    """Replace a piece of one module's text, for as long as a test lasts."""
    read = code.source_text

    def edited(module: str, old: str, new: str, asked: str) -> str | None:
        text = read(asked)
        if asked != module or text is None:
            return text
        assert old in text
        return text.replace(old, new, 1)

    def begin(module: str, old: str, new: str) -> None:
        forget()
        monkeypatch.setattr(code, "source_text", partial(edited, module, old, new))

    yield begin
    forget()


@pytest.fixture
def changed(edit):
    """Tell which writers an edit of a module changes."""

    def find(*of: str) -> set[str]:
        before = {name: code.fingerprint(write) for name, write in WRITERS.items()}
        edit(*of)
        after = {name: code.fingerprint(write) for name, write in WRITERS.items()}
        return {name for name in WRITERS if before[name] != after[name]}

    return find


@pytest.mark.parametrize(
    ("edited", "rebuilt"),
    [
        pytest.param(
            ("detector.asking.families.paraphrase", "agrees.mean()", "agrees.min()"),
            {"again"},
            id="of an intervention",
        ),
        pytest.param(
            ("detector.answers.self_checks", "- prior", "+ prior"), {"checks"}, id="of a check"
        ),
        pytest.param(
            ("models.generate", "argmax", "argmin"), {"answers", "again", "checks"}, id="upstream"
        ),
    ],
)
def test_an_edited_formula_rebuilds_just_what_hangs_on_it(
    edit, gpt2_folder: Path, tmp_path: Path, edited: tuple[str, str, str], rebuilt: set[str]
):
    row = {"question": "who lives in rome?", "answers": ["anna"], "wordings": ["lives in rome?"]}

    def built() -> set[str]:
        stages = ask(gpt2_folder, tmp_path, [row])
        kinds = ("answers", "again", "checks")
        return {kind for kind in kinds if getattr(stages, kind).make().built}

    assert built() == {"answers", "again", "checks"}
    assert built() == set()
    module, old, new = edited
    edit(f"ghosttrack.{module}", old, new)
    assert built() == rebuilt


def test_a_statistic_of_tracks_changes_what_computes_it(changed):
    formula = "def track_statistics("
    found = changed("ghosttrack.detector.tracks.statistics", formula, f"NOW = 1\n\n\n{formula}")
    assert found == set()
    module = "ghosttrack.tracking.trellis"
    assert changed(module, "1 / gap", "2 / gap") == {"tracks"}


def test_a_classifiers_settings_change_evaluation_and_detectors(changed):
    module = "ghosttrack.detector.learners.classifiers"
    assert changed(module, "max_iter=", "verbose=0, max_iter=") == {"evaluation", "detectors"}


def test_a_banks_loss_changes_the_bank_alone(changed):
    assert changed("ghosttrack.sae.loss", "CUT_MOMENTUM = ", "CUT_MOMENTUM = 0.5 * ") == {"bank"}


def test_comments_docstrings_and_layout_change_nothing(changed):
    old = "def write_answers("
    new = "# a remark\n\n\n\ndef write_answers("
    assert changed("ghosttrack.pipelines.answers", old, new) == set()
    module = "ghosttrack.pipelines.answers"
    assert changed(module, '"""Let the model answer', '"""Have the model answer') == set()


def test_what_a_model_says_does_not_hang_on_how_it_is_judged():
    modules = {
        module for module, _ in code.reached("ghosttrack.pipelines.answers", "write_answers")
    }
    assert "ghosttrack.models.generate" in modules
    assert not [name for name in modules if ".tracks" in name or ".evaluation" in name]
