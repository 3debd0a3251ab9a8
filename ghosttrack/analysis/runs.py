"""Find runs below a folder, and read what each of them left."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ghosttrack.artifacts import Artifact, is_complete, read
from ghosttrack.command import say
from ghosttrack.errors import DataError, GhostTrackError, check_folder_name, whole
from ghosttrack.files import read_json
from ghosttrack.launch import STATUS, shared

BANK_NAME = re.compile(r"(?P<architecture>\w+)-(?P<d_sae>\d+)-(?P<k>\d+)-[0-9a-f]{12}")
LONGEST_LABEL = 40
DIGITS = re.compile(r"(\d+)")
OVERRIDES = ".hydra/overrides.yaml"

Hook = dict[str, Any]
"""A hook point's metrics by name, as in a bank's `metrics.json`."""


class BankRecord(NamedTuple):
    """An SAE bank as its runs tell of it."""

    model: str
    name: str
    """Of the artefact's folder."""
    architecture: str
    d_sae: int
    k: int
    d_model: int | None
    """None where the artefact itself is out of reach."""
    hooks: list[Hook]
    """Measured on held-out tokens."""

    @property
    def label(self) -> str:
        """Name it among banks of several models."""
        return f"{self.model} {self.name}"

    @property
    def expansion(self) -> float | None:
        """How many times as many latents as dimensions."""
        return None if self.d_model is None else self.d_sae / self.d_model

    def mean(self, name: str) -> float | None:
        """Average a metric over hook points; None where one of them lacks it."""
        values = [hook.get(name) for hook in self.hooks]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if values and len(known) == len(values) else None


class RunRecord(NamedTuple):
    """One run of a program, a sweep's job or by itself."""

    folder: Path
    model: str
    program: str
    overrides: tuple[str, ...]
    status: str
    """done | failed (<exit status>) | unfinished: killed, failed by itself, or still at it."""
    seconds: float | None
    bank: BankRecord | None
    evaluation: Path | None
    """Folder of the evaluation that it made or found, where that can be reached."""
    memory_bytes: Mapping[str, int]
    """Most that it had at a time: `host`, `gpu`; empty where it kept none."""

    @property
    def name(self) -> str:
        """Tell it from other runs of its model."""
        return f"{self.folder.parent.name}/{self.folder.name}"


def find_runs(folder: Path) -> list[RunRecord]:
    """Read every run at or below a folder, numbers in names in their order.

    Those of a model are also in `sweeps/` beside its folder, where a sweep is over several models.
    A run that cannot be read is left out, with a line.

    Raises:
        DataError: No run can be read.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    if folder.is_dir():
        any(folder.iterdir())  # which fails where globs pass over what may not be read
    model = folder.absolute()
    shared_sweeps = [one for one in model.parent.glob("sweeps/*") if not one.is_symlink()]
    beside = (file for sweep in shared_sweeps for file in sweep.glob(f"*/{OVERRIDES}"))
    runs: list[RunRecord] = []
    refused: list[GhostTrackError] = []
    for file in sorted({*folder.rglob(OVERRIDES), *beside}, key=lambda one: in_order(str(one))):
        try:
            run = read_run_folder(file.parents[1])
        except GhostTrackError as error:
            refused.append(error)
        else:
            if file.is_relative_to(folder) or run.model == model.name:
                runs.append(run)
    if not runs:
        lacks = "no run is there" if folder.is_dir() else "no such folder"
        raise next(iter(refused), None) or DataError(
            f"{folder}: {lacks}; give a run's, a sweep's or a model's folder of outputs/"
        )
    for error in refused:
        say(f"left out: {error}")
    return runs


def banks_of(runs: Iterable[RunRecord]) -> list[BankRecord]:
    """List every bank once."""
    found = {run.bank.label: run.bank for run in runs if run.bank is not None}
    return list(found.values())


def common_overrides(runs: Sequence[RunRecord]) -> list[str]:
    """List the settings that all of several runs share."""
    return shared([run.overrides for run in runs])


def labels_of(runs: Sequence[RunRecord]) -> list[str]:
    """Name runs by the settings that tell them apart, or by their folders."""
    common = common_overrides(runs)
    own = [" ".join(one for one in run.overrides if one not in common) for run in runs]
    is_short = all(0 < len(label) <= LONGEST_LABEL for label in own) and len(set(own)) == len(own)
    return own if is_short else [f"{run.model} {run.name}" for run in runs]


def in_order(name: str) -> list[object]:
    """Make a key that sorts names with numbers in the order of the numbers.

    >>> sorted(["layer_10", "layer_9"], key=in_order)
    ['layer_9', 'layer_10']
    """
    words = DIGITS.split(name)
    return [int(word) if place % 2 else word for place, word in enumerate(words)]


def read_run_folder(folder: Path) -> RunRecord:
    """Read one run.

    Raises:
        DataError: A file of it is missing or malformed, or it has parts of several runs.
    """
    hydra = folder / ".hydra"
    config, job = read_yaml(hydra / "config.yaml"), read_yaml(hydra / "hydra.yaml")
    metrics = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else None
    status = read_json(folder / STATUS) if (folder / STATUS).is_file() else None
    with whole(folder):
        model = config["model"]["name"]
        check_folder_name("model.name", model)
        records = {"metrics.json": metrics, STATUS: status}
        overrides = tuple(map(str, read_yaml(hydra / "overrides.yaml")))
        if parts := _foreign(folder, config, overrides, records):
            raise DataError(f"{folder}: has parts of several runs: {parts}; run its command again")
        return RunRecord(
            folder,
            model,
            job["hydra"]["job"]["name"],
            overrides,
            _status(status, metrics),
            status["seconds"] if status else (metrics or {}).get("duration_s"),
            None if metrics is None else _bank(folder, model, metrics),
            None if metrics is None else _evaluation(folder, model, metrics),
            (metrics or {}).get("memory_bytes", {}),
        )


def _foreign(
    folder: Path, config: dict[str, Any], overrides: Sequence[str], records: Mapping[str, Any]
) -> str:
    """Say what is not of the run whose settings Hydra wrote; nothing where all is.

    `records` are what it wrote at its end, by file name; None: it did not.
    """
    for name, record in records.items():
        told = tuple(map(str, (record or {}).get("overrides", overrides)))
        if told != tuple(overrides):
            return f"{name} is of {' '.join(told) or 'no overrides'}, {OVERRIDES} is not"
    metrics = records["metrics.json"] or {}
    bank = Path(metrics.get("train", {}).get("bank", "")).name
    match = BANK_NAME.fullmatch(bank)
    for name, given in match.groupdict().items() if match else ():
        wanted = config.get("sae", {}).get(name, given)
        if isinstance(wanted, int) and wanted != int(given):
            return f"metrics.json is of bank {bank}, .hydra/config.yaml has sae.{name}={wanted}"
    return _foreign_log(folder, metrics.get("logs", []))


def _foreign_log(folder: Path, own: Sequence[str]) -> str:
    """Say which of its W&B logs others stand in place of; all may be gone, as uploaded ones."""
    held = {log.name for log in folder.glob("wandb/*run-*") if log.is_dir()}
    lost = set(own) - held
    return f"wandb/ has {', '.join(sorted(held))}, not {', '.join(lost)}" if held and lost else ""


def _status(status: dict[str, Any] | None, metrics: dict[str, Any] | None) -> str:
    if status is not None:
        return "done" if status["exit"] == 0 else f"failed ({status['exit']})"
    return "unfinished" if metrics is None else "done"


def _bank(folder: Path, model: str, metrics: dict[str, Any]) -> BankRecord | None:
    """Take the numbers from the run: they are there also where artefacts are left behind."""
    hooks = metrics.get("train", metrics.get("detect", {})).get("hooks")
    links = sorted(folder.glob("artifacts/saes-*"), key=lambda link: link.lstat().st_mtime_ns)
    if not hooks or not links:
        return None
    name = links[-1].name.removeprefix("saes-")
    file = artifact_folder(folder, model, "saes", name) / "bank.json"
    facts = read_json(file) if file.is_file() else {}
    if match := BANK_NAME.fullmatch(name):  # else of others, taken over
        named = {"d_sae": int(match["d_sae"]), "k": int(match["k"])}
        facts = {"architecture": match["architecture"], **named, **facts}
    if not facts:
        return None
    shape = facts["architecture"], facts["d_sae"], facts["k"]
    return BankRecord(model, name, *shape, facts.get("d_model"), hooks)


def _evaluation(folder: Path, model: str, metrics: dict[str, Any]) -> Path | None:
    if "evaluation" not in metrics.get("detect", {}):
        return None
    name = Path(metrics["detect"]["evaluation"]).name
    found = artifact_folder(folder, model, "evaluations", name)
    return found if (found / "evaluation.json").is_file() else None


def artifact_folder(folder: Path, model: str, kind: str, name: str) -> Path:
    """Look beside a run, or in its model's folder there, as outputs are copied; else follow a link.

    A run lies in `<model>/runs/<program>/`, `<model>/sweeps/<time>/`, or in `sweeps/<time>/` beside
    the folders of several models.
    """
    root = folder.absolute().parents[2]
    for place in (root / kind / name, root / model / kind / name):
        if is_complete(place):
            return place
    return (folder / "artifacts" / f"{kind}-{name}").resolve()


def newest(folder: Path, *kinds: str) -> Path:
    """Of a model's folder give the newest artefact of these kinds; another folder is itself meant.

    Raises:
        DataError: A model's folder has none of them.
    """
    if is_complete(folder) or not (folder / "runs").is_dir():
        return folder
    manifests = [one for kind in kinds for one in folder.glob(f"{kind}/*/manifest.json")]
    if not manifests:
        raise DataError(f"{folder}: has no {' nor '.join(kinds)} yet")
    return max(manifests, key=lambda one: one.stat().st_mtime_ns).parent


def made_from(made: Artifact, part: str, kind: str | None = None) -> Artifact:
    """Open what an artefact was made from, beside it in the same outputs."""
    identity, kind = made.manifest["identity"], kind or part
    wanted = identity.get(part)
    (*_, found) = (None, *made.path.parents[1].glob(f"{kind}/*-{wanted}"))
    if wanted is None or found is None:
        raise DataError(f"{made.path}: its {part} ({wanted}) is not among {kind} of that model")
    return read(found, kind)


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - whatever was written
    """Read a YAML file.

    Raises:
        DataError: It is not there or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not YAML ({str(error).splitlines()[0]})") from error
