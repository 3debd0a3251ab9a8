"""One run of a program: its folder, its stages, and what it leaves there."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from ghosttrack.artifacts import Artifact
from ghosttrack.files import link_last, write_json
from ghosttrack.memory import peak_bytes
from ghosttrack.processes import machine, place

log = logging.getLogger(__name__)


@dataclass
class Run:
    """A run's folder holds its log, `metrics.json` and a link to every artefact it read or made.

    Attributes:
        folder: Hydra's run folder.
        program: `extract`, `train` or `detect`.
        group: Name of the sweep that the run belongs to; empty outside of one.
        seconds: Wall time per stage, in the order of their start.
        metrics: Numbers per stage; written as `metrics.json` when the run finishes.
        kept: Artefacts that it read or made so far.
        overrides: As they were typed; readers hold them against what Hydra wrote.
        logs: Folders below `wandb/` that it logged to.
        started: Clock reading at its start.
    """

    folder: Path
    program: str
    group: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, object] = field(default_factory=dict)
    kept: list[Artifact] = field(default_factory=list)
    overrides: Sequence[str] = ()
    logs: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, program: str) -> "Run":
        """Take over the folder that Hydra made for this run; of several ranks the first speaks."""
        if place().rank > 0:
            logging.getLogger().setLevel(logging.WARNING)
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        sweep = folder.parent if folder.parent.parent.name == "sweeps" else None
        return cls(folder, program, sweep.name if sweep else "", overrides=hydra.overrides.task)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, nested ones included."""
        started = time.monotonic()
        self.seconds[name] = 0.0
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)

    def keep(self, artifact: Artifact) -> None:
        """Link an artefact from the run's folder and say whether it was built or found.

        Of several ranks the first does.
        """
        self.kept.append(artifact)
        if place().rank > 0:
            return
        links = self.folder / "artifacts"
        links.mkdir(parents=True, exist_ok=True)
        link = links / f"{artifact.path.parent.name}-{artifact.path.name}"
        link.unlink(missing_ok=True)
        link.symlink_to(artifact.path.resolve())
        log.info("%s %s", "built" if artifact.built else "found", artifact.path)

    def finish(self) -> None:
        """Write `metrics.json`: machine, time, peak memory, every number of the run."""
        if place().rank > 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "overrides": list(self.overrides),
            "logs": self.logs,
            "machine": machine(),
            "duration_s": round(time.monotonic() - self.started, 2),
            "seconds": self.seconds,
            "memory_bytes": {"host": peak_bytes(), "gpu": _peak_gpu_bytes()},
        }
        write_json(self.folder / "metrics.json", {**facts, **self.metrics})
        if self.folder.parent.parent.name == "runs":
            link_last(self.folder)


def _peak_gpu_bytes() -> int:
    """Return the most memory that this process has had on its GPU; 0 where it used none."""
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch and torch.cuda.is_initialized() else 0


def plain(value: Any) -> Any:  # noqa: ANN401 - settings in, JSON out
    """Turn settings into JSON values, enums by name as they stand in YAML."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
