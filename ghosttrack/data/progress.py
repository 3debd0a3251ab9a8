"""Progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 5.0
FORECAST_AFTER_S = 1.0
"""Least time of work from which the whole is foretold."""

Item = TypeVar("Item")

log = logging.getLogger(__name__)


class Meter:
    """Show how much is done, how much per second and the time left.

    Args:
        done: Found done at the start; not counted in the speed.
        unit_bytes: What each takes on the disk, where something is written.
    """

    def __init__(
        self, title: str, total: int, done: int = 0, unit_bytes: int = 0, *, unit: str = "tokens"
    ) -> None:
        self.title = title
        self.unit = unit
        self.unit_bytes = unit_bytes
        self.has_forecast = False
        self.total = total
        self.done = done
        self.found = done
        self.started = self.logged = time.monotonic()
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit),
                TextColumn("{task.fields[speed]:,.0f}/s{task.fields[written]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task: TaskID = self.bar.add_task(
                title, total=total, completed=done, speed=0.0, written=""
            )

    def __enter__(self) -> "Meter":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        seconds = time.monotonic() - self.started
        if kind is None and (seconds > FORECAST_AFTER_S or self.unit_bytes):
            new = self.done - self.found
            log.info(
                "%s: %d %s in %.1f s (%s/s)%s",
                *(self.title, new, self.unit, seconds, rate(self.speed), self._written(new)),
            )

    @property
    def speed(self) -> float:
        """How much per second since the start."""
        return (self.done - self.found) / max(time.monotonic() - self.started, 1e-9)

    def advance(self, n: int) -> None:
        """Count more as done."""
        self.done += n
        now = time.monotonic()
        if not self.has_forecast and now - self.started > FORECAST_AFTER_S:
            self.has_forecast = True
            log.info(
                "%s: about %s at %s %s/s",
                *(self.title, duration(self.left), rate(self.speed), self.unit),
            )
        written = self._written(self.done - self.found)
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, speed=self.speed, written=written)
        elif now - self.logged > LOG_EVERY_S:
            self.logged = now
            log.info(
                "%s: %d of %d %s, %s/s%s, %s left",
                *(self.title, self.done, self.total, self.unit),
                *(rate(self.speed), written, duration(self.left)),
            )

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield what is to be done, and count each as done when the next is asked for."""
        for one in items:
            yield one
            self.advance(1)

    @property
    def left(self) -> float:
        """Seconds that the rest takes at this speed."""
        return max(self.total - self.done, 0) / max(self.speed, 1e-9)

    def _written(self, n: int) -> str:
        if not self.unit_bytes:
            return ""
        gigabytes = n * self.unit_bytes / 1e9
        return f", {gigabytes:.2f} GB written, {self.speed * self.unit_bytes / 1e6:.0f} MB/s"


def rate(speed: float) -> str:
    """Write how much is done per second.

    >>> rate(245.3), rate(0.31)
    ('245', '0.3')
    """
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"


def duration(seconds: float) -> str:
    """Write a time in the unit that people would take.

    >>> [duration(seconds) for seconds in (41.0, 725.0, 19_000.0)]
    ['41 s', '12 min', '5.3 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
