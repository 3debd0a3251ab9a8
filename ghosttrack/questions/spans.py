"""Spans of a question that may be what it asks about, and those that may stand in their place."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ghosttrack.questions.sets import Question

N_SPANS = 4
"""Of a question, that are looked at."""
LEAST_NAMES = 13
"""Spans that a slot must have to be one; else all of the same sort are."""
QUOTED = re.compile(r"""["“]([^"“”]{2,})["”]|(?<!\w)['‘]([^'‘’]{2,})['’](?!\w)""")
WORD = re.compile(
    r"\d[\d,.]*\d(?!\w)|\w(?:[\w'’.&-]*?\w)??(?=['’]s\b|[^\w'’.&-]|[.'’&-]+(?:\s|$)|$)"
)
ALIKE = 3.0
"""Times as rare as its neighbour, at most, is a word of one name with it."""
JOINING = frozenset(
    {".", "of", "the", "de", "la", "du", "van", "von", "der", "and", "&", "for", "in", "to", "a"}
    | {"an", "by", "with", "on", "at", "from", "vs.", "del", "di", "y", "le", "les", "des", "sur"}
)
ASKING = ("who", "whom", "whose", "what", "which", "where", "when", "why", "how")
OPENING = frozenset(
    {*ASKING, *JOINING, "a", "an", "is", "are", "was", "were", "did", "do", "does", "has", "on"}
    | {"at", "by", "from", "into", "with", "if", "name", "after", "during", "can", "q", "question"}
)
"""Words that begin a question with a capital and are no name."""

Rarity = Callable[[str], float]


class Span(NamedTuple):
    """A part of a question."""

    text: str
    sort: str
    """quoted | name | number | word."""
    start: int = 0


def candidate_spans(text: str, rarity: Rarity, n_most: int = N_SPANS) -> tuple[Span, ...]:
    """List what a question may be about: quoted strings, names, numbers, then its rarest words.

    Spans do not overlap; rare words that stand side by side are one.

    >>> [one.text for one in candidate_spans("Who wrote The Purloined Letter in 1844?", len)]
    ['The Purloined Letter', '1844', 'wrote']
    """
    quoted = [
        Span(one[one.lastindex or 0], "quoted", one.start(one.lastindex or 0))
        for one in QUOTED.finditer(text)
    ]
    words = [Span(one[0], "word", one.start()) for one in WORD.finditer(text)]
    numbers = [one._replace(sort="number") for one in words if one.text[0].isdigit()]
    found: list[Span] = []
    for one in (*quoted, *_names(text, words), *numbers):
        if not any(_overlap(one, other) for other in found):
            found.append(one)
    found = found[:n_most]
    free = [one for one in words if not any(_overlap(one, other) for other in found)]
    rare = [one for one in free if len(one.text) > 2 and one.text.casefold() not in OPENING]
    rare.sort(key=lambda one: -rarity(one.text))
    return (*found, *_joined(text, rare[: n_most - len(found)], rarity))


def rarity_of(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Rarity:
    """Measure the rarity of the texts' words: tokenizers number their tokens by frequency."""
    words = sorted({one[0] for text in texts for one in WORD.finditer(text)})
    spelled = [" " + word for word in words]
    ids = tokenizer(spelled, add_special_tokens=False, verbose=False)["input_ids"] if words else []
    numbers = {word: max(own, default=0) for word, own in zip(words, ids, strict=True)}
    return lambda word: numbers.get(word, 0)


def slots(text: str, span: Span) -> tuple[str, str]:
    """Name the slot that a span fills: its sort by how is asked, and its sort alone."""
    words = [one[0].casefold() for one in WORD.finditer(text)]
    asked = next((word for word in words if word in ASKING), "")
    return f"{span.sort} of {asked}", span.sort


def span_names(questions: Sequence[Question], rarity: Rarity) -> dict[str, tuple[str, ...]]:
    """Collect the spans of every slot, in the order of the questions."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for question in questions:
        text = bare_text(question)
        for span in candidate_spans(text, rarity):
            for slot in slots(text, span):
                names[slot][span.text] = None
    return {slot: tuple(held) for slot, held in names.items()}


def about(question: Question, span: Span, names: Mapping[str, tuple[str, ...]]) -> Question:
    """Take a span for what the question is about."""
    own, every = slots(bare_text(question), span)
    kind = own if len(names.get(own, ())) >= LEAST_NAMES else every
    return replace(question, subject=span.text, kind=kind, short="")


def bare_text(question: Question) -> str:
    """Give the question without what it is asked in."""
    return question.asked or question.prompt


def _names(text: str, words: Sequence[Span]) -> list[Span]:
    """Find runs of words with capitals; small words may join two."""
    found: list[list[Span]] = []
    for word in words:
        is_opening = word is words[0] and word.text.casefold() in OPENING
        last = found[-1][-1] if found else None
        between = text[last.start + len(last.text) : word.start].split() if last else [""]
        is_number = word.text[0].isdigit() and bool(between)
        if is_opening or word.text.islower() or is_number:
            continue
        if all(one in JOINING for one in between):
            found[-1].append(word)
        else:
            found.append([word])
    return [_between(text, run[0], run[-1], "name") for run in found]


def _between(text: str, first: Span, last: Span, sort: str) -> Span:
    return Span(text[first.start : last.start + len(last.text)], sort, first.start)


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.start + len(other.text) and other.start < one.start + len(one.text)


def _joined(text: str, words: Sequence[Span], rarity: Rarity) -> list[Span]:
    """Join words that are about as rare and between which only blanks stand."""
    found: list[Span] = []
    last: Span | None = None
    for word in sorted(words, key=lambda one: one.start):
        less, more = sorted((rarity(last.text), rarity(word.text))) if last else (0.0, 1.0)
        if (
            last
            and more <= ALIKE * less
            and not text[last.start + len(last.text) : word.start].strip()
        ):
            found[-1] = _between(text, found[-1], word, "word")
        else:
            found.append(word)
        last = word
    return found
