"""Names that stand in for a subject's, and texts with a place for one."""

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from random import Random

import numpy as np

from ghosttrack.questions.labels import words
from ghosttrack.questions.sets import Question

NAME = "{subject}"


def as_template(text: str, subject: str) -> str:
    """Put `{subject}` wherever the subject stands in a text; "" where it does not."""
    if not subject:
        return ""
    pattern = rf"(?<!\w){re.escape(subject)}(?!\w)"
    template, n_places = re.subn(pattern, lambda _: NAME, text)
    return template if n_places else ""


def statement(question: Question) -> str:
    """Find the shortest text with a place for the subject; "" where the question offers none."""
    if not question.subject:
        return ""
    return (
        question.short if NAME in question.short else as_template(question.prompt, question.subject)
    )


def known(
    names: Mapping[str, tuple[str, ...]], share: float, seed: int
) -> dict[str, tuple[str, ...]]:
    """Draw a share of the names of every kind, at least one; a smaller share is part of a greater.

    Who asks a model from outside does not know everybody whom it knows.
    """
    found = {}
    for kind, pool in names.items():
        drawn = Random(f"{seed}/{kind}").sample(range(len(pool)), len(pool))
        found[kind] = tuple(pool[at] for at in sorted(drawn[: max(1, round(share * len(pool)))]))
    return found


def others(
    question: Question, names: Mapping[str, tuple[str, ...]], n_names: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """Draw different names of the subject's kind, never its own; namesakes come first.

    A shared word counts the more the fewer names hold it; among equals the draw decides.
    """
    pool = names.get(question.kind, ())
    holders = _holders(pool)
    closeness = np.zeros(len(pool))
    for word in _words(question.subject):
        if word in holders:
            closeness[holders[word]] += 1 / len(holders[word])
    drawn = rng.permutation(len(pool))
    nearest = drawn[np.argsort(-closeness[drawn], kind="stable")]
    own = question.subject.casefold()
    rest = (pool[index] for index in nearest if pool[index].casefold() != own)
    return tuple(itertools.islice(rest, n_names))


def parts(subject: str) -> tuple[str, str]:
    """Split a name into its first word and the rest; a name of one word has no rest."""
    first, _, rest = subject.partition(" ")
    return first, rest.strip()


def other_parts(
    question: Question, names: Mapping[str, tuple[str, ...]], n_names: int, rng: np.random.Generator
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw names that differ from the subject's in their first word alone, and in the rest alone.

    None for a name of one word.
    """
    first, rest = parts(question.subject)
    if not rest:
        return (), ()
    firsts, rests = _all_parts(names.get(question.kind, ()))
    other_first = [part for part in firsts if part != first]
    other_rest = [part for part in rests if part != rest]
    drawn = [
        [found[at] for at in rng.permutation(len(found))[:n_names]]
        for found in (other_first, other_rest)
    ]
    return tuple(f"{part} {rest}" for part in drawn[0]), tuple(
        f"{first} {part}" for part in drawn[1]
    )


def strangers(
    question: Question, names: Mapping[str, tuple[str, ...]], n_names: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """Draw names of the subject's kind that share no word with its own."""
    own = _words(question.subject)
    pool = names.get(question.kind, ())
    drawn = (pool[at] for at in rng.permutation(len(pool)))
    rest = (name for name in drawn if not own & _words(name))
    return tuple(itertools.islice(rest, n_names))


@lru_cache(maxsize=2**16)
def _words(name: str) -> frozenset[str]:
    """Words of a name; one stands in for hundreds of others."""
    return frozenset(words(name))


@lru_cache(maxsize=16)
def _holders(pool: tuple[str, ...]) -> dict[str, list[int]]:
    """List for every word the names that hold it; one pool serves thousands of questions."""
    holders: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(pool):
        for word in _words(name):
            holders[word].append(index)
    return dict(holders)


@lru_cache(maxsize=16)
def _all_parts(pool: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """First words and rests of all names, sorted, each once."""
    both = [parts(name) for name in pool]
    return tuple(sorted({first for first, _ in both})), tuple(sorted({r for _, r in both if r}))
