"""Write the eight most instructive answers of an evaluation as Markdown, with pictures of tracks.

They are chosen by what the detector of the report and the model's own certainty say: errors that it
was sure of, caught and missed; doubted answers that are right; the falsest alarm; the most ghosts.

Examples:
    python -m ghosttrack.analysis cases outputs/ghostworld --to cases/
"""

import argparse
import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ghosttrack.analysis.runs import newest
from ghosttrack.artifacts import read
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.errors import DataError, whole
from ghosttrack.report.pictures import FAINT, GROUP_COLORS, STYLE, save
from ghosttrack.report.sheet import markdown, sheet_of

Case = Mapping[str, Any]
"""An answer as the report's viewer has it."""
SURE, UNSURE = 0.8, 0.5
KINDS: Mapping[str, tuple[int, Callable[[Case], bool], Callable[[Case], float]]] = {
    "sure, wrong, and caught": (
        2, lambda one: one["label"] == 1 and (one["prob"] or 0) > SURE, lambda one: one["risk"],
    ),
    "sure, wrong, and missed": (
        2, lambda one: one["label"] == 1 and (one["prob"] or 0) > SURE, lambda one: -one["risk"],
    ),
    "in doubt, right, and believed": (
        2,
        lambda one: one["label"] == 0 and one["prob"] is not None and one["prob"] <= UNSURE,
        lambda one: -one["risk"],
    ),
    "right, and suspected": (1, lambda one: one["label"] == 0, lambda one: one["risk"]),
    "most ghosts": (1, lambda one: one["n_ghosts"] > 0, lambda one: one["n_ghosts"]),
}  # fmt: skip
"""How many of each, which answers they are among, and what the first has most of."""


def main(arguments: list[str]) -> None:
    """Read the options and write."""
    options = parser("ghosttrack.analysis cases", __doc__)
    options.add_argument("evaluation", type=Path, help="folder of an evaluation, or of a model")
    options.add_argument("--to", type=Path, required=True, help="folder of the files")
    run(lambda: _write(options.parse_args(arguments)))


def _write(given: argparse.Namespace) -> None:
    evaluation = read(newest(given.evaluation, "evaluations"), "evaluations")
    report = evaluation.path / "report.html"
    data, answers = read_answers(report)
    folder = make_folder(given.to)
    said = f"Of {len(answers)} answers in `{report.parent.name}`. Risks: by {data['leader']}"
    why = f"; why: by {data['explainer']}" if data["explainer"] else ""
    text = ["# Cases\n", f"{said}{why}.\n"]
    for number, (kind, one) in enumerate(choose_cases(answers), start=1):
        text += [f"## {number}. {kind}\n", *_told(one)]
        if one["tracks"]:
            picture = _draw(folder / f"case-{number}", one, data["layers"])
            text.append(f"![tracks of case {number}]({picture.name})\n")
    (folder / "cases.md").write_text("\n".join(text), encoding="utf-8")
    say(str(folder / "cases.md"))


def read_answers(report: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what a report's viewer shows: its data, and every answer with its details.

    Raises:
        DataError: There is no report, or it is of another version.
    """
    try:
        page = report.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{report}: cannot be read ({error.strerror})") from error
    with whole(report):
        if 'id="viewer-details">' not in page or '"leader": ' not in page:
            raise DataError(f"{report}: of another version; the same detect.py makes it anew")
        data, chunks = (
            json.loads(page.split(f'id="viewer-{name}">', 1)[1].split("</script>", 1)[0])
            for name in ("data", "details")
        )
        texts = [gzip.decompress(base64.b64decode(chunk)) for chunk in chunks]
        details = [one for text in texts for one in json.loads(text)]
        return data, [{**a, **b} for a, b in zip(data["answers"], details, strict=True)]


def choose_cases(answers: Sequence[Case]) -> list[tuple[str, Case]]:
    """Choose the first of each kind, none twice; a kind that has too few gives what it has."""
    found: list[tuple[str, Case]] = []
    taken: set[int] = set()
    for kind, (n, fits, worth) in KINDS.items():
        mine = [one for one in answers if one["index"] not in taken and fits(one)]
        best = sorted(mine, key=lambda one: (-worth(one), one["index"]))[:n]
        taken |= {one["index"] for one in best}
        found += [(kind, one) for one in best]
    return found


def _told(one: Case) -> list[str]:
    sure = "not known" if one["prob"] is None else f"{one['prob']:.0%}"
    facts = [
        ("question", one["prompt"]), ("answer", one["text"] or "(nothing)"),
        ("right", " / ".join(one["references"])), ("in truth", one["category"].replace("_", " ")),
        ("risk", f"{one['risk']:.0%}"), ("the model's own probability", sure),
    ]  # fmt: skip
    why = [(f"{reason['effect']:+.2f}", reason["text"]) for reason in one["reasons"][:4]]
    parts = [markdown(sheet_of(("of the answer", ""), facts))]
    return [*parts, markdown(sheet_of(("log-odds", "why"), why))] if why else parts


def _draw(stem: Path, one: Case, layers: Sequence[str]) -> Path:
    """Draw the tracks of two layers or more, coloured by what they argue for."""
    tracks = [track for track in one["tracks"] if len(track["layers"]) > 1][:20]
    names = list(dict.fromkeys(track["promotes"] for track in tracks if track["promotes"]))
    top = max((size for track in tracks for size in track["sizes"]), default=1.0) or 1.0
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(6.4, 0.8 + 0.2 * len(tracks)), layout="constrained")
        axes = figure.add_subplot()
        for row, track in enumerate(tracks):
            at = names.index(track["promotes"]) if track["promotes"] else -1
            color = GROUP_COLORS[at % len(GROUP_COLORS)] if at >= 0 else FAINT
            spot = {"color": color, "s": [8 + 60 * size / top for size in track["sizes"]]}
            axes.plot(track["layers"], [row] * len(track["layers"]), color=color, lw=1.4)
            axes.scatter(track["layers"], [row] * len(track["layers"]), **spot)
            said = f"{track['promotes']} {track['push']:+.2f}" if track["promotes"] else ""
            axes.annotate(said, (track["layers"][-1] + 0.15, row), fontsize=7, va="center")
        axes.set_xticks(range(len(layers)), layers)
        axes.set_yticks([])
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set(xlabel="layer", title="Tracks, by the candidate that they argue for")
        return save(figure, stem)
