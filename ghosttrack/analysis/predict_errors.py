"""Predict a model's errors from its SAE latents, layer by layer, with grouped cross-validation.

Examples:
    python -m ghosttrack.analysis predict_errors outputs/ghostworld
    python -m ghosttrack.analysis predict_errors outputs/ghostworld --out errors
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.sparse import csr_array

from ghosttrack.analysis.runs import made_from, newest
from ghosttrack.artifacts import Artifact, read
from ghosttrack.command import at_least, make_folder, parser, run, say, seed
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.baselines import Latents
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import Resamples, interval, resample
from ghosttrack.evaluation.crossfit import assemble, fit_fold
from ghosttrack.evaluation.scores import resampled_auroc
from ghosttrack.evaluation.splits import Fold, grouped_folds, nested_folds
from ghosttrack.files import read_json
from ghosttrack.pipelines.track_files import load_latents
from ghosttrack.report.pictures import draw_intervals
from ghosttrack.report.sheet import Cell, print_sheet, sheet_of, write_sheet
from ghosttrack.report.tables import Estimate
from ghosttrack.sae.hooks import layer_of


def main(arguments: list[str]) -> None:
    """Read the options and predict."""
    options = parser("ghosttrack.analysis predict_errors", __doc__)
    options.add_argument("artifact", type=Path, help="folder of tracks, an evaluation or a model")
    options.add_argument("--out", type=Path, default=Path("predict_errors"))
    options.add_argument("--n-folds", type=at_least(2), default=5)
    options.add_argument("--n-bootstrap", type=at_least(1), default=2000)
    options.add_argument("--seed", type=seed, default=0)
    run(lambda: _predict(options.parse_args(arguments)))


def _predict(given: argparse.Namespace) -> None:
    tracks = _tracks(given.artifact)
    answers = Answers.load(made_from(tracks, "answers").path / "answers.parquet").judged()
    bank = read_json(made_from(tracks, "bank", "saes").path / "bank.json")
    layers = [layer_of(hook) for hook in bank["hooks"]]
    acts = load_latents(tracks.path / "latents.safetensors", len(layers))
    labels, groups = answers.labels, answers.groups
    dealt = grouped_folds(labels, groups, answers.prompts, given.n_folds, given.seed)
    folds = nested_folds(dealt, labels, groups, given.seed)
    draws = resample(groups, given.n_bootstrap, given.seed)
    rows = list(_rows(answers, acts, layers, folds, draws, given.seed))
    sheet = sheet_of(("layer", "answers", "groups", "AUROC", "strength chosen"), rows)
    folder = make_folder(given.out)
    files = write_sheet(folder / "errors", sheet)
    areas = [(row[0], row[3]) for row in rows if isinstance(row[3], Estimate)]
    bars = [(f"layer {layer}", "SAE latents", area) for layer, area in areas]
    files.append(draw_intervals(folder / "errors", "Errors from SAE latents", bars))
    print_sheet(sheet)
    say(
        f"{len(labels)} answers, {labels.mean():.1%} wrong; folds keep a group together, strength"
        f" is chosen inside them, intervals are 95 % cluster bootstraps: {files[0]}"
    )


def _rows(
    answers: Answers,
    acts: Sequence[csr_array],
    layers: Sequence[int],
    folds: tuple[Fold, ...],
    draws: Resamples,
    seed: int,
) -> Iterator[tuple[Cell, ...]]:
    labels, n_groups = answers.labels, draws.n_groups
    for layer, one in zip(layers, acts, strict=True):
        learner = Latents((one,), (layer,))
        fits = [fit_fold(learner, labels, fold, seed) for fold in folds]
        found = assemble(fits, folds, len(labels))
        area = resampled_auroc(labels, found.prob, draws)
        estimate = Estimate(area.point, *interval(area.drawn))
        chosen = sorted({fit.option.label for fit in fits})
        yield layer, len(labels), n_groups, estimate, "; ".join(chosen)


def _tracks(folder: Path) -> Artifact:
    """Open tracks, or those that an evaluation judged."""
    found = read(newest(folder, "evaluations", "tracks"))
    if found.manifest["kind"] == "evaluations":
        return made_from(found, "tracks")
    if found.manifest["kind"] != "tracks":
        raise DataError(f"{folder}: neither tracks nor an evaluation of them")
    return found
