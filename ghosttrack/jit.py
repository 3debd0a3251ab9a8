"""Compile plain loops over arrays with numba, where there is one."""

import importlib.util
from collections.abc import Callable
from typing import Any

AVAILABLE = importlib.util.find_spec("numba") is not None
"""False on a Python that numba does not know yet: loops then run as they are, slowly."""


def fast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use; sums may be reordered, so that they run in vector registers.

    NaN and infinity stay themselves.
    """
    return _compile(function, {"contract", "reassoc", "nsz"})


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use; operations keep their order."""
    return _compile(function, fastmath=False)


def _compile(function: Callable[..., Any], fastmath: set[str] | bool) -> Callable[..., Any]:
    """Keep the result on disk where there is a place for it."""
    if not AVAILABLE:
        return function
    import numba

    options = {"nogil": True, "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the home can be written
        return numba.njit(**options)(function)
