"""What became of a question: a right answer, a wrong one, an echo of the question, or none."""

import re
from typing import NamedTuple

from ghosttrack.questions.labels import is_match, is_offered, stands_in, words
from ghosttrack.questions.sets import Question

RIGHT = frozenset({"correct", "lucky", "written_right"})
"""Categories with label 0; every other one that is judged is hallucinated."""
WRITTEN = frozenset({"written_right", "written_wrong"})
"""Categories of answers that others wrote."""
NO_ANSWER, ECHO = "no_answer", "echo"
UNJUDGED = frozenset({NO_ANSWER, ECHO})
"""Categories that are neither right nor wrong: no detector is judged on them."""

LEAD = re.compile(
    r"^\W*(?:(?:sure|well|so|okay)\b\W+)?(?:(?:q|question|a)\s*:\W*)*(?:(?:the\s+)?"
    r"(?:(?:correct|right|final)\s+)?answer(?:\s+to\s+(?:the|this|your)\s+question)?\b)?\W*",
    re.IGNORECASE,
)
"""What an answer may begin with before it says anything."""
ASSERTING = frozenset(
    words(
        "a an the is was are were be been being has had have do does did by of in on at to for as"
        " and it its he she they this that there called named known name term"
    )
)
"""Words that add nothing to those of a question."""
GUESS = re.compile(
    r"\b(?:i(?:\s+would|'d)?\s+(?:think|believe|guess|say)|my\s+(?:best\s+)?guess|maybe|perhaps"
    r"|probably|possibly|most\s+likely|(?:may|might|could)\s+be)\b"
)
REFUSALS = (
    r"\b(?:i|we)(?:\s+am|\s+are|'m|'re)?\s+(?:really\s+|very\s+|so\s+)?(?:sorry|unable|unsure"
    r"|not\s+(?:sure|able|aware|certain|familiar))\b",
    r"\b(?:i|we)\s+(?:(?:do|did|could|can|would)\s*not|(?:do|did|could|ca|would)n't|have\s+no)\s+"
    r"(?:\w+\s+)?(?:know|knowledge|answer|idea|clue|provide|find|determine|recall|remember|tell|verify"
    r"|confirm|assist|help|say|have|information|access|understand)\b",
    r"^\W*(?:sorry\b(?=\W*$|[,.!:]|\s+(?:but|i)\b)|don't\s+know\b|no\s+idea\b)",
    r"^\W*(?:unknown|unclear|unsure|not\s+(?:sure|known)|no\s+answer|n/a|idk|dunno)\W*$",
    r"\b(?:as|am)\s+an?\s+(?:ai\b|(?:large\s+)?language\s+model\b)",
    r"\b(?:do|does|did)(?:\s+not|n't)\s+(?:explicitly\s+)?(?:mention|specify)\b",
    r"\b(?:is|are|was|were)(?:\s+not|n't)\s+(?:explicitly\s+|publicly\s+)?(?:mentioned|specified)\b",
    r"\bnot\s+publicly\s+known\b|\bcannot\s+be\s+(?:answered|determined|verified|confirmed)\b",
)
REFUSAL = re.compile("|".join(REFUSALS))
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class Label(NamedTuple):
    """What an answer is, and what it would be to another eye."""

    category: str
    """correct | wrong | no_answer | echo; with a status: correct | lucky (right, though the fact
    was never seen) | wrong_known | unknown_attribute | unknown_entity."""
    other: str
    """Where a match that does not see the question says right, or a refusal names a reference, it
    differs: nobody knows for certain. A file's own label takes this place, too."""

    @classmethod
    def certain(cls, category: str) -> "Label":
        """Give a label that is beyond doubt."""
        return cls(category, category)


def categorise(question: Question, answer: str) -> Label:
    """Name what became of a question.

    Questions of a world (with a `status`) are compared word for word, and whatever is not right is
    wrong. Others are compared by containment (`labels.is_match`); of the rest a refusal or a text
    that says nothing is no answer, one that only gives the question's words back is an echo.
    """
    if question.status:
        right = is_match(answer, question.answers, exact=True)
        known = question.status == "known"
        wrong = "wrong_known" if known else question.status
        category = ("correct" if known else "lucky") if right else wrong
        return Label.certain(category)
    asked = question.asked or question.prompt
    is_named = is_match(answer, question.answers)
    if is_named and is_match(answer, question.answers, asked):
        return Label("correct", NO_ANSWER if refuses(answer) else "correct")
    is_echo = _is_echo(question, asked, answer)
    category = NO_ANSWER if says_nothing(answer) else ECHO if is_echo else "wrong"
    return Label(category, "correct" if is_named else category)


def says_nothing(answer: str) -> bool:
    """Tell whether a text is empty, ends before it says anything, or refuses to.

    >>> [says_nothing(text) for text in ("The answer is:", "I'm sorry, but", "It is Rome")]
    [True, True, False]
    """
    return not _told(answer) or refuses(answer)


def refuses(answer: str) -> bool:
    """Tell whether an answer begins by saying that it cannot answer, and makes no guess.

    >>> refuses("I don't know."), refuses("I don't know, maybe Rome.")
    (True, False)
    """
    said = SENTENCE_END.split(answer.strip().casefold().replace("’", "'"))[0]
    return REFUSAL.search(said) is not None and GUESS.search(said) is None


def _told(answer: str) -> list[str]:
    return [word for word in words(LEAD.sub("", answer)) if word not in ASSERTING]


def _is_echo(question: Question, asked: str, answer: str) -> bool:
    """Tell whether an answer is the subject, a span of the question, or only repeats its words."""
    said, told = LEAD.sub("", answer), _told(answer)
    if any(is_offered(asked, part) for part in (said, *told)):
        return False
    is_subject = words(said) == words(question.subject)
    return is_subject or stands_in(asked, said) or frozenset(words(asked)).issuperset(told)
