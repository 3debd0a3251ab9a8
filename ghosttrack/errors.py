"""Faults that the user can mend: programs print them as one line and exit with status 1."""


class GhostTrackError(ValueError):
    """Something outside the code is wrong; the message names it and says what would do."""


class ConfigError(GhostTrackError):
    """A setting is missing, unknown or impossible; the message starts with the setting's name."""


class DataError(GhostTrackError):
    """A file, folder or artefact is missing, malformed or of another kind; the message names it."""


def check_folder_name(setting: str, name: str) -> None:
    """Make sure that a setting which names a folder leads nowhere else.

    Raises:
        ConfigError: The name is empty, hidden, or holds a path.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ConfigError(f"{setting} must be a plain folder name, got {name!r}")
