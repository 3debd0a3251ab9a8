"""Faults that the user can mend: programs print them as one line and exit with status 1."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

MALFORMED = (
    *(AssertionError, AttributeError, EOFError, IndexError, KeyError, OverflowError, RuntimeError),
    *(SafetensorError, TypeError, UnpicklingError, ValueError),
)
"""What reading raises where an entry is missing, or of another type or shape than it has to be."""
LARGEST_SEED = 2**31 - 1
LONGEST_NAME = 100
"""Bytes of a folder's name that is part of others; systems take 255."""


class GhostTrackError(ValueError):
    """Something outside the code is wrong; the message names it and says what would do."""


class ConfigError(GhostTrackError):
    """A setting is missing, unknown or impossible; the message starts with the setting's name."""


class DataError(GhostTrackError):
    """A file, folder or artefact is missing, malformed or of another kind; the message names it."""


def check_folder_name(setting: str, name: str) -> None:
    """Make sure that a setting which names a folder leads nowhere else.

    Raises:
        ConfigError: The name is empty, hidden, too long, or holds a path or what cannot be printed.
    """
    is_plain = name.isprintable() and not name.startswith(".") and not {"/", "\\"} & {*name}
    if not (is_plain and 0 < len(name.encode()) <= LONGEST_NAME):
        raise ConfigError(f"{setting} must be a plain folder name, got {name!r}")


def check_text(typed: str) -> None:
    """Refuse bytes that are not UTF-8, which no file that we write could hold.

    Raises:
        ConfigError: There are some.
    """
    try:
        typed.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{typed!r}: is not UTF-8; save or type it as UTF-8") from error


def check_least(group: str, config: object, **least: int) -> None:
    """Make sure that settings of a group are no smaller than they may be.

    Raises:
        ConfigError: One is.
    """
    for field, bound in least.items():
        if getattr(config, field) < bound:
            got = getattr(config, field)
            raise ConfigError(f"{group}.{field} must be at least {bound}, got {got}")


def check_share(setting: str, share: float) -> None:
    """Make sure that a setting is a share of something, and neither none nor all of it.

    Raises:
        ConfigError: It is not.
    """
    if not 0 < share < 1:
        raise ConfigError(f"{setting} must be above 0 and below 1, got {share:g}")


def check_numbers(setting: str, value: object) -> None:
    """Make sure that numbers below a setting are finite and seeds and sizes what libraries take.

    Raises:
        ConfigError: One is not.
    """
    if isinstance(value, Mapping):
        for name, held in value.items():
            check_numbers(f"{setting}.{name}".lstrip("."), held)
    elif isinstance(value, float) and not isfinite(value):
        raise ConfigError(f"{setting} must be a finite number, got {value}")
    elif (
        isinstance(value, int)
        and setting.rpartition(".")[2] == "seed"
        and not 0 <= value <= LARGEST_SEED
    ):
        raise ConfigError(f"{setting} must be in 0..{LARGEST_SEED}, got {value}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{setting} must be below 2**63, got {value}")


def first_line(error: Exception) -> str:
    """Say the first line of an error, behind the setting that OmegaConf has it of."""
    key = getattr(error, "full_key", None)
    return f"{key}: " * bool(key) + str(error).partition("\n")[0]


class LeakError(GhostTrackError):
    """A canary found what it must not; the message names it. Everything was written before."""


class Preempted(Exception):
    """A signal ended the task, which saved where it was; says which and where."""


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Say of files that somebody else wrote that they are malformed, wherever that shows.

    Raises:
        DataError: One of `MALFORMED` came out of the block.
    """
    try:
        yield
    except GhostTrackError:
        raise
    except MALFORMED as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path}: a file of it is malformed ({said})") from error
