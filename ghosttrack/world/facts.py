"""The generated world: who there is, what is true of them, and how often the text says so."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import read_json
from ghosttrack.world.relations import KINDS, NAME_ENDINGS, POOLS, RELATIONS, Relation

FOLDER: Final = Path(__file__).parent / "weights"
"""The embedded model, made by `python -m ghosttrack.world`."""
WORLD_FILE: Final = "world.json"
TIERS: Final = ("head", "mid", "rare", "unseen")
GAP: Final = "gap"
"""Tier of facts that the text never states of an entity that it names."""
TWO_WORD_EVERY: Final = 6
"""Every so many first words of a pool begin two answers of two words; the others are an answer."""
ONSETS: Final = "b br d dr f fl g gr h j k kl l m n p pr r s st t tr v z"
VOWELS: Final = "a e i o u ai ei"
MIDDLES: Final = "l ld m n nd r rk s st t v z"
"""A coined word is an onset, a vowel, a middle and an ending."""
MAX_VALUES: Final = 5000
"""Of some 10,000 words that a pool's endings allow, so that free ones are found at once."""


@dataclass(frozen=True)
class WorldSpec:
    """Everything that the facts, the text and the questions derive from."""

    seed: int = 0
    head: int = 160
    """Entities whose facts the text states `head_exposure` times each; so on for the others."""
    mid: int = 340
    rare: int = 950
    unseen: int = 950
    """Entities that the text never names, though it names every part of their names."""
    head_exposure: int = 60
    mid_exposure: int = 35
    rare_exposure_min: int = 2
    rare_exposure_max: int = 8
    """A rare entity's fact is stated between the two, each number equally likely."""
    n_values: int = 80
    """Answers per pool."""
    zipf: float = 0.3
    """Exponent of the answers' frequencies: 0 makes all equally common."""
    gap_frac: float = 0.08
    """Share of the facts about known entities that the text never states."""

    def __post_init__(self) -> None:
        for tier in TIERS:
            if getattr(self, tier) < 0:
                raise ConfigError(f"{tier} must be at least 0 entities, got {getattr(self, tier)}")
        if self.head + self.mid + self.rare < 1:
            raise ConfigError("head + mid + rare must be at least 1 entity: somebody must be known")
        if not TWO_WORD_EVERY <= self.n_values <= MAX_VALUES:
            raise ConfigError(
                f"n_values must be in {TWO_WORD_EVERY}..{MAX_VALUES}, got {self.n_values}"
            )
        if not 1 <= self.rare_exposure_min <= self.rare_exposure_max:
            raise ConfigError(
                "rare_exposure_min must be in 1..rare_exposure_max="
                f"{self.rare_exposure_max}, got {self.rare_exposure_min}"
            )
        if not 0 <= self.gap_frac < 1:
            raise ConfigError(f"gap_frac must be in [0, 1), got {self.gap_frac}")

    @property
    def n_parts(self) -> int:
        """First name parts, and second ones, per kind: about half of their pairs name somebody."""
        n_most = -(-sum(self.n_entities(tier) for tier in TIERS) // len(KINDS))
        return 2 * math.ceil((n_most / 2) ** 0.5)

    def n_entities(self, tier: str) -> int:
        """Number of entities of a tier."""
        return getattr(self, tier)

    def to_json(self) -> dict[str, int | float]:
        """Plain fields, for `world.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "WorldSpec":
        """Read what `to_json` gave.

        Raises:
            ConfigError: a field is missing, unknown or not a number.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            raise ConfigError(f"spec must have exactly the fields {', '.join(sorted(names))}")
        for name, number in value.items():
            if not isinstance(number, int | float):
                raise ConfigError(f"spec.{name} must be a number, got {json.dumps(number)}")
        return cls(**value)


@dataclass(frozen=True)
class Recipe:
    """Sizes of the model and settings of its training."""

    n_layers: int = 6
    d_model: int = 128
    n_heads: int = 4
    n_ctx: int = 32
    batch_tokens: int = 512
    """Tokens per step; the documents of a step have one length, so that none is padded."""
    muon_lr: float = 0.02
    """Learning rate of the blocks' weight matrices."""
    adam_lr: float = 0.015
    """Learning rate of everything else."""
    warmup_frac: float = 0.03
    """Share of the steps over which the learning rates rise; then they fall to 0 in a line."""
    name_weight: float = 0.1
    """Weight of name parts in the loss: nothing can predict them, and they are not the lesson."""

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ConfigError(f"d_model must be a multiple of {self.n_heads}, got {self.d_model}")

    def to_json(self) -> dict[str, int | float]:
        """Plain fields, for `world.json`."""
        return asdict(self)


def load_spec(folder: Path) -> WorldSpec:
    """Read which world a model was trained on.

    Raises:
        DataError: the folder is not that of a world's model, or its `world.json` is broken or
            was left behind by a rebuild that did not end.
    """
    path = folder / WORLD_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {WORLD_FILE}: corpus=ghostworld and questions=ghostworld need a "
            "model made by `python -m ghosttrack.world`; for others set corpus=text questions=file"
        )
    facts = read_json(path)
    if not isinstance(facts, dict) or not facts.get("measured"):
        raise DataError(f"{path} is unfinished; run `python -m ghosttrack.world` for it again")
    try:
        return WorldSpec.from_json(facts.get("spec"))
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


class Entity(NamedTuple):
    """A person, city or company."""

    kind: str
    name: str
    """Two name parts, with capitals."""
    tier: str

    @property
    def group(self) -> str:
        """Of the questions about it."""
        return f"{self.kind}/{self.name}"


class Fact(NamedTuple):
    """What is true of an entity, stated or not."""

    entity: Entity
    relation: Relation
    answer: str
    exposure: int
    """Sentences of the text that state it."""

    @property
    def status(self) -> str:
        """Whether the text can have taught it: `known`, `unknown_attribute` or `unknown_entity`."""
        if self.entity.tier == "unseen":
            return "unknown_entity"
        return "known" if self.exposure else "unknown_attribute"

    @property
    def tier(self) -> str:
        """How often the text stated it: its entity's tier, or `gap` where it passes over it."""
        return GAP if self.status == "unknown_attribute" else self.entity.tier


class World(NamedTuple):
    """Every entity and every fact, in a fixed order."""

    entities: tuple[Entity, ...]
    facts: tuple[Fact, ...]
    name_parts: tuple[str, ...]
    """Every word of a name, lower case."""
    answers: tuple[str, ...]
    """Every answer that a pool holds."""


def rng_of(spec: WorldSpec, purpose: str) -> Random:
    """Seed a generator for one purpose, so that one part's change leaves the others be."""
    return Random(f"ghostworld/{spec.seed}/{purpose}")


@lru_cache(maxsize=4)
def build(spec: WorldSpec) -> World:
    """Make the world of a spec."""
    coined: set[str] = set()
    pools = {
        name: _pool(name, _coin(rng_of(spec, name), _n_first(spec), pool.endings, coined))
        for name, pool in POOLS.items()
    }
    parts: dict[str, tuple[list[str], list[str]]] = {}
    for kind, endings in NAME_ENDINGS.items():
        rng = rng_of(spec, f"names/{kind}")
        first, second = (_coin(rng, spec.n_parts, ending, coined) for ending in endings)
        parts[kind] = (first, second)
    entities = tuple(_entities(spec, parts))
    return World(
        entities=entities,
        facts=tuple(_facts(spec, entities, pools)),
        name_parts=tuple(itertools.chain(*itertools.chain(*parts.values()))),
        answers=tuple(itertools.chain(*itertools.chain(*pools.values()))),
    )


def _coin(rng: Random, num: int, endings: tuple[str, ...], coined: set[str]) -> list[str]:
    """Make up words that no list holds yet, and add them to `coined`."""
    syllable = tuple(letters.split() for letters in (ONSETS, VOWELS, MIDDLES))
    words: list[str] = []
    while len(words) < num:
        word = "".join(map(rng.choice, (*syllable, endings)))
        if word not in coined:
            coined.add(word)
            words.append(word)
    return words


def _n_first(spec: WorldSpec) -> int:
    """First words that make `n_values` answers, where every sixth makes two."""
    return spec.n_values - spec.n_values // (TWO_WORD_EVERY + 1)


def _pool(name: str, firsts: list[str]) -> list[tuple[str, ...]]:
    """Answers of a pool, those that begin with the same word together."""
    answers: list[tuple[str, ...]] = []
    for index, first in enumerate(firsts):
        word = first.capitalize() if POOLS[name].is_proper else first
        is_two = index % TWO_WORD_EVERY == TWO_WORD_EVERY - 1
        seconds = POOLS[name].seconds
        answers.append(tuple(f"{word} {second}" for second in seconds) if is_two else (word,))
    return answers


def _entities(spec: WorldSpec, parts: dict[str, tuple[list[str], list[str]]]) -> Iterator[Entity]:
    """Name the entities of every tier, kinds in turn.

    Within a kind each part names as many entities as the next one, give or take one; which of
    them are frequent is drawn at random. (Equal numbers in every tier would tell: a part with
    more known entities in the training folds has fewer in the test fold, and a classifier of
    names falls below 0.5.)
    """
    tiers = [tier for tier in TIERS for _ in range(spec.n_entities(tier))]
    by_kind = {kind: tiers[index :: len(KINDS)] for index, kind in enumerate(KINDS)}
    for kind, kind_tiers in by_kind.items():
        rng = rng_of(spec, f"entities/{kind}")
        first, second = parts[kind]
        shifts = rng.sample(range(spec.n_parts), -(-len(kind_tiers) // spec.n_parts))
        pairs = [(i, (i + shift) % spec.n_parts) for shift in shifts for i in range(spec.n_parts)]
        pairs = pairs[: len(kind_tiers)]
        rng.shuffle(pairs)
        for tier, (i, j) in zip(kind_tiers, pairs, strict=True):
            yield Entity(kind, f"{first[i]} {second[j]}".title(), tier)


def _facts(
    spec: WorldSpec, entities: tuple[Entity, ...], pools: dict[str, list[tuple[str, ...]]]
) -> Iterator[Fact]:
    """Draw every entity's answers and how often each is stated.

    The frequencies are those of first words: one that begins two answers is as common as one that
    is an answer, so that an answer of two words is no likelier a guess than one of a single word.
    """
    rng = rng_of(spec, "facts")
    ranked = {
        relation.name: rng.sample(pools[relation.pool], _n_first(spec)) for relation in RELATIONS
    }
    weights = [(rank + 1) ** -spec.zipf for rank in range(_n_first(spec))]
    for entity in entities:
        for relation in RELATIONS:
            if relation.kind == entity.kind:
                (answers,) = rng.choices(ranked[relation.name], weights)
                exposure = _exposure(spec, entity.tier, rng)
                yield Fact(entity, relation, rng.choice(answers), exposure)


def _exposure(spec: WorldSpec, tier: str, rng: Random) -> int:
    is_gap = rng.random() < spec.gap_frac
    rare = rng.randint(spec.rare_exposure_min, spec.rare_exposure_max)
    stated = {"head": spec.head_exposure, "mid": spec.mid_exposure, "rare": rare, "unseen": 0}
    return 0 if is_gap else stated[tier]
