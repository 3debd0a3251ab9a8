"""Progress of long passes over tokens: a bar on a terminal, log lines elsewhere."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 5.0

log = logging.getLogger(__name__)


class TokenProgress:
    """Show how many tokens are done, tokens per second and the time left.

    Args:
        title: What is being done.
        total: Tokens in all.
        done: Tokens found done at the start; not counted in the speed.
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title = title
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
                TextColumn("{task.fields[speed]:,.0f}/s"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task: TaskID = self.bar.add_task(title, total=total, completed=done, speed=0.0)

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
            log.info("%s: %d tokens in %.1f s (%.0f/s)", self.title, new, seconds, self.speed)

    @property
    def speed(self) -> float:
        """Tokens per second since the start."""
        return (self.done - self.found) / max(time.monotonic() - self.started, 1e-9)

    def advance(self, n_tokens: int) -> None:
        """Count tokens as done."""
        self.done += n_tokens
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, speed=self.speed)
        elif time.monotonic() - self.logged > LOG_EVERY_S:
            self.logged = time.monotonic()
            left = (self.total - self.done) / max(self.speed, 1e-9)
            log.info(
                "%s: %d of %d tokens, %.0f/s, %.0f s left",
                *(self.title, self.done, self.total, self.speed, left),
            )
