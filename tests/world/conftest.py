"""A world of forty entities, and the shipped model's answers."""

import pytest

from ghosttrack.models.config import ModelConfig
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.world.facts import FOLDER, WorldSpec, load_spec
from ghosttrack.world.measure import Verdict, ask
from ghosttrack.world.questions import question_set
from tests.models.conftest import model_config


@pytest.fixture(scope="session")
def spec() -> WorldSpec:
    return WorldSpec(seed=3, head=6, mid=10, rare=12, unseen=12, n_values=20)


@pytest.fixture(scope="session")
def shipped_spec() -> WorldSpec:
    return load_spec(FOLDER)


@pytest.fixture(scope="session")
def shipped_lm() -> LM:
    return load_lm(shipped_config(), FOLDER, "cpu")


@pytest.fixture(scope="session")
def shipped_questions(shipped_spec: WorldSpec) -> QuestionSet:
    return question_set(shipped_spec, 3200, seed=0)


@pytest.fixture(scope="session")
def verdicts(shipped_lm: LM, shipped_questions: QuestionSet) -> list[Verdict]:
    return ask(shipped_lm, shipped_questions)


def shipped_config() -> ModelConfig:
    return model_config(name="ghostworld", n_layers=6, d_model=128, context=32)
