"""Columns of rows that others wrote: each what it has to be, or a line that says why not."""

from collections.abc import Iterable, Mapping, Sequence
from sys import float_info

from ghosttrack.errors import DataError

Row = Mapping[str, object]


def text(row: Row, column: str, where: str, *, empty: bool = False) -> str:
    """Return a column's text, stripped.

    Raises:
        DataError: There is none, or a blank one where `empty` does not allow that.
    """
    value = row.get(column)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise DataError(f"{where}: {column} must be a text, got {value!r}")
    return value.strip()


def texts(row: Row, column: str, where: str) -> tuple[str, ...]:
    """Return a list of texts; none where there is no such column."""
    return tuple(
        text({column: item}, column, where, empty=True) for item in items(row, column, where)
    )


def numbers(row: Row, column: str, where: str) -> list[float]:
    """Return a list of finite numbers; none where there is no such column."""
    values = []
    for item in items(row, column, where):
        if isinstance(item, bool) or not (
            isinstance(item, int | float) and abs(item) <= float_info.max
        ):
            raise DataError(f"{where}: {column} must hold numbers, got {item!r}")
        values.append(float(item))
    return values


def items(row: Row, column: str, where: str) -> Sequence[object]:
    """Return a list; none where there is no such column."""
    value = row.get(column)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(f"{where}: {column} must be a list, got {value!r}")
    return value


def listed(names: Iterable[str]) -> str:
    r"""List columns' names for a message of one line, whatever they hold.

    >>> listed(["a b", "c\nd"])
    "a b, 'c\\nd'"
    """
    return ", ".join(name if name.isprintable() else repr(name) for name in names)
