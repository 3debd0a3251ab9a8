"""Make the review dashboard of a W&B project: training, layers, detection, machine.

Examples:
    python -m sweep.workspace --entity <you> --project ghosttrack
    python -m sweep.workspace --entity <you> --project ghosttrack --out workspace.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import wandb

from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.errors import DataError
from ghosttrack.evaluation.roster import CHIEF
from ghosttrack.files import write_json
from ghosttrack.report.detection_log import CHARTS
from ghosttrack.wandb_client import has_key, silence

STEP = "trainer/global_step"
CURVES = ("train/fvu_mean", "train/fvu_max", "train/loss", "train/dead_frac", "lr", "tokens_per_s")
LAYERS = ("train/fvu", "heldout/fvu", "heldout/dead_frac", "heldout/ce_recovered")
AUROC = tuple(f"detect/auroc/{name}/all" for name in (*CHIEF, "everything"))
TABLES = ("detectors", "canaries", "answers")
FIGURES = ("figures/auroc", "figures/roc", "figures/pr", "figures/calibration")
MACHINE = ("system/gpu.0.gpu", "system/gpu.0.memory", "system/proc.memory.rssMB", "system/cpu")


def main(arguments: list[str]) -> None:
    """Read the options, and save the workspace there or in a file."""
    options = parser("sweep.workspace", __doc__)
    options.add_argument("--entity", required=True, help="user or team")
    options.add_argument("--project", required=True)
    options.add_argument("--name", default="GhostTrack review")
    options.add_argument("--out", type=Path, help="write the definition here; needs no login")
    run(lambda: _make(options.parse_args(arguments)))


def _make(given: argparse.Namespace) -> None:
    workspace = build(given.entity, given.project, given.name)
    if given.out is not None:
        make_folder(given.out.parent)
        write_json(given.out, json.loads(workspace._to_model().model_dump_json(by_alias=True)))
        say(f"workspace: {given.out}")
        return
    if not has_key():
        raise DataError("no W&B key: set WANDB_API_KEY or log in, or write to a file by --out")
    if fault := silence():
        raise DataError(f"{fault}; write to a file by --out")
    try:
        workspace.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise DataError(f"--entity {given.entity}: cannot be saved there ({error})") from error
    say(f"workspace: {workspace.url}")


def build(entity: str, project: str, name: str) -> Any:  # noqa: ANN401 - of an optional package
    """Build the workspace, without a login.

    Raises:
        DataError: Its package is not installed.
    """
    try:
        from wandb_workspaces import (  # pyright: ignore[reportMissingImports] - an extra
            workspaces,
        )
        from wandb_workspaces.reports import (  # pyright: ignore[reportMissingImports]
            v2 as panels,
        )
    except ImportError as error:
        raise DataError("wandb-workspaces is missing: pip install 'ghosttrack[review]'") from error
    sections = {
        "Training": [panels.LinePlot(title=one, x=STEP, y=[one]) for one in CURVES],
        "Layers": [panels.LinePlot(title=one, x=STEP, metric_regex=f"{one}/.*") for one in LAYERS],
        "Detection": [
            panels.BarPlot(title="AUROC, all answers", metrics=list(AUROC)),
            *(panels.WeavePanelSummaryTable(table_name=one) for one in TABLES),
            *(
                panels.CustomChart(
                    query={"summaryTable": {"tableKey": f"{key}_table"}},
                    chart_name=f"wandb/{kind}",
                    chart_fields=dict(fields),
                    chart_strings={"title": key},
                )
                for key, (kind, fields) in CHARTS.items()
            ),
            panels.MediaBrowser(title="Figures", media_keys=list(FIGURES)),
        ],
        "Machine": [panels.LinePlot(title=one, y=[one]) for one in MACHINE],
    }
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            workspaces.Section(name=title, panels=shown, is_open=True)
            for title, shown in sections.items()
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
