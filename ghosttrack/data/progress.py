"""Progress of long passes over tokens: a bar on a terminal, log lines elsewhere."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 5.0
FORECAST_AFTER_S = 1.0
"""Least time of work from which the whole is foretold."""

log = logging.getLogger(__name__)


class TokenProgress:
    """Show how many tokens are done, tokens per second and the time left.

    Args:
        title: What is being done.
        total: Tokens in all.
        done: Tokens found done at the start; not counted in the speed.
        token_bytes: What each token takes on the disk, where something is written.
    """

    def __init__(self, title: str, total: int, done: int = 0, token_bytes: int = 0) -> None:
        self.title = title
        self.token_bytes = token_bytes
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
                TextColumn("{task.completed:,.0f} of {task.total:,.0f} tokens"),
                TextColumn("{task.fields[speed]:,.0f}/s{task.fields[written]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task: TaskID = self.bar.add_task(
                title, total=total, completed=done, speed=0.0, written=""
            )

    def __enter__(self) -> "TokenProgress":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        if kind is None:
            seconds = time.monotonic() - self.started
            new = self.done - self.found
            log.info(
                "%s: %d tokens in %.1f s (%.0f/s)%s",
                *(self.title, new, seconds, self.speed, self._written(new)),
            )

    @property
    def speed(self) -> float:
        """Tokens per second since the start."""
        return (self.done - self.found) / max(time.monotonic() - self.started, 1e-9)

    def advance(self, n_tokens: int) -> None:
        """Count tokens as done."""
        self.done += n_tokens
        now = time.monotonic()
        if not self.has_forecast and now - self.started > FORECAST_AFTER_S:
            self.has_forecast = True
            log.info("%s: about %s at %.0f tokens/s", self.title, duration(self.left), self.speed)
        written = self._written(self.done - self.found)
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, speed=self.speed, written=written)
        elif now - self.logged > LOG_EVERY_S:
            self.logged = now
            log.info(
                "%s: %d of %d tokens, %.0f/s%s, %s left",
                *(self.title, self.done, self.total, self.speed, written, duration(self.left)),
            )

    @property
    def left(self) -> float:
        """Seconds that the rest takes at this speed."""
        return max(self.total - self.done, 0) / max(self.speed, 1e-9)

    def _written(self, n_tokens: int) -> str:
        if not self.token_bytes:
            return ""
        gigabytes = n_tokens * self.token_bytes / 1e9
        return f", {gigabytes:.2f} GB written, {self.speed * self.token_bytes / 1e6:.0f} MB/s"


def duration(seconds: float) -> str:
    """Write a time in the unit that people would take.

    >>> [duration(seconds) for seconds in (41.0, 725.0, 19_000.0)]
    ['41 s', '12 min', '5.3 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
