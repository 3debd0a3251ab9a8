"""Which detectors an evaluation compares, and what each of them may see."""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ghosttrack.detector.asking.families.owner import N_NEAR
from ghosttrack.detector.asking.roster import RESCORED
from ghosttrack.detector.config import Null
from ghosttrack.detector.learners.token_risk import STREAMING
from ghosttrack.errors import ConfigError
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.streaming import EARLY, n_tokens

NULL = "null:"
MADE_NOT = "this data makes no such detector"
OF_TRACKS = "tracks:"
"""Before the name of a family of the statistics of tracks."""
PROBE, LATENTS, SUBJECT = "probe", "raw_latents", "subject_known"
STACKABLE = (PROBE, LATENTS)
FAMILIES = RESCORED
"""Tables of the black-box interventions."""
EVERYTHING = ("output", "lens", "tracks", "subject", *FAMILIES, "ghosts")
OPEN = ("all", "interventions+output")
"""Detectors that do with those of their tables that are there."""
DISTANCES = {"mahalanobis": False, "relative_mahalanobis": True}
"""Whether the distance is taken relative to that of any answer."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "tracks": ("tracks",),
    "full": ("output", *FAMILIES, "ghosts"),
    "interventions+output": ("output", *FAMILIES),
    "ghosts": ("ghosts",),
    "ghosts+output": ("ghosts", "output"),
    "owner+output": ("owner", "output"),
    "sampling+output": ("sampling", "output"),
    "tracks+output": ("tracks", "output"),
    "lens+output": ("lens", "output"),
    "lens": ("lens",),
    "lens_trajectory": ("lens_trajectory",),
    "pmi+output": ("prior", "output"),
    "pmi": ("prior",),
    "p_true+output": ("p_true", "output"),
    "p_true": ("p_true",),
    "output": ("output",),
    "owner": ("owner",),
    "sampling": ("sampling",),
    "exposure_oracle": ("exposure", "output"),
}
"""Detectors that classify by columns of tables alone; slow ones first, for the worker queue."""


class Preset(NamedTuple):
    """A detector of some columns, and what they take."""

    columns: Mapping[str, tuple[str, ...]]
    """By table; no name takes all of its columns."""
    passes: Mapping[str, float]
    """By table, where the columns need fewer than the table does."""


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        {
            "output": (),
            "paraphrase": ("paraphrase_first",),
            "owner": ("owner_near_rank", "owner_near_gap", "owner_near_z", "owner_near_pmi"),
        },
        {"paraphrase": 1.0, "owner": 1.0 + N_NEAR},
    ),
    "few": Preset(
        {
            "output": ("min_logprob",),
            "paraphrase": ("paraphrase_logmean",),
            "swap": ("swap_first_logmean", "swap_rest_logmean", "swap_whole_logmean"),
            "owner": ("owner_rank", "owner_gap"),
            "siblings": (
                "sibling_lp",
                "sibling_paraphrase_logmean",
                "sibling_swap_first_drop",
                "sibling_swap_whole_drop",
                "sibling_owner_gap",
            ),
        },
        {},
    ),
}
"""Few numbers that say most, by gradient boosting."""

UNTRAINED: Mapping[str, tuple[str, str, int]] = {"owner_gap": ("owner", "owner_gap", -1)}
"""One column as it is, with the sign that was expected: table, column, direction."""

STACKED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "all": (EVERYTHING, STACKABLE),
    "tracks+output+probe+raw_latents": (("tracks", "output"), STACKABLE),
    "output+probe+raw_latents": (("output",), STACKABLE),
    "subject+output": (("subject", "output"), (SUBJECT,)),
    "probe+output": (("output",), (PROBE,)),
    "raw_latents+output": (("output",), (LATENTS,)),
}
"""Detectors that also see other detectors' inner out-of-fold scores: tables, then detectors."""

IDENTITY = "control:answer_identity"
SURFACE = "control:surface"
ALONE: Mapping[str, tuple[tuple[str, ...], float]] = {
    "output_best": (("output",), 1.0),
    "label_free": (("tracks",), 1.0),
    "control:question_tfidf": ((), 0.0),
    "control:relation": ((), 0.0),
    "control:answer_tfidf": ((), 1.0),
    IDENTITY: ((), 1.0),
    SURFACE: ((), 1.0),
}
"""Detectors with a learner of their own: tables and forward passes."""
LIGHT = ("probe+output", "raw_latents+output", "subject+output", "pmi", "p_true", SURFACE)
"""Detectors of few columns that do without a forest, the slowest classifier."""
HEADLINE = ("tracks+output+probe+raw_latents", "output+probe+raw_latents")
DECISIVE_NULL = ("tracks", "null:shuffled")


NEEDS = {
    "output": "token probabilities",
    "owner": "owner test",
    "subject": "subject in its prompts",
    "sampling": "sampled answers",
    "prior": "probability of the answer without its question",
    "p_true": "p(True), as asking.p_true is null: a model that cannot be asked",
}
"""What a table is made from, where its name does not say it."""


class Spec(NamedTuple):
    """One detector, before it meets a fold."""

    name: str
    tables: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ()
    forwards: float = 1.0
    columns: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Table to the columns that are looked at; without an entry, or with an empty one, all."""


def check_names(names: Sequence[str] | None) -> None:
    """Make sure that there are detectors of these names.

    Raises:
        ConfigError: There is none of a name.
    """
    known = (
        *(PROBE, LATENTS, SUBJECT, STREAMING, *(f"{STREAMING}:{n}" for n in EARLY)),
        *(f"{family}+output" for family in FAMILIES),
        *(NULL + null.name for null in Null),
        *(*DISTANCES, *COLUMNS, *PRESETS, *UNTRAINED, *ALONE, *STACKED),
    )
    for name in names or ():
        if name not in known and not name.startswith(OF_TRACKS):
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"evaluation.compare: no detector {name}"
                + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}")
            )


class Plan(NamedTuple):
    """What will be compared, and what cannot be."""

    specs: tuple[Spec, ...]
    left_out: dict[str, str]


def plan(data: EvaluationData, names: Sequence[str] | None = None) -> Plan:
    """List the detectors that the data can feed; the others are left out with the reason.

    Args:
        data: What there is.
        names: Those that are wanted, with those that they build on; None takes all.
    """
    wanted = _wanted(data) if names is None else _named(data, names)
    there = {spec.name for spec in wanted}
    specs, left_out = [], {name: MADE_NOT for name in names or () if name not in there}
    for spec in wanted:
        reason = _obstacle(spec, data)
        if reason:
            left_out[spec.name] = reason
        else:
            passes = spec.forwards + sum(_passes(spec.name, table, data) for table in spec.tables)
            specs.append(spec._replace(forwards=float(passes)))
    return Plan(tuple(specs), left_out)


def _wanted(data: EvaluationData) -> list[Spec]:
    wanted = [Spec(PROBE), Spec(LATENTS), Spec(SUBJECT), *map(Spec, DISTANCES)]
    followed = 1.0 + data.forwards.get("tracks", 0.0)
    wanted += [Spec(name, forwards=followed) for name in n_tokens(data)]
    wanted += [Spec(name, _held(name, tables, data)) for name, tables in COLUMNS.items()]
    wanted += [Spec(name, (name,)) for name in data.tables if name.startswith(NULL)]
    wanted += [
        Spec(name, tuple(preset.columns), columns=preset.columns)
        for name, preset in PRESETS.items()
    ]
    wanted += [
        Spec(name, (table,), columns={table: (column,)})
        for name, (table, column, _) in UNTRAINED.items()
    ]
    wanted += [Spec(name, tables, forwards=passes) for name, (tables, passes) in ALONE.items()]
    for name, (tables, stacked) in STACKED.items():
        wanted.append(Spec(name, _held(name, tables, data), stacked))
    return wanted


def _named(data: EvaluationData, names: Sequence[str]) -> list[Spec]:
    """Keep the detectors of these names, their parts, and `tracks`, whose classifier nulls get."""
    specs = {spec.name: spec for spec in (*_by_family(data), *_wanted(data))}
    parts = {part for name in names for part in STACKED.get(name, ((), ()))[1]}
    reference = {"tracks"} if any(name.startswith(NULL) for name in names) else set()
    kept = {*names, *parts, *reference}
    return [spec for name, spec in specs.items() if name in kept]


def _by_family(data: EvaluationData) -> list[Spec]:
    """List what a family of statistics tells by itself beside output scores."""
    specs = [Spec(f"{name}+output", (name, "output")) for name in FAMILIES]
    held = data.tables["tracks"].names if "tracks" in data.tables else ()
    columns: dict[str, tuple[str, ...]] = {}
    for name in held:
        family = data.families.get(name, "")
        columns[family] = (*columns.get(family, ()), name)
    return specs + [
        Spec(f"{OF_TRACKS}{family}+output", ("tracks", "output"), columns={"tracks": mine})
        for family, mine in columns.items()
    ]


def _held(name: str, tables: tuple[str, ...], data: EvaluationData) -> tuple[str, ...]:
    """Name the tables that a detector reads; `interventions` stands for one that is missing.

    The owner test alone is `owner+output`.
    """
    if name not in OPEN:
        return tables
    held = tuple(table for table in tables if table in data.tables)
    has_more = set(held) & (set(FAMILIES) - {"owner"})
    return held if has_more or name == "all" else (*held, "interventions")


def _passes(name: str, table: str, data: EvaluationData) -> float:
    """Count the forward passes that a detector's part of a table takes."""
    passes = data.forwards.get(table, 0.0)
    return min(PRESETS[name].passes.get(table, passes), passes) if name in PRESETS else passes


def pairs(names: Sequence[str], *, written: bool) -> list[tuple[str, str]]:
    """List the differences to report between detectors that are there.

    Args:
        names: Those that are there.
        written: Others wrote the answers: their surface is what has to be beaten.
    """
    wanted = [(name, "output") for name in names if name.endswith("+output")]
    wanted += [(name, "output") for name in (*PRESETS, "full", "all", *UNTRAINED)]
    wanted += [HEADLINE, (STREAMING, "output"), ("tracks+output", "lens+output")]
    wanted += [("tracks", name) for name in names if name.startswith(NULL)]
    wanted += [(name, SURFACE) for name in ("output", PROBE, "all") if written]
    return [(a, b) for a, b in wanted if a in names and b in names]


def _obstacle(spec: Spec, data: EvaluationData) -> str:
    missing = [NEEDS.get(table, table) for table in spec.tables if table not in data.tables]
    missing += [
        column
        for table, columns in spec.columns.items()
        for column in columns
        if table in data.tables and column not in data.tables[table].names
    ]
    needs = (spec.name, *spec.stacked)
    if (PROBE in needs or spec.name in DISTANCES) and not len(data.probes):
        missing.append("residual streams")
    if LATENTS in needs and not len(data.latents):
        missing.append("SAE latents")
    if spec.name in n_tokens(data) and data.tokens is None:
        missing.append("tokens of own answers")
    if SUBJECT in needs and not len(data.subject_latents):
        missing.append("SAE latents at subjects")
    if spec.name == "control:relation" and len(set(data.answers.relations)) < 2:
        missing.append("more than one relation")
    return f"this data holds no {', no '.join(missing)}" if missing else ""
