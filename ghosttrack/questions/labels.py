"""Right or wrong: compare what the model said with the known answers, word by word."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import NamedTuple

ARTICLES = frozenset({"a", "an", "the"})
LETTER_A = re.compile(r"\ba(?:-\w|\s+(?:minor|major|flat|sharp)\b)", re.IGNORECASE)
"""An "a" that is a letter or a note, and no article."""
NAMED = re.compile(r"\b(?:the|an?)\s+(\w)", re.IGNORECASE)
"""An article and the letter after it, a capital where the article belongs to a name."""
TAIL = re.compile(r"\s*\([^()]*\)\s*$")
OR = re.compile(r"\bor\b")
ASKING = re.compile(r"\b(?:wh(?:at|ich|o|om|ose|en|ere|y)|how|is|was|are|were|can|does|did)\b")
# Letters that no Unicode decomposition takes apart, and signs with several code points.
FOLDS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"}
    | dict.fromkeys("’‘ʼ`´", "'")
    | dict.fromkeys("−‒–", "-")
    | {"&": " and ", "%": " percent "}
)
VOICING = "\u3099\u309a"  # Kana's voicing marks make another letter, as no diacritic does
POSSESSIVE = re.compile(r"(?<!\d)'s\b")  # "1990's" is the decade
INITIALS = re.compile(r"\b[^\W\d_]\.(?:\s?[^\W\d_]\.)+")
# Scripts that write no spaces, or particles without one: every character is a word of its own.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
INDIC = "\u0900-\u0963\u0966-\u0dff"
"""Scripts whose vowels are marks: they belong to the word and are no diacritics."""
WORD = re.compile(
    rf"(?<!\w)-?(?:\d{{1,3}}(?:,\d{{3}})+(?!\w)(?:\.\d+)?|\d+\.\d+|\d+(?!\w))"
    rf"|[{UNSPACED}]|[{INDIC}]+|[^\W_{UNSPACED}{INDIC}]+(?:(?:\+{{1,2}}|#)(?!\w))?"
)
ROMAN = re.compile(r"(?=..)x{0,3}(?:ix|iv|v?i{0,3})")
"""2 to 39 in at least two letters: "I", "V" and "X" are more often something else."""
ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
NUMBERS_APART = re.compile(r"(?<!\d) | (?!\d)")
"""Spaces but those between two digits."""
UNIT_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
UNITS = {word: value for value, word in enumerate(UNIT_WORDS.split())}
TENS = {word: 10 * value for value, word in enumerate(TEN_WORDS.split(), start=2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
ORDINAL_WORDS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
SPELLINGS = {
    word: f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"
    for number, word in enumerate(ORDINAL_WORDS.split(), start=1)
} | {"st": "saint", "mt": "mount"}
"""Words that are written in another way as well."""
ONE_BEFORE = frozenset(["no", "any", "some", "every", "each"])
ONE_AFTER = frozenset({"of", "another"})
"""Beside these words, "one" counts nothing."""
QUIET = frozenset(["us", "who", "it", "is", "in", "or", "am"])
"""Words that an acronym spells, which stands for itself in capitals alone."""


def words(text: str) -> list[str]:
    """Cut a text into words that compare equal where only the way of writing differs.

    Case, diacritics, punctuation and the possessive 's are dropped, initials are joined, numbers
    and Roman numerals are written in digits without leading zeros or separators.

    >>> words("São Paulo's 1,200 cafés, J. R. R. Tolkien & twenty-one others")
    ['sao', 'paulo', '1200', 'cafes', 'jrr', 'tolkien', 'and', '21', 'others']
    >>> words("Mt. Etna in World War II: 3.5 million, the second eruption")
    ['mount', 'etna', 'in', 'world', 'war', '2', '3500000', 'the', '2nd', 'eruption']
    """
    # Quotes are folded first: to NFKD an acute accent is a space. It may bring out capitals.
    folded = unicodedata.normalize("NFKD", text.translate(FOLDS).casefold()).casefold()
    folded = folded.translate(FOLDS)
    marked = (c for c in folded if not unicodedata.combining(c) or _is_letter(c))
    folded = unicodedata.normalize("NFC", "".join(marked))
    folded = POSSESSIVE.sub("", folded).replace("'", "")
    folded = INITIALS.sub(lambda run: re.sub(r"[\s.]", "", run.group()) + " ", folded)
    return _count([_spelt(word) for word in WORD.findall(folded)])


def _is_letter(mark: str) -> bool:
    return mark in VOICING or bool(re.fullmatch(rf"[{INDIC}]", mark))


def _spelt(word: str) -> str:
    """Write a word in the one form that its spellings share, a number that of equal numbers."""
    if ROMAN.fullmatch(word):
        values = [ROMAN_DIGITS[letter] for letter in word]
        pairs = zip(values, [*values[1:], 0], strict=True)
        return str(sum(-value if value < after else value for value, after in pairs))
    if word in SPELLINGS:
        return SPELLINGS[word]
    return _digits(word)


def _digits(word: str) -> str:
    number = word.replace(",", "")
    if not (number.isascii() and NUMBER.fullmatch(number)):
        return word
    whole, _, decimals = number.partition(".")
    decimals = decimals.rstrip("0")
    sign = "-" if whole.startswith("-") else ""
    whole = whole.lstrip("-").lstrip("0") or "0"
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _count(spelt: Sequence[str]) -> list[str]:
    """Replace runs of English number words by their value in digits."""
    counted: list[str] = []
    position = 0
    while position < len(spelt):
        word, length = _scaled_at(spelt, position)
        if not length and not _is_pronoun(spelt, position):
            word, length = _year_at(spelt, position)
        counted.append(word if length else spelt[position])
        position += max(length, 1)
    return counted


def _is_pronoun(spelt: Sequence[str], position: int) -> bool:
    """Tell whether a word is a "one" that counts nothing."""
    before, after = spelt[max(position - 1, 0)], spelt[min(position + 1, len(spelt) - 1)]
    return spelt[position] == "one" and (before in ONE_BEFORE or after in ONE_AFTER)


def _scaled_at(spelt: Sequence[str], start: int) -> tuple[str, int]:
    """Read digits with words of scale after them, as in "3.5 million"; see `_number_at`."""
    if not NUMBER.fullmatch(spelt[start]):
        return "", 0
    value, position = Decimal(spelt[start]), start + 1
    while position < len(spelt) and spelt[position] in SCALES:
        value *= SCALES[spelt[position]]
        position += 1
    return _digits(str(value)), position - start


def _year_at(spelt: Sequence[str], start: int) -> tuple[str, int]:
    """Read a number in words, or a year as in "nineteen eighty-four"; see `_number_at`."""
    value, length = _number_at(spelt, start)
    if 10 <= value <= 20:
        rest, n_words = _number_at(spelt, start + length)
        if 20 <= rest <= 99:
            return str(100 * value + rest), length + n_words
    return str(value), length


def _number_at(spelt: Sequence[str], start: int) -> tuple[int, int]:
    """Read a number in words from `start`: its value and how many words it takes (0 = none).

    A run ends where the next word cannot continue the number: "two three" is two numbers, "two
    hundred three" is one.
    """
    total, group, room, position = 0, 0, SCALES["billion"], start
    free = 100  # the next word must be worth less than this within its group
    while position < len(spelt):
        word = spelt[position]
        value = UNITS.get(word, TENS.get(word))
        if value is not None and value < free:
            group += value
            free = 10 if word in TENS else 1
        elif word == "hundred" and 0 < group < 10:
            group *= 100
            free = 100
        elif SCALES.get(word, 0) >= 1000 and group and SCALES[word] <= room:
            total += group * SCALES[word]
            group, free, room = 0, 100, SCALES[word] // 1000
        else:
            break
        position += 1
    return total + group, position - start


class _Slot(NamedTuple):
    """A word with the article that stands before it, if any."""

    article: str
    word: str


def _plain(text: Sequence[str]) -> list[_Slot]:
    return [_Slot("", word) for word in text]


def _slots(text: Sequence[str], articles: frozenset[str] = ARTICLES) -> list[_Slot]:
    """Set articles beside the word after them; a last word is none ("vitamin A")."""
    slots, before = [], ""
    for at, word in enumerate(text, start=1):
        if word in articles and at < len(text):
            before = word.removesuffix("n")
        else:
            slots.append(_Slot(before, word))
            before = ""
    return slots


def _holds(text: Sequence[_Slot], phrase: Sequence[_Slot], *, exact: bool = False) -> bool:
    """Tell whether the words of the phrase stand in the text, in order and side by side.

    Where a word ends is nothing: "spider man" is "Spiderman", "J K" is "JK"; but two numbers side
    by side are two. An article that only one of the two has is nothing either, another one is.
    """
    wanted = _glued(phrase)
    if exact:
        return _glued(text) == wanted and _agree(text, phrase)
    longest = len(wanted)
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            found = _glued(text[start:end])
            if found == wanted and _agree(text[start:end], phrase):
                return True
            if len(found) > longest:
                break
    return False


def _glued(text: Sequence[_Slot]) -> str:
    return NUMBERS_APART.sub("", " ".join(slot.word for slot in text))


def _agree(some: Sequence[_Slot], others: Sequence[_Slot]) -> bool:
    ours, theirs = _articles(some), _articles(others)
    return all(theirs.get(at, article) == article for at, article in ours.items())


def _articles(text: Sequence[_Slot]) -> dict[int, str]:
    """Find articles by the number of letters that stand before them."""
    letters = accumulate((len(slot.word) for slot in text), initial=0)
    return {at: slot.article for at, slot in zip(letters, text, strict=False) if slot.article}


def is_match(
    answer: str, references: Sequence[str], question: str = "", *, exact: bool = False
) -> bool:
    """Tell whether an answer names one of the references, by more than the question's own words.

    Whole words count, so "it" is not in "Titian" nor "10" in "100". An article may be missing
    ("Beatles" is "The Beatles"), but a name's is no other ("a band" is not "The Band"). What a
    reference has in brackets at its end may be missing, too ("Rain Man (1988)"). An acronym that
    spells a common word ("US", "WHO") must stand in capitals, or alone. An empty answer matches
    nothing. What an answer says *about* the reference is not understood: "not Paris" names Paris.

    Args:
        answer: What was said.
        references: Right answer and aliases, any of which will do.
        question: What was asked; an alias that stands in it proves nothing, unless the question
            leaves the choice ("Poland, Austria or Switzerland?").
        exact: The answer must be the reference and nothing besides.
    """
    said = words(answer)
    return any(
        _is_named(answer, said, reference, exact=exact)
        and not (question and _is_echo(answer, reference, question))
        for reference in dict.fromkeys(form for one in references for form in _forms(one))
    )


def _is_named(answer: str, said: Sequence[str], reference: str, *, exact: bool) -> bool:
    known = words(reference)
    if not known:
        return bool(answer.strip()) and answer.strip() == reference.strip()
    alone = exact or not _is_heard(answer, reference)
    views = _views(said, known, reference)
    return any(_holds(text, phrase, exact=alone) for text, phrase in views)


def _forms(reference: str) -> Iterator[str]:
    """Give a reference, and what is left of it without brackets at its end."""
    yield reference
    bare = TAIL.sub("", reference)
    if not ARTICLES.issuperset(words(bare)):
        yield bare


def _views(
    said: Sequence[str], known: Sequence[str], reference: str
) -> Iterator[tuple[list[_Slot], list[_Slot]]]:
    """Set the words of both side by side: all of them, and with articles that may be missing."""
    yield _plain(said), _plain(known)
    articles = ARTICLES - {"a"} if LETTER_A.search(reference) else ARTICLES
    text, phrase = _slots(said, articles), _slots(known, articles)
    if not any(initial.isupper() for initial in NAMED.findall(reference)):
        phrase = _plain([slot.word for slot in phrase])
    yield text, phrase


def _is_echo(answer: str, reference: str, question: str) -> bool:
    """Tell whether a reference that the answer names proves nothing, as the question holds it.

    Only as a name, with its article and capitals, does "The Band" answer which band it was.
    """
    if not stands_in(question, reference) or is_offered(question, reference):
        return False
    _, _, name = reference.partition(" ")
    ignored = re.IGNORECASE if question == question.casefold() else re.NOFLAG
    is_told = NAMED.match(reference) and _quotes(answer, reference)
    return not is_told or _quotes(question[1:], name, ignored)  # any question's first is a capital


def _quotes(text: str, phrase: str, ignored: re.RegexFlag = re.NOFLAG) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, ignored) is not None


def stands_in(text: str, phrase: str) -> bool:
    """Tell whether the words of a phrase stand side by side in a text, articles aside."""
    return _holds(_bare(text), _bare(phrase))


def _bare(text: str) -> list[_Slot]:
    return _plain([slot.word for slot in _slots(words(text))])


def is_offered(question: str, phrase: str) -> bool:
    """Tell whether the phrase is one of the answers that a question leaves the choice of.

    >>> is_offered("Which is larger, Mars or the Moon?", "the Moon")
    True
    >>> is_offered("By what name is daltonism, or deuteranopia, known?", "deuteranopia")
    False
    """
    *firsts, last = OR.split(question.casefold())
    if not firsts or ASKING.search(last):
        return False
    wanted = " " + _glued(_bare(phrase))
    parts = [*re.split(r"[,;:?]", " or ".join(firsts)), last]
    return any(f" {_glued(_bare(part))}".endswith(wanted) for part in parts)


def _is_heard(answer: str, reference: str) -> bool:
    """Tell whether an acronym stands in capitals as it must; other references always do."""
    letters = re.sub(r"^the |\W", "", reference, flags=re.IGNORECASE)
    if not letters.isupper() or letters.casefold() not in QUIET:
        return True
    spelt = r"\W?".join(letters)
    return re.search(rf"(?<!\w){spelt}(?!\w)", answer) is not None
