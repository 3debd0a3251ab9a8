"""Right or wrong: compare what the model said with the known answers, word by word."""

import re
import unicodedata
from collections.abc import Sequence

from ghosttrack.data.questions import Question

RIGHT = frozenset({"correct", "lucky"})
"""Categories with label 0; every other one is hallucinated."""

ARTICLES = frozenset({"a", "an", "the"})
# Letters that no Unicode decomposition takes apart, and signs with several code points.
FOLDS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"}
    | dict.fromkeys("’‘ʼ`´", "'")
    | dict.fromkeys("−‒–", "-")
    | {"&": " and ", "%": " percent "}
)
VOICING = "\u3099\u309a"  # Kana's voicing marks make another letter, as no diacritic does
POSSESSIVE = re.compile(r"'s\b")
INITIALS = re.compile(r"\b[^\W\d_]\.(?:\s?[^\W\d_]\.)+")
# Scripts that write no spaces: every character is a word of its own.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(
    rf"(?<!\w)-?(?:\d{{1,3}}(?:,\d{{3}})+(?!\w)(?:\.\d+)?|\d+\.\d+|\d+(?!\w))"
    rf"|[{UNSPACED}]|[^\W_{UNSPACED}]+"
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
UNIT_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
UNITS = {word: value for value, word in enumerate(UNIT_WORDS.split())}
TENS = {word: 10 * value for value, word in enumerate(TEN_WORDS.split(), start=2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}


def words(text: str) -> list[str]:
    """Cut a text into words that compare equal where only the way of writing differs.

    Case, diacritics, punctuation and the possessive 's are dropped, initials are joined, numbers
    are written in digits without leading zeros or separators.

    >>> words("São Paulo's 1,200 cafés, J. R. R. Tolkien & twenty-one others")
    ['sao', 'paulo', '1200', 'cafes', 'jrr', 'tolkien', 'and', '21', 'others']
    """
    # Quotes are folded first: to NFKD an acute accent is a space. It may bring out capitals.
    folded = unicodedata.normalize("NFKD", text.translate(FOLDS).casefold()).casefold()
    folded = folded.translate(FOLDS)
    marked = (c for c in folded if c in VOICING or not unicodedata.combining(c))
    folded = unicodedata.normalize("NFC", "".join(marked))
    folded = POSSESSIVE.sub("", folded).replace("'", "")
    folded = INITIALS.sub(lambda run: re.sub(r"[\s.]", "", run.group()) + " ", folded)
    return _count([_digits(word) for word in WORD.findall(folded)])


def _digits(word: str) -> str:
    """Write a number in the one form that equal numbers share; leave other words alone."""
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
        value, length = _number_at(spelt, position)
        counted.append(str(value) if length else spelt[position])
        position += max(length, 1)
    return counted


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


def _holds(text: Sequence[str], phrase: Sequence[str]) -> bool:
    """Tell whether the words of the phrase stand in the text, in order and side by side."""
    length = len(phrase)
    return any(text[at : at + length] == phrase for at in range(len(text) - length + 1))


def _bare(text: Sequence[str]) -> list[str]:
    """Drop articles; a last word is none ("vitamin A")."""
    last = len(text) - 1
    return [word for at, word in enumerate(text) if word not in ARTICLES or at == last]


def is_match(answer: str, references: Sequence[str], *, exact: bool = False) -> bool:
    """Tell whether an answer names one of the references.

    Whole words count, so "it" is not in "Titian" nor "10" in "100"; articles do not ("the
    Beatles" is "Beatles"). An empty answer matches
    nothing. What an answer says *about* the reference is not understood: "not Paris" names Paris.

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
        views = [(said, known), (_bare(said), _bare(known))]
        for text, phrase in views:
            if phrase and (text == phrase if exact else _holds(text, phrase)):
                return True
    return False


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
