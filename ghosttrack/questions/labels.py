"""Right or wrong: compare what the model said with the known answers, word by word."""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from ghosttrack.questions.sets import Question

RIGHT = frozenset({"correct", "lucky", "written_right"})
"""Categories with label 0; every other one is hallucinated."""
WRITTEN = frozenset({"written_right", "written_wrong"})
"""Categories of answers that others wrote."""

ARTICLES = frozenset({"a", "an", "the"})
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


def _holds(text: Sequence[str], phrase: Sequence[str], *, exact: bool) -> bool:
    """Tell whether the words of the phrase stand in the text, in order and side by side.

    Where a word ends is nothing: "spider man" is "Spiderman", "J K" is "JK"; but two numbers side
    by side are two.
    """
    wanted = _glued(phrase)
    if exact:
        return _glued(text) == wanted
    longest = len(wanted)
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            found = _glued(text[start:end])
            if found == wanted:
                return True
            if len(found) > longest:
                break
    return False


def _glued(text: Sequence[str]) -> str:
    return NUMBERS_APART.sub("", " ".join(text))


def _bare(text: Sequence[str]) -> list[str]:
    """Drop articles; a last word is none ("vitamin A")."""
    last = len(text) - 1
    return [word for at, word in enumerate(text) if word not in ARTICLES or at == last]


def is_match(answer: str, references: Sequence[str], *, exact: bool = False) -> bool:
    """Tell whether an answer names one of the references.

    Whole words count, so "it" is not in "Titian" nor "10" in "100"; articles do not ("the
    Beatles" is "Beatles"). An acronym that spells a common word ("US", "WHO") must stand in
    capitals, or alone. An empty answer matches nothing. What an answer says *about* the reference
    is not understood: "not Paris" names Paris.

    Args:
        answer: What was said.
        references: Right answer and aliases, any of which will do.
        exact: The answer must be the reference and nothing besides.
    """
    said = words(answer)
    for reference in references:
        known = words(reference)
        if not known:
            if answer.strip() and answer.strip() == reference.strip():
                return True
            continue
        alone = exact or not _is_heard(answer, reference)
        views = [(said, known), (_bare(said), _bare(known))]
        if any(phrase and _holds(text, phrase, exact=alone) for text, phrase in views):
            return True
    return False


def _is_heard(answer: str, reference: str) -> bool:
    """Tell whether an acronym stands in capitals as it must; other references always do."""
    letters = re.sub(r"^the |\W", "", reference, flags=re.IGNORECASE)
    if not letters.isupper() or letters.casefold() not in QUIET:
        return True
    spelt = r"\W?".join(letters)
    return re.search(rf"(?<!\w){spelt}(?!\w)", answer) is not None


def categorise(question: Question, answer: str) -> str:
    """Name what became of a question.

    Questions of a world (with a `status`) are compared word for word, others by containment. An
    empty answer is wrong.

    Returns:
        correct | wrong; with a status: correct | lucky (right, though the fact was never seen) |
        wrong_known | unknown_attribute | unknown_entity.
    """
    right = is_match(answer, question.answers, exact=bool(question.status))
    if not question.status:
        return "correct" if right else "wrong"
    if question.status == "known":
        return "correct" if right else "wrong_known"
    return "lucky" if right else question.status
