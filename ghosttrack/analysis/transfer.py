"""Judge fitted detectors on answers that they were not fitted on: of another set, or another model.

Nothing is learned of those answers. Detectors that look inside, at residual streams or the logit
lens, travel between answers of one model; those of output scores and of asking again between models
as well. What stands there already is cross-fitted on those answers; `minus output` is the
difference to output scores so learned, on the same resamples.

Examples:
    python -m ghosttrack.analysis transfer outputs/ghostworld outputs/gemma-3-270m
    python -m ghosttrack.analysis transfer outputs/a/detectors/<name> outputs/b/evaluations/<name>
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.analysis.evaluations import EvaluationRecord, auroc, read_evaluation
from ghosttrack.analysis.runs import made_from, newest
from ghosttrack.artifacts import Artifact, is_complete, read
from ghosttrack.command import at_least, make_folder, parser, run, say, seed
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.classifiers import STREAMING
from ghosttrack.detector.learners.fitted import SCORES, FittedDetector, load, values_of, with_parts
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import Resamples, interval, resample
from ghosttrack.evaluation.result import ALL, WITHIN
from ghosttrack.evaluation.scores import Resampled, resampled_auroc
from ghosttrack.evaluation.subsets import subsets
from ghosttrack.evaluation.summary import Subset
from ghosttrack.files import read_json
from ghosttrack.pipelines.answers import read_answers, read_checks, read_interventions
from ghosttrack.pipelines.detectors import FACTS
from ghosttrack.pipelines.states import read_kept
from ghosttrack.report.sheet import Cell, print_sheet, sheet_of, write_sheet
from ghosttrack.report.tables import Estimate
from ghosttrack.scoring.features import states_table

OUTPUT = "output"
COLUMNS = ("detector", "subset", "answers", "AUROC", "learned there", f"minus {OUTPUT} there")
OF_MODEL = ("states", "latents", "lens", "lens_trajectory", "tracks", "ghosts")
"""Tables of what happens inside: their columns mean something in one model alone."""


class Elsewhere(NamedTuple):
    """Answers that detectors travel to."""

    found: EvaluationRecord
    answers: Answers
    tables: Mapping[str, Table]
    model: object
    """Identity of the model that gave them."""


def main(arguments: list[str]) -> None:
    """Read the options and judge."""
    options = parser("ghosttrack.analysis transfer", __doc__)
    options.add_argument("detectors", type=Path, help="folder of fitted detectors, or of a model")
    options.add_argument("evaluation", type=Path, help="folder of an evaluation, or of a model")
    options.add_argument("--out", type=Path, default=Path("transfer"))
    options.add_argument("--n-bootstrap", type=at_least(1), default=2000)
    options.add_argument("--seed", type=seed, default=0)
    run(lambda: _transfer(options.parse_args(arguments)))


def _transfer(given: argparse.Namespace) -> None:
    folder = read(newest(given.detectors, "detectors"), "detectors").path
    facts = read_json(folder / FACTS)
    fitted = tuple(one for one in load(folder) if one.name != STREAMING)
    evaluation = read(newest(given.evaluation, "evaluations"), "evaluations")
    own = folder.parents[1] / "evaluations" / facts["evaluation"]
    if is_complete(own) and _answers_of(read(own)) == _answers_of(evaluation):
        raise DataError(f"{folder}: was fitted on these very answers")
    there = _elsewhere(evaluation, fitted)
    is_same = facts["model_identity"] == there.model
    usable = [one for one in fitted if is_same or _reads(one, fitted).isdisjoint(OF_MODEL)]
    draws = resample(there.answers.groups, given.n_bootstrap, given.seed)
    rows = [row for one in usable for row in _rows(one, fitted, there, draws)]
    judged = {row[0] for row in rows}
    for one in fitted:
        if one.name not in judged:
            why = "its columns are not there" if one in usable else "it reads the other model"
            say(f"left out: {one.name}, {why}")
    sheet = sheet_of(COLUMNS, rows)
    files = write_sheet(make_folder(given.out) / "transfer", sheet)
    print_sheet(sheet)
    wrong = there.answers.labels.mean()
    say(
        f"{folder.name} on {there.found.name}: {wrong:.1%} of {len(there.answers)} wrong;"
        f" 95 % cluster bootstraps: {files[0]}"
    )


def _answers_of(evaluation: Artifact) -> str:
    return evaluation.manifest["identity"]["answers"]


def _elsewhere(evaluation: Artifact, fitted: Sequence[FittedDetector]) -> Elsewhere:
    """Read what an evaluation judged, as far as these detectors look at it."""
    answered = made_from(evaluation, "answers")
    answers = read_answers(answered.path)
    asked = read_interventions(made_from(evaluation, "interventions", "answers").path)
    checks = read_checks(made_from(evaluation, "checks", "answers").path)
    tables = {OUTPUT: answers.output, **asked.tables, **checks.tables}
    if "states" in evaluation.manifest["identity"]:
        at = made_from(evaluation, "states")
        states, layers = read_kept(at.path), at.manifest["identity"]["layers"]
        wanted = [column.partition(":") for one in fitted for column in one.columns]
        names = dict.fromkeys(name for table, _, name in wanted if table == "states")
        tables |= {**states.tables, "states": states_table(tuple(names), states.states, layers)}
    model = answered.manifest["identity"]["model"]
    return Elsewhere(read_evaluation(evaluation.path), answers, tables, model)


def _reads(one: FittedDetector, fitted: Sequence[FittedDetector]) -> set[str]:
    """List the tables that a detector reads, and those whose scores it fuses."""
    every = with_parts(one, {held.name: held for held in fitted})
    return {table for part in every for table in part.tables} - {SCORES}


def _rows(
    one: FittedDetector, fitted: Sequence[FittedDetector], there: Elsewhere, draws: Resamples
) -> Iterator[tuple[Cell, ...]]:
    """Judge one detector on all answers that it can be fed, and within relation."""
    if not _reads(one, fitted) <= there.tables.keys():
        return
    values = values_of(fitted, there.tables)[one.name]
    fed, prob, own = ~one.lacks(values), one.prob(values), there.found.evaluation.scores.get(OUTPUT)
    for subset in subsets(there.answers).present:
        rows = subset.mask & fed
        if subset.name not in (ALL, WITHIN) or np.unique(there.answers.labels[rows]).size < 2:
            continue
        area = _area(there.answers.labels, prob, subset, rows, draws)
        minus = None
        if own is not None:
            theirs = _area(there.answers.labels, own, subset, rows, draws)
            minus = Estimate(area.point - theirs.point, *interval(area.drawn - theirs.drawn))
        estimate = Estimate(area.point, *interval(area.drawn))
        known = auroc(there.found.evaluation, one.name, subset.name)
        yield one.name, subset.name, int(rows.sum()), estimate, known, minus


def _area(
    labels: Int[np.ndarray, " sample"],
    prob: Float[np.ndarray, " sample"],
    subset: Subset,
    rows: Bool[np.ndarray, " sample"],
    draws: Resamples,
) -> Resampled:
    strata = None if subset.relation is None else subset.relation[rows]
    return resampled_auroc(labels[rows], prob[rows], draws.subset(rows), strata)
