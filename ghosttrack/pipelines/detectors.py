"""The fitted detectors of a run, with all that it takes to judge a new prompt."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ghosttrack.config import restore
from ghosttrack.detector.asking.families.siblings import templates_of
from ghosttrack.detector.asking.subjects import with_span_names
from ghosttrack.detector.config import (
    DetectorConfig,
    InterventionsConfig,
    Position,
    SubjectSource,
)
from ghosttrack.detector.learners.classifiers import STREAMING
from ghosttrack.detector.learners.fitted import TOKEN_RISKS, FittedDetector, load, save
from ghosttrack.detector.table import Table
from ghosttrack.errors import whole
from ghosttrack.evaluation.config import EvaluationConfig
from ghosttrack.evaluation.data import EvaluationData, available
from ghosttrack.evaluation.fitting import fit_whole
from ghosttrack.evaluation.roster import KEPT, LIVE, needed
from ghosttrack.files import read_json, write_json
from ghosttrack.models.config import ModelConfig
from ghosttrack.pipelines.evaluation import evaluation_data
from ghosttrack.pipelines.instruments import INSTRUMENTS
from ghosttrack.pipelines.kept import FACTS
from ghosttrack.questions.config import (
    SCHEMAS,
    AskingConfig,
    AskingKind,
    QuestionKind,
    QuestionsConfig,
)
from ghosttrack.questions.sets import QuestionSet, Templates
from ghosttrack.run import plain

if TYPE_CHECKING:
    from ghosttrack.pipelines.detect import Detection


class Facts(NamedTuple):
    """How the model was asked, and where its parts lie."""

    model: ModelConfig
    model_identity: dict[str, str]
    bank: str
    """Folder name of the bank; "" where there is none."""
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


def write_detectors(sources: "Detection", folder: Path) -> None:
    """Fit the detectors, and keep them with all that it takes to ask and to follow new prompts."""
    setup = sources.setup
    config = setup.config
    with setup.run.stage("fit"):
        data = evaluation_data(sources)
        names = _usable(data, config.evaluation, config.detector.position)
        found = fit_whole(data, names, config.evaluation.seed)
        save(folder, [one.fitted for one in found])
    for one in found:
        if one.fitted.name == STREAMING:
            risks = one.fitted.calibration.prob(one.oof)[:, None]
            Table(("risk",), risks).save(folder / TOKEN_RISKS)
    if sources.tracks is not None:
        shutil.copy(sources.tracks.make().path / INSTRUMENTS, folder / INSTRUMENTS)
    write_json(folder / FACTS, _facts(sources, sources.evaluation.key.folder.name))


def read_kept(folder: Path) -> tuple[Facts, tuple[FittedDetector, ...]]:
    """Read the detectors and how the model is to be asked.

    Raises:
        DataError: A file is missing or of another version.
    """
    facts = read_json(folder / FACTS)
    with whole(folder / FACTS):
        kind = QuestionKind[facts["questions"]["kind"]]
        found = Facts(
            model=restore(ModelConfig, {**facts["model"], "trust_remote_code": False}),
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


def asked_plainly(asking: AskingConfig, questions: QuestionSet) -> AskingConfig:
    """Say how new prompts are asked as these questions were, whatever that hung on."""
    return replace(
        asking,
        kind=AskingKind.plain,
        template=questions.template,
        max_new_tokens=questions.max_new_tokens,
        stop=list(questions.stop),
    )


def _usable(data: EvaluationData, judging: EvaluationConfig, position: Position) -> list[str]:
    """List `KEPT`, and of `LIVE` what is judged; not what new prompts cannot feed.

    Their tracks are followed at `prompt_last` alone, and no ghosts are looked for.
    """
    judged = {one.name for one in available(data, judging.compare).present}
    names = (*KEPT, *(name for name in LIVE if name in judged))
    elsewhere = position is not Position.prompt_last
    unfed = {"ghosts", *(("tracks", "tokens", "probes", "latents") if elsewhere else ())}
    return [name for name in dict.fromkeys(names) if not unfed & needed([name])]


def _facts(sources: "Detection", evaluation: str) -> dict[str, Any]:
    setup, questions = sources.setup, sources.questions
    config, names = setup.config, questions.names
    if config.interventions.subjects is SubjectSource.found:
        names = with_span_names(questions, setup.lm).names
    return {
        "model": {**plain(config.model), **_whereabouts(config.model)},
        "model_identity": setup.model_identity,
        "bank": "" if sources.bank is None else sources.bank.make().path.name,
        "evaluation": evaluation,
        "layers": setup.layers,
        "questions": plain(config.questions),
        "asking": plain(asked_plainly(config.asking, questions)),
        "interventions": plain(config.interventions),
        "names": {kind: list(held) for kind, held in names.items()},
        "templates": templates_of(questions),
        "detector": plain(config.detector),
        "seed": config.seed,
    }


def _whereabouts(model: ModelConfig) -> dict[str, object]:
    """Say where the model lies, from wherever it is looked for; no code may come with it."""
    path = model.path
    if path is not None and Path(path).exists():
        path = str(Path(path).resolve())
    return {"path": path, "trust_remote_code": False}
