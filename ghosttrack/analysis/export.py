r"""Export an evaluation for a paper: tables as LaTeX and CSV, vector figures, captions.

Every caption says how many answers of how many groups there are, what the intervals are, and the
command that made the numbers. `paper.tex` shows all; each table and figure is a file of its own,
for \input elsewhere (it needs booktabs, graphicx, textcomp and, elsewhere, \graphicspath).

Examples:
    python -m ghosttrack.analysis export outputs/ghostworld --to paper/
    python -m ghosttrack.analysis export outputs/ghostworld --to paper/ --detectors output,few
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ghosttrack.analysis.evaluations import (
    EvaluationRecord,
    add_detectors,
    auroc,
    choose,
    read_evaluation,
)
from ghosttrack.analysis.runs import newest, read_run_folder
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.evaluation.result import ALL, CONFIDENT
from ghosttrack.evaluation.roster import COLORS
from ghosttrack.report.figures import draw
from ghosttrack.report.latex import document, escaped, figure, table
from ghosttrack.report.sheet import Cell, sheet_of, write_flat
from ghosttrack.report.tables import Estimate

SUBSETS = (ALL, *CONFIDENT)
INTERVALS = "Brackets and bars: 95 \\% cluster-bootstrap intervals over groups."
FIGURES = {
    "overview": (
        "AUROC over forward passes; bands: canaries, and what knows the training text.",
        0.8,
    ),
    "overview_narrow": ("The same in the width of a column.", 0.5),
    "roc": ("ROC of cross-fitted probabilities, all answers.", 0.55),
    "pr": ("Precision against recall of hallucinated answers; dotted: their share.", 0.55),
    "calibration": ("Stated probability of hallucination against the share that came true.", 0.55),
    "risk_coverage": ("Share hallucinated among answers given, the riskiest held back.", 0.55),
    "pairs": ("Paired differences of AUROC on all answers.", 0.85),
    "auroc": ("AUROC of every detector on all answers; grey: beside the headline's.", 0.85),
    "subsets": ("AUROC on every set of answers.", 0.85),
    "tracks": (
        "How long tracks last, and links tried by ablation, beside what means nothing.",
        1.0,
    ),
    "bank": ("SAEs on held-out text, layer by layer; bands name the quality by FVU.", 1.0),
}
"""What each shows, and its width in lines."""
BARE = ("roc", "pr", "calibration", "risk_coverage", "bank")
"""Those without cluster-bootstrap intervals."""


def main(arguments: list[str]) -> None:
    """Read the options and export."""
    options = parser("ghosttrack.analysis export", __doc__)
    options.add_argument("evaluation", type=Path, help="folder of an evaluation, or of a model")
    options.add_argument("--to", type=Path, required=True, help="folder of the files")
    add_detectors(options, "those of the report's headline")
    run(lambda: _export(options.parse_args(arguments)))


def _export(given: argparse.Namespace) -> None:
    evaluation = newest(given.evaluation, "evaluations")
    found = read_evaluation(evaluation)
    there = {row.detector for row in found.evaluation.rows}
    names = given.detectors or tuple(name for name in COLORS if name in there)
    sheets = _sheets(found, choose(names, [found]))
    made = f"Made by \\texttt{{{escaped(command(evaluation))}}}"
    made += f" at commit {found.git_commit[:12]}." if found.git_commit else "."
    ground = f"{escaped(protocol(found))} {made}"
    folder = make_folder(given.to)
    parts = {}
    for name, (says, sheet) in sheets.items():
        if not sheet.empty:
            write_flat(folder / f"{name}.csv", sheet)
            rests = made if name == "sae" else f"{INTERVALS} {ground}"
            parts[f"table_{name}.tex"] = table(sheet, name, f"{escaped(says)} {rests}")
    for path in draw(folder, found.evaluation, found.labels, found.hooks, ("pdf", "svg")):
        says, width = FIGURES[path.stem]
        rests = made if path.stem == "bank" else ground
        rests = rests if path.stem in BARE else f"{INTERVALS} {ground}"
        parts[f"figure_{path.stem}.tex"] = figure(path.stem, f"{escaped(says)} {rests}", width)
    for name in sheets.keys() - {name for name, (_, sheet) in sheets.items() if not sheet.empty}:
        for stale in (f"{name}.csv", f"table_{name}.tex"):
            (folder / stale).unlink(missing_ok=True)
    for name, text in parts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "paper.tex").write_text(document(parts), encoding="utf-8")
    say(f"{folder / 'paper.tex'} shows {', '.join(parts)}")


def protocol(found: EvaluationRecord) -> str:
    """Say what every number rests on."""
    judged, identity = found.evaluation, found.identity
    sizes = {
        row.subset: f"{row.subset}: {row.n:,}" for row in judged.rows if row.subset in CONFIDENT
    }
    confident = f" ({', '.join(sizes.values())})" if sizes else ""
    left = judged.n - judged.n_judged
    others = f" (of {judged.n:,}; {left:,} are an echo of the question, or none)" if left else ""
    return (
        f"n = {judged.n_judged:,} answers{others}{confident} of {judged.n_groups:,} groups,"
        f" {100 * judged.hallucinated_frac:.1f} % hallucinated, the positive class."
        f" Probabilities are cross-fitted over {identity['n_folds']} grouped folds,"
        f" seed {identity['seed']}; {identity['n_bootstrap']:,} resamples.{_caution(found)}"
    )


def _caution(found: EvaluationRecord) -> str:
    notes = {row.note for row in found.evaluation.rows if row.subset == ALL and row.note}
    return "".join(f" {note[:1].upper()}{note[1:]}." for note in sorted(notes))


def command(evaluation: Path) -> str:
    """Give the command line of the first run that has the evaluation."""
    folder = evaluation.resolve()
    links = [
        link
        for place in ("runs", "sweeps")
        for link in folder.parents[1].glob(f"{place}/*/*/artifacts/evaluations-{folder.name}")
    ]
    if not links:
        return "python detect.py (settings not known: no run links to it)"
    first = min(links, key=lambda link: link.lstat().st_mtime_ns)
    return shlex.join(["python", "detect.py", *read_run_folder(first.parents[1]).overrides])


def _sheets(
    found: EvaluationRecord, detectors: Sequence[str]
) -> dict[str, tuple[str, pd.DataFrame]]:
    """Build each table with what it shows."""
    return {
        "detectors": ("Detectors on all and on confident answers.", _detectors(found, detectors)),
        "paired": ("Paired differences in AUROC on the same resamples.", _paired(found, detectors)),
        "canaries": (
            "Inputs that know nothing of hallucination: 0.5 within the interval shows no leak.",
            _canaries(found),
        ),
        "sae": (f"SAEs on {_tokens(found)} held-out tokens.", _saes(found)),
    }


def _detectors(found: EvaluationRecord, detectors: Sequence[str]) -> pd.DataFrame:
    judged = found.evaluation
    rows: list[tuple[Cell, ...]] = []
    for name in detectors:
        areas = [auroc(judged, name, subset) for subset in SUBSETS]
        whole = judged.row(name)
        rest = [
            Estimate(getattr(whole, one), *whole.intervals.get(one, (None, None)))
            for one in ("auprc", "f1")
        ]
        # a resample repeats answers and so looks less calibrated than all of them: no interval
        rows.append((name, *areas, *rest, whole.ece, _whole(whole.forwards)))
    columns = [f"AUROC, {subset}" for subset in SUBSETS]
    return sheet_of(("detector", *columns, "AUPRC", "F1", "ECE", "passes"), rows)


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _paired(found: EvaluationRecord, detectors: Sequence[str]) -> pd.DataFrame:
    judged = found.evaluation
    pairs = dict.fromkeys((one.a, one.b) for one in judged.paired if one.a in detectors)
    rows: list[tuple[Cell, ...]] = []
    for a, b in pairs:
        differences = [judged.pair(a, b, subset) for subset in SUBSETS]
        rows.append((a, b, *(one and Estimate(one.delta, *one.ci) for one in differences)))
    return sheet_of(("detector", "minus", *SUBSETS), rows)


def _canaries(found: EvaluationRecord) -> pd.DataFrame:
    judged = found.evaluation
    rows: list[tuple[Cell, ...]] = [
        (name, Estimate(value, *judged.canaries_ci[name]))
        for name, value in judged.canaries.items()
    ]
    return sheet_of(("canary", "AUROC"), rows)


def _tokens(found: EvaluationRecord) -> str:
    return " or ".join(sorted({f"{hook['n_tokens']:,}" for hook in found.hooks}))


def _saes(found: EvaluationRecord) -> pd.DataFrame:
    names = ("fvu", "explained_variance", "l0", "dead_frac", "mse", "ce_recovered", "kl")
    rows = [(hook["hook"], *(hook.get(name) for name in names)) for hook in found.hooks]
    return sheet_of(("hook point", *names), rows)
