"""Words that carry an answer: what a text says that the question did not."""

import re
from collections.abc import Iterator

from ghosttrack.questions.labels import words

FUNCTION_WORDS_TEXT = (
    "a an the of in on at to for and or but by with from as about over after before during "
    "between than then there into also is was were are be been has had have do did does not "
    "no it its he his she her they their this that these those who which what when where s "
)
FUNCTION_WORDS = frozenset(FUNCTION_WORDS_TEXT.split())
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
TOKEN = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")


def sentences(text: str) -> list[str]:
    r"""Cut a text after its full stops and at its line breaks; an abbreviation's stop cuts too.

    >>> sentences("Niamey. It lies in Niger!\nYes")
    ['Niamey.', 'It lies in Niger!', 'Yes']
    """
    return [part for part in SENTENCE_END.split(text.strip()) if part]


def key_words(text: str, question: frozenset[str]) -> frozenset[str]:
    """List the words of a text's first sentence less function words and the question's words.

    An answer mostly stands in its first sentence, what follows adorns it.

    >>> sorted(key_words("The capital is Niamey. It is large.", frozenset({"capital"})))
    ['niamey']
    """
    first = next(iter(sentences(text)), "")
    return frozenset(words(first)) - FUNCTION_WORDS - question


def named_words(text: str) -> frozenset[str]:
    """List capitalised words that begin no sentence, and words with a digit, from anywhere.

    >>> sorted(named_words("Born in Paris. Soon famous: 1,200 people knew Zola."))
    ['1200', 'paris', 'zola']
    """
    return frozenset(word for token in _names(text) for word in words(token)) - FUNCTION_WORDS


def _names(text: str) -> Iterator[str]:
    for sentence in sentences(text):
        for place, token in enumerate(TOKEN.findall(sentence)):
            if (place and token[0].isupper()) or any(map(str.isdigit, token)):
                yield token
