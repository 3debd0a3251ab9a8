"""The fitted detectors of a run, with all that it takes to judge a new prompt."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.artifacts import Artifact
from ghosttrack.config import DetectProgram, restore
from ghosttrack.detector.asking.config import InterventionsConfig
from ghosttrack.detector.asking.families.siblings import templates_of
from ghosttrack.detector.config import DetectorConfig, Position
from ghosttrack.detector.learners.fitted import Fitted, load, save
from ghosttrack.detector.learners.token_risk import STREAMING
from ghosttrack.errors import whole
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.whole import fit_whole
from ghosttrack.files import read_json, write_json
from ghosttrack.models.config import ModelConfig
from ghosttrack.pipelines.instruments import INSTRUMENTS
from ghosttrack.pipelines.setup import Study
from ghosttrack.questions.config import SCHEMAS, AskingConfig, QuestionKind, QuestionsConfig
from ghosttrack.questions.sets import Templates
from ghosttrack.run import plain

KEPT = ("few", "quick", STREAMING, "tracks+output", "lens+output", "output")
"""Detectors that are kept, the one to be asked first before the others: each needs less. One
judges tokens alone."""
OF_TRACKS = (STREAMING, "tracks+output")
FACTS = "asking.json"


class Origin(NamedTuple):
    """The artefacts that a detector is made of."""

    bank: Artifact
    tracks: Artifact
    evaluation_id: str
    """Of the evaluation that judges it."""


class Facts(NamedTuple):
    """How the model was asked, and where its parts lie."""

    model: ModelConfig
    model_identity: dict[str, str]
    bank: str
    """Folder name of the bank."""
    evaluation: str
    """Folder name of the evaluation."""
    layers: tuple[int, ...]
    questions: QuestionsConfig
    asking: AskingConfig
    names: Mapping[str, tuple[str, ...]]
    """Kind of subject to the names that may stand in for one another."""
    templates: Templates
    """How the relations of each kind are asked, for sibling questions."""
    detector: DetectorConfig
    interventions: InterventionsConfig
    seed: int


def kept_identity(evaluation_id: str) -> dict[str, object]:
    """What determines the fitted detectors: all that the evaluation looks at."""
    return {"evaluation": evaluation_id, "detectors": list(KEPT)}


def keep_detectors(
    study: Study, config: DetectProgram, origin: Origin, data: Callable[[], EvaluationData]
) -> Artifact:
    """Fit the detectors that are of use on new prompts, and keep them.

    Args:
        study: Of the run.
        config: Its settings.
        origin: What they are made of.
        data: Collects what the evaluation looks at; called where they are missing.
    """

    def write(folder: Path) -> None:
        with study.run.stage("fit"):
            names = _usable(config.detector.position)
            save(folder, fit_whole(data(), names, config.evaluation.seed))
        shutil.copy(origin.tracks.path / INSTRUMENTS, folder / INSTRUMENTS)
        write_json(folder / FACTS, _facts(study, config, origin))

    return study.build(
        "detectors", evaluation_name(config), kept_identity(origin.evaluation_id), write
    )


def evaluation_name(config: DetectProgram) -> str:
    """Name fitted detectors, and the evaluation that judges them, for people."""
    return f"{config.questions.name}-{config.detector.name}"


def read_kept(folder: Path) -> tuple[Facts, tuple[Fitted, ...]]:
    """Read the detectors and how the model is to be asked.

    Raises:
        DataError: A file is missing or of another version.
    """
    facts = read_json(folder / FACTS)
    with whole(folder / FACTS):
        kind = QuestionKind[facts["questions"]["kind"]]
        found = Facts(
            model=restore(ModelConfig, facts["model"]),
            model_identity=dict(facts["model_identity"]),
            bank=facts["bank"],
            evaluation=facts["evaluation"],
            layers=tuple(facts["layers"]),
            questions=restore(SCHEMAS[kind], facts["questions"]),
            asking=restore(AskingConfig, facts["asking"]),
            names={kind: tuple(names) for kind, names in facts["names"].items()},
            templates={
                kind: {relation: tuple(texts) for relation, texts in held.items()}
                for kind, held in facts["templates"].items()
            },
            detector=restore(DetectorConfig, facts["detector"]),
            interventions=restore(InterventionsConfig, facts["interventions"]),
            seed=facts["seed"],
        )
    return found, load(folder)


def _usable(position: Position) -> list[str]:
    """Leave out what new prompts cannot feed: their tracks are followed at `prompt_last` alone."""
    return [name for name in KEPT if position is Position.prompt_last or name not in OF_TRACKS]


def _facts(study: Study, config: DetectProgram, origin: Origin) -> dict[str, Any]:
    questions = study.questions(config)
    return {
        "model": {**plain(config.model), **_whereabouts(config.model)},
        "model_identity": study.model_identity,
        "bank": origin.bank.path.name,
        "evaluation": f"{evaluation_name(config)}-{origin.evaluation_id}",
        "layers": study.layers,
        "questions": plain(config.questions),
        "asking": plain(config.asking),
        "names": {kind: list(held) for kind, held in questions.names.items()},
        "templates": templates_of(questions),
        "detector": plain(config.detector),
        "interventions": plain(config.interventions),
        "seed": config.seed,
    }


def _whereabouts(model: ModelConfig) -> dict[str, object]:
    """Say where the model lies, from wherever it is looked for; no code may come with it."""
    path = model.path
    if path is not None and Path(path).exists():
        path = str(Path(path).resolve())
    return {"path": path, "trust_remote_code": False}
