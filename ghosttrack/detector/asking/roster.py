"""The one roster of interventions: the families that the package `families` holds."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from ghosttrack.detector.asking import families
from ghosttrack.detector.asking.families.siblings import FAMILY as SIBLINGS
from ghosttrack.detector.asking.families.siblings import sibling_specs
from ghosttrack.detector.asking.family import Family, Rescoring
from ghosttrack.detector.table import StatisticSpec


def _discover() -> tuple[Family, ...]:
    """Import every module of the package, and put its families in their order."""
    modules = [
        import_module(f"{families.__name__}.{module.name}")
        for module in pkgutil.iter_modules(families.__path__)
    ]
    return tuple(sorted((one.FAMILY for one in modules), key=lambda one: (one.order, one.name)))


ROSTER = _discover()
RESCORED = tuple(one.name for one in ROSTER if isinstance(one, Rescoring) or one is SIBLINGS)
"""Families that the model's answers are scored under; their tables have these names."""


def intervention_specs() -> tuple[StatisticSpec, ...]:
    """Every column that asking again can give; those of ghosts hang on the bank's layers."""
    scoring = [one for one in ROSTER if isinstance(one, Rescoring)]
    own = [spec for one in scoring for spec in one.specs]
    theirs = [spec for one in scoring if one.is_for_siblings for spec in sibling_specs(one.specs)]
    return (*own, *SIBLINGS.specs, *theirs)


def requested(copies: Mapping[str, int | None]) -> dict[Family, int]:
    """List the families that make copies, and how many each; None is a family's own number."""
    wanted = {
        one: one.default if copies[one.name] is None else copies[one.name]
        for one in ROSTER
        if one.name in copies
    }
    return {one: n for one, n in wanted.items() if n}


def ghost_counts(copies: Mapping[str, int | None]) -> tuple[int, int]:
    """Say how many wordings, and how many names of each kind of swap, ghosts are looked for in."""
    counts = {one.name: n for one, n in requested(copies).items()}
    return counts.get("paraphrase", 0), counts.get("ghosts", 0)
