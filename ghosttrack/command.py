"""The frame of what is called by `python -m`: options in, lines out, faults as one line."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ghosttrack.errors import LARGEST_SEED, DataError, GhostTrackError


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of `python -m <name>`; its help is a module's docstring.

    `~` at the head of a `Path` is the home.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.register("type", Path, place)
    return made


def at_least(least: int) -> Callable[[str], int]:
    """Make the type of an option that is a whole number, and not below another."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def seed(text: str) -> int:
    """Make the seed of an option, which is one for each library that takes it."""
    value = int(text)
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be in 0..{LARGEST_SEED}, got {value}")
    return value


def place(text: str) -> Path:
    """Make a path of an option, `~` at its head the home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home") from error


def run(task: Callable[[], None]) -> None:
    """Do it; a fault that the user can mend is one line and exit status 1.

    Ctrl-C is one line, too, and a reader of the output that has had enough, as `head`, is no fault.
    """
    take_any_text()
    try:
        task()
        sys.stdout.flush()
    except GhostTrackError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        mute()
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"{error.filename}: cannot be read or written ({error.strerror})")


def take_any_text() -> None:
    """Let standard output write as escapes what its encoding lacks; one that is closed is mute."""
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def mute() -> None:
    """Let nobody hear standard output, whose reader has gone: it is flushed again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(line + "\n")


def make_folder(folder: Path) -> Path:
    """Make an output folder where it is missing.

    Raises:
        DataError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror})") from error
    return folder
