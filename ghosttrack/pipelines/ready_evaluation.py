"""Ready answers read, measured and judged, and the files of that."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool

from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.output_scores import LOGPROB_SCORES
from ghosttrack.detector.answers.ready import (
    OPTION_SPECS,
    OWNER_OPTION_SPECS,
    given_answers,
    n_others,
    option_answers,
    owner_table,
    rivals,
    skewed,
)
from ghosttrack.detector.answers.sampling import SAMPLING_SCORES, sampling_table
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.pipelines.evaluation_files import protocol_facts, write_findings
from ghosttrack.questions.config import LabelSource, QuestionKind, ReadyAnswers
from ghosttrack.questions.option_scores import read_option_scores
from ghosttrack.questions.ready_answers import read_answered
from ghosttrack.report.contents import Owners, ReportContents
from ghosttrack.report.first import thin
from ghosttrack.run import Run

if TYPE_CHECKING:
    from ghosttrack.pipelines.ready import ReadyDetection

SPECS = (
    *OPTION_SPECS,
    *OWNER_OPTION_SPECS,
    *(score.spec for score in LOGPROB_SCORES),
    *(score.spec for score in SAMPLING_SCORES),
)
"""Every statistic that a report may name."""
REAL_LIMIT = (
    "Names, lengths and the file's order may tell something of real answers: what sees them alone "
    "is then above chance for no leak, and a detector has to be better."
)
SKEWED = "skewed answers"
"""Facts of which some answers are right much more often than others."""
OPTION_LIMITS = (
    REAL_LIMIT,
    "Relations differ in difficulty, and a question's words or place tell which relation it is of: "
    "canaries are judged on pairs of answers of one relation. What the relation alone tells is "
    "control:relation.",
    "An answer is the option of greatest score, right where the data say so: nothing tells what "
    "the model would have said in its own words.",
    "The owner family is given what other subjects of the relation get. Where right answers are "
    "balanced within a relation, as BEAR's are by design, this favours the prior correction; where "
    f"some answers are right for most subjects it helps less, as the part `{SKEWED}` tells.",
)
SAMPLING_LIMITS = (
    REAL_LIMIT,
    "Labels are those of the file, unless questions.labels=ours; where a row has none, the response"
    " was compared with its reference answers by words, and one that is right in other words counts"
    " as hallucinated.",
    "Samples are compared by their words: texts that say the same in other words count as "
    "disagreement, and a mistake that every sample repeats counts as agreement.",
)


class OutputScores(NamedTuple):
    """What the answers were measured by."""

    tables: Mapping[str, Table]
    forwards: Mapping[str, float]
    """Of each table, per answer, beyond the answer's own."""
    owners: Owners = Owners((), np.empty(0))


class GivenAnswers(NamedTuple):
    """Answers as they were read, and how to measure them."""

    said: Answers
    answers: Answers
    """Those of them that are right or wrong."""
    measure: Callable[[], OutputScores]
    limits: Sequence[str]
    parts: Mapping[str, Bool[np.ndarray, " sample"]] = MappingProxyType({})
    """Of `answers`, to be judged by themselves."""


def write_evaluation(stages: "ReadyDetection", folder: Path) -> None:
    """Judge every detector, and write tables, figures and the page."""
    run, config, ready = stages.run, stages.config, stages.given
    with run.stage("measure"):
        measured = ready.measure()
    with run.stage("evaluate"):
        data = EvaluationData(
            ready.answers,
            measured.tables,
            measured.forwards,
            is_real=True,
            said=ready.said,
            parts=ready.parts,
        )
        evaluation = evaluate(data, config.evaluation)
    with run.stage("report"):
        contents = _contents(run, config, evaluation, ready, measured)
        write_findings(folder, run, config, contents, _no_tokens)


def option_scores(chosen: ReadyAnswers) -> GivenAnswers:
    """Read scores of given options: output scores, and the owner test with its prior correction."""
    relations = read_option_scores(Path(chosen.path))
    answers = option_answers(relations)

    def measure() -> OutputScores:
        owner = owner_table(relations)
        return OutputScores(
            tables={"output": answers.output, "owner": owner},
            forwards={"owner": n_others(relations)},
            owners=Owners(rivals(relations), owner.column("owner_gap")),
        )

    parts = {SKEWED: skewed(relations)}
    return GivenAnswers(answers, answers, measure, OPTION_LIMITS, parts)


def answered(chosen: ReadyAnswers) -> GivenAnswers:
    """Read answers with what is known of them: token log-probabilities, samples, or both.

    Raises:
        DataError: Neither is known of any; or a row has no references to be labelled by.
    """
    path, relabel = Path(chosen.path), chosen.labels is LabelSource.ours
    given = read_answered(path)
    if relabel and not all(row.references for row in given):
        raise DataError(f"{path}: questions.labels=ours needs `answers` in every row")
    said = given_answers(given, relabel=relabel)
    answers = said.judged()
    rows = [row for row, judged in zip(given, said.is_judged, strict=True) if judged]
    n_samples = [len(row.samples) for row in rows]
    if not any(n_samples) and np.isnan(answers.prob).all():
        raise DataError(f"{path}: no row has `samples` or `token_logprobs` to judge its answer by")

    def measure() -> OutputScores:
        tables = {}
        if np.isfinite(answers.prob).any():
            tables["output"] = answers.output
        if any(n_samples):
            tables["sampling"] = sampling_table(rows)
        return OutputScores(tables, forwards={"sampling": float(np.mean(n_samples))})

    return GivenAnswers(said, answers, measure, SAMPLING_LIMITS)


READERS: Mapping[QuestionKind, Callable[[ReadyAnswers], GivenAnswers]] = {
    QuestionKind.option_scores: option_scores,
    QuestionKind.answered: answered,
}


def _contents(
    run: Run,
    config: DetectProgram,
    evaluation: Evaluation,
    ready: GivenAnswers,
    measured: OutputScores,
) -> ReportContents:
    return ReportContents(
        evaluation=evaluation,
        answers=ready.answers,
        statistics=measured.tables,
        specs=SPECS,
        facts={
            "model": f"{config.model.name}, which answered elsewhere",
            "questions": f"{config.questions.name}, {evaluation.n_judged:,} answers of"
            f" {evaluation.n_groups:,} groups",
            **protocol_facts(config),
        },
        seconds=run.seconds,
        duration=time.monotonic() - run.started,
        owners=measured.owners,
        limits=ready.limits,
        cautions=thin(ready.answers.labels),
        passes=measured.forwards,
    )


def _no_tokens(ids: Sequence[int]) -> str:
    raise AssertionError(f"ready answers have no tokens, got {ids}")
