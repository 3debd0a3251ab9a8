"""What an evaluation is given, and which detectors of the roster it can feed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.family import SUBJECTS
from ghosttrack.detector.learners.classifiers import MOST_TOKENS
from ghosttrack.detector.learners.kernel_ridge import Gram
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.roster import (
    DEFAULT,
    DETECTORS,
    EACH_FAMILY,
    EARLY,
    FAMILIES,
    NULL,
    all_parts,
    built_on,
    null,
    of_family,
    of_track_family,
    settled,
    streaming,
)
from ghosttrack.evaluation.spec import NEEDS, DetectorSpec

T = TypeVar("T")
MADE_NOT = "this data makes no such detector"
OF_BANK = ("tracks", "ghosts", "latents", "subject", "subject_latents", "encoders", "tokens")
"""What detectors read that comes through a bank."""
OF_SUBJECT = {"swap", "owner", "ablate", "noise_subject"}
"""Tables that take knowing what a question is about."""
LEAST_LONGER = 0.05
"""Share of the answers that go on after n tokens, from which on `streaming:<n>` is of use."""


class EvaluationData(NamedTuple):
    """Answers and everything measured on them, all in the answers' order.

    Answers that came ready have only tables.
    """

    answers: Answers
    tables: Mapping[str, Table]
    """At least one of `output`, `sampling`, `lens`, `tracks`, `subject`, `ghosts`, `exposure`,
    `untrained` (the statistics of tracks in a model without training), `untrained_again` (what it
    says when it is asked again; NaN where it was not), `null:<kind>` and the families of
    interventions (`roster.FAMILIES`)."""
    forwards: Mapping[str, float]
    """Forward passes per answer that a table needs beyond the one that gave the answer;
    a table without an entry needs none."""
    probes: Float[np.ndarray, "layer sample d_model"] = np.empty((0, 0, 0))
    """Residual streams at `detector.position`."""
    latents: Sequence[csr_array] = ()
    """SAE activations there, one [sample d_sae] matrix per layer."""
    layers: tuple[int, ...] = ()
    """Block index of each entry of `probes` and `latents`."""
    directions: Mapping[str, int] = MappingProxyType({})
    """Expected direction of the statistics in `tracks`, fixed before any label was seen."""
    families: Mapping[str, str] = MappingProxyType({})
    """Family of each statistic in `tracks`."""
    is_real: bool = False
    """Questions of the world outside: some of their relations are much harder than others, and
    their words tell which is which. Canaries are then judged on pairs of answers of one relation,
    and what they find in names, lengths and order is a signal and no leak."""
    persistence: Mapping[str, Mapping[str, Float[np.ndarray, " sample"]]] = MappingProxyType({})
    """Measures of how long tracks last, each under `tracks` and each `null:<kind>`; NaN where an
    answer has no such track."""
    parts: Mapping[str, Bool[np.ndarray, " sample"]] = MappingProxyType({})
    """Answers to judge by themselves, beside those that every set has."""
    causal: Table | None = None
    """Links tried by ablation, on text and not on answers, as in `detector.causal`."""
    tokens: Table | None = None
    """What was known at each of the first `MOST_TOKENS` tokens of every answer, those of one answer
    after those of the one before."""
    subject_latents: Sequence[csr_array] = ()
    """As `latents`, at the last token of the subject's name."""
    states: Mapping[str, Float[np.ndarray, "layer sample d_model"]] = MappingProxyType({})
    """Residual streams of `layers` by place, as `readings.STATES` names them, and `masked`: at the
    answer's last token, the answer masked."""
    grams: Mapping[str, Gram] = MappingProxyType({})
    """Inner products of `states`, by place, as `ridge.inner_products` makes them."""
    encoders: tuple[np.ndarray, ...] = ()
    """W [layer d_model latent] and b [layer latent]: `probes` W + b are pre-activations."""
    has_bank: bool = True
    """False where the settings ask for none, and so for no tracks."""
    said: Answers | None = None
    """All answers, where some are neither right nor wrong; `answers` are the others."""

    def has(self, name: str) -> bool:
        """Say whether there is a table of this name, or another thing that detectors need."""
        if name == "relations":
            return len(set(self.answers.relations)) > 1
        if name == "tokens":
            return self.tokens is not None
        held = {
            "surface": self.answers.texts,
            "probes": self.probes,
            "states": self.states,
            "latents": self.latents,
            "subject_latents": self.subject_latents,
            "encoders": self.encoders,
            "masked": self.states.get("masked", ()),
        }
        return len(held[name]) > 0 if name in held else name in self.tables

    @property
    def token_answer(self) -> Int[np.ndarray, " token"]:
        """Number of the answer that each row of `tokens` is of."""
        return np.repeat(np.arange(len(self.answers)), n_judged_tokens(self.answers))


def n_judged_tokens(answers: Answers) -> list[int]:
    """Count the first tokens of each answer that are judged one by one."""
    return [min(len(ids), MOST_TOKENS) for ids in answers.token_ids]


@dataclass(frozen=True)
class Available(Generic[T]):
    """What the data can feed, and why not the others."""

    present: tuple[T, ...]
    left_out: dict[str, str]


def available(data: EvaluationData, names: Sequence[str] | None = None) -> Available[DetectorSpec]:
    """List the detectors, with the tables that they read here and the passes that these take.

    Detectors that are wanted by name come with those that they build on; None takes all.
    """
    families, rows = _by_family(data), _rows(data)
    usual = [one.name for one in rows]
    every = [*rows, *(one for one in families if one.name not in usual)]
    if names is not None and EACH_FAMILY in names:
        names = [name for name in names if name != EACH_FAMILY]
        names += [one.name for one in families]
    asked = settled(names, usual="tracks" in data.tables and not data.answers.are_written)
    if asked is None:
        asked = [*usual, *(name for name in names or () if name != DEFAULT)]
    wanted = _named(every, asked)
    there = {one.name for one in wanted}
    specs, left_out = [], {name: MADE_NOT for name in asked if name not in there}
    for one in wanted:
        reason = _obstacle(one, data)
        if reason:
            left_out[one.name] = reason
        else:
            specs.append(_settled(one, data))
    return Available(tuple(specs), left_out)


def _rows(data: EvaluationData) -> tuple[DetectorSpec, ...]:
    """List what is evaluated where nothing is asked for by name."""
    lengths = np.array([len(ids) for ids in data.answers.token_ids])
    early = [n for n in EARLY if np.mean(lengths > n) >= LEAST_LONGER]
    nulls = [name.removeprefix(NULL) for name in data.tables if name.startswith(NULL)]
    return (*DETECTORS, *map(streaming, early), *map(null, nulls))


def _named(specs: Sequence[DetectorSpec], names: Sequence[str]) -> list[DetectorSpec]:
    """Keep the detectors of these names and those that they build on."""
    rows = {one.name: one for one in specs}
    kept = built_on(names, rows)
    return [one for name, one in rows.items() if name in kept]


def _by_family(data: EvaluationData) -> list[DetectorSpec]:
    """List what a family of statistics tells by itself beside output scores."""
    columns: dict[str, tuple[str, ...]] = {}
    for name in data.tables["tracks"].names if "tracks" in data.tables else ():
        if family := data.families.get(name):
            columns[family] = (*columns.get(family, ()), name)
    return [*map(of_family, FAMILIES), *(of_track_family(*one) for one in columns.items())]


def _obstacle(spec: DetectorSpec, data: EvaluationData) -> str:
    """Say what is missing; "" where nothing is."""
    missing = dict.fromkeys(name for one in all_parts(spec) for name in _missing(one, data))
    of_bank = not data.has_bank and any(NEEDS.get(one, one) in missing for one in OF_BANK)
    where = "bank=none:" if of_bank else "this data holds"
    return f"{where} no {', no '.join(missing)}" if missing else ""


def _missing(spec: DetectorSpec, data: EvaluationData) -> list[str]:
    tables = () if spec.is_open else tuple(spec.reads)
    missing = [NEEDS.get(name, name) for name in tables if not data.has(name)]
    if spec.any_of and not any(map(data.has, spec.any_of)):
        missing.append(spec.name.partition("+")[0])
    for table, columns in spec.reads.items():
        held = data.tables[table].names if table in data.tables else columns
        missing += [column for column in columns if column not in held]
    return missing + [NEEDS[need] for need in spec.needs if not data.has(need)]


def _settled(spec: DetectorSpec, data: EvaluationData) -> DetectorSpec:
    """Keep the tables that are there, and count the passes, those of its parts once."""
    passes = dict[str, float]()
    for one in all_parts(spec):
        if not OF_SUBJECT.isdisjoint(one.reads):
            passes[SUBJECTS] = data.forwards.get(SUBJECTS, 0.0)
        for name in filter(data.has, one.reads):
            taken = data.forwards.get("tracks" if name == "tokens" else name, 0.0)
            most = min(one.passes.get(name, taken), taken)
            passes[name] = max(passes.get(name, 0.0), most)
    reads = {name: columns for name, columns in spec.reads.items() if data.has(name)}
    return spec._replace(reads=reads, forwards=float(spec.forwards + sum(passes.values())))
