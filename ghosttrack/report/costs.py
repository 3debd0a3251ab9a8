"""What a program's phases take, set beside one another in a table."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from ghosttrack.data.progress import duration

TABLE_WIDTH = 132
"""Columns that the table needs where none are known, as in a file."""


class Cost(NamedTuple):
    """What a phase takes."""

    phase: str
    how: str
    """How that is known; `found` where there is nothing to do."""
    seconds: float = 0.0
    """NaN: not known."""
    host_bytes: int = 0
    """Peak of the process."""
    gpu_bytes: int = 0
    disk_bytes: int = 0
    """What stays."""
    passing_bytes: int = 0
    """What lies on the disk beside that while the phase runs."""

    @property
    def is_known(self) -> bool:
        """Whether the phase was measured."""
        return not math.isnan(self.seconds)

    def to_json(self) -> dict[str, object]:
        """Give the fields by name; null is not known."""
        return {**self._asdict(), "seconds": self.seconds if self.is_known else None}


def total(costs: Sequence[Cost]) -> Cost:
    """Sum times and disk; of memory, and of what passes, the largest counts."""
    unknown = [cost.phase for cost in costs if not cost.is_known]
    return Cost(
        "total",
        f"without {', '.join(unknown)}" if unknown else "",
        sum(cost.seconds for cost in costs if cost.is_known),
        max(cost.host_bytes for cost in costs),
        max(cost.gpu_bytes for cost in costs),
        sum(cost.disk_bytes for cost in costs),
        max(cost.passing_bytes for cost in costs),
    )


def print_costs(costs: Sequence[Cost], folder: Path, console: Console) -> None:
    """Print a row per phase and their total, and say of each whether the disk has room for it.

    Args:
        costs: In the order of the phases.
        folder: On the disk that is written to.
        console: Where to.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    has_gpu = any(cost.gpu_bytes for cost in costs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("phase", "time", "memory", *(["GPU memory"] if has_gpu else []), "disk"):
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    table.add_column("how it is known")
    for cost in (*costs, total(costs)):
        gpu = [size(cost.gpu_bytes)] if has_gpu else []
        seconds = duration(cost.seconds) if cost.is_known and cost.seconds else "–"
        cells = [seconds, size(cost.host_bytes), *gpu, size(cost.disk_bytes)]
        table.add_row(cost.phase, *cells, remark(cost, free))
    console.print(table)
    console.print(f"{size(free)} free under {folder}", highlight=False, soft_wrap=True)


def remark(cost: Cost, free: int) -> str:
    """Say how a cost is known, and first of all whether the disk is too small for it.

    >>> remark(Cost("extract", "12 batches", disk_bytes=491_600_000_000), free=40_000_000_000)
    'DOES NOT FIT: 40.0 GB free; 12 batches'
    """
    passing = f"{size(cost.passing_bytes)} more disk while it runs" if cost.passing_bytes else ""
    is_large = cost.disk_bytes + cost.passing_bytes > free
    warning = f"DOES NOT FIT: {size(free)} free" if is_large else ""
    return "; ".join(part for part in (warning, cost.how, passing) if part)


def size(n_bytes: int) -> str:
    """Write bytes in the unit that people would take.

    >>> [size(n) for n in (0, 51_200, 3_206_931, 491_640_000_000)]
    ['–', '0.1 MB', '3.2 MB', '491.6 GB']
    """
    if not n_bytes:
        return "–"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"


def extrapolate(points: Sequence[tuple[int, float]], size: int) -> float:
    """Continue what was measured at one size or two: in proportion, or along the line.

    >>> extrapolate([(100, 2.0)], 300)
    6.0
    >>> extrapolate([(50, 2.0), (100, 3.0)], 200)
    5.0
    """
    *smaller, (last, value) = points
    if not smaller:
        return value * size / last
    (first, less), *_ = smaller
    return value + max(value - less, 0.0) / (last - first) * (size - last)
