"""The kinds of intervention, each with its columns defined where they are computed."""

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from math import inf, nan

import numpy as np
from jaxtyping import Float

from ghosttrack.data.questions import Question
from ghosttrack.detector.config import DetectorConfig
from ghosttrack.detector.interventions import Copy, Echo, Family, Finding, Names
from ghosttrack.detector.labels import words
from ghosttrack.detector.spec import StatisticSpec

NAME = "{subject}"
PARAPHRASE_SPECS = tuple(
    StatisticSpec(f"paraphrase_{name}", "paraphrase", definition, low, high, direction)
    for name, definition, low, high, direction in (
        ("logmean", "log of the answer's mean probability over other wordings", -inf, 0.0, -1),
        ("min", "least lp over other wordings", -inf, 0.0, -1),
        ("max", "greatest lp over other wordings", -inf, 0.0, -1),
        ("sd", "standard deviation of lp over other wordings", 0.0, inf, +1),
        ("agree", "share of other wordings with the same greedy answer", 0.0, 1.0, -1),
        ("entropy", "mean next-token entropy along the answer, other wordings", 0.0, inf, +1),
    )
)
OWNER_SPECS = tuple(
    StatisticSpec(f"owner_{name}", "owner", definition, low, high, direction)
    for name, definition, low, high, direction in (
        ("rank", "share of other names that give the answer more strongly", 0.0, 1.0, +1),
        ("gap", "own lp minus the highest lp of another name", -inf, inf, -1),
        ("z", "own lp in standard deviations above the other names' mean", -inf, inf, -1),
        ("pmi", "own lp minus the log of the other names' mean probability", -inf, inf, -1),
    )
)


def families(config: DetectorConfig) -> tuple[Family, ...]:
    """Build the families that the configuration asks for; a count of 0 leaves one out."""
    chosen: list[Family] = []
    if config.paraphrases:
        chosen.append(paraphrase(config.paraphrases))
    if config.owner_names:
        chosen.append(owner(config.owner_names))
    return tuple(chosen)


def paraphrase(n_wordings: int) -> Family:
    """Ask in other wordings: what the model knows does not hang on the words of the question."""

    def copies(question: Question, _: Names, __: np.random.Generator) -> tuple[Copy, ...]:
        return tuple(Copy(text, question.subject) for text in question.wordings[:n_wordings])

    def reduce(_: Sequence[Copy], echo: Echo) -> Finding:
        lp = echo.logprobs
        numbers = (_log_mean_exp(lp), lp.min(), lp.max(), lp.std(), echo.agrees.mean())
        return Finding((*map(float, numbers), float(echo.entropies.mean())))

    return Family("paraphrase", PARAPHRASE_SPECS, copies, reduce)


def owner(n_names: int) -> Family:
    """Ask about others: an answer that fits somebody else as well is not the subject's own.

    The first copy has the subject itself, the others up to `n_names` names of its kind, in the
    question's shortest statement or, where it has none, in the question. Names that share a word
    with the subject come first: whom a model confuses with the subject is likeliest among them.
    """

    def copies(question: Question, names: Names, rng: np.random.Generator) -> tuple[Copy, ...]:
        statement = _statement(question)
        others = _others(question, names, n_names, rng)
        if not statement or not others:
            return ()
        return tuple(
            Copy(statement.replace(NAME, name), name) for name in (question.subject, *others)
        )

    def reduce(asked: Sequence[Copy], echo: Echo) -> Finding:
        own, others = echo.logprobs[0], echo.logprobs[1:]
        best = int(others.argmax())
        sd = others.std()
        z = (own - others.mean()) / sd if sd > 0 else nan
        numbers = ((others > own).mean(), own - others[best], z, own - _log_mean_exp(others))
        return Finding(tuple(map(float, numbers)), rival=asked[1 + best].subject)

    return Family("owner", OWNER_SPECS, copies, reduce)


def _log_mean_exp(logprobs: Float[np.ndarray, " copy"]) -> float:
    return float(np.logaddexp.reduce(logprobs)) - float(np.log(len(logprobs)))


def _statement(question: Question) -> str:
    """Find a text with a place for the subject; "" where the question offers none."""
    if not question.subject:
        return ""
    if NAME in question.short:
        return question.short
    pattern = rf"(?<!\w){re.escape(question.subject)}(?!\w)"
    text, n_places = re.subn(pattern, NAME, question.prompt)
    return text if n_places else ""


def _others(
    question: Question, names: Names, n_names: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """Draw different names of the subject's kind, never its own; namesakes come first.

    A shared word counts the more the fewer names hold it; among equals the draw decides.
    """
    pool = names.get(question.kind, ())
    holders = _holders(pool)
    closeness: dict[int, float] = defaultdict(float)
    for word in set(words(question.subject)):
        for index in holders.get(word, ()):
            closeness[index] += 1 / len(holders[word])
    drawn = sorted(map(int, rng.permutation(len(pool))), key=lambda index: -closeness[index])
    own = question.subject.casefold()
    others = (pool[index] for index in drawn if pool[index].casefold() != own)
    return tuple(itertools.islice(others, n_names))


@lru_cache(maxsize=16)
def _holders(pool: tuple[str, ...]) -> dict[str, list[int]]:
    """List for every word the names that hold it; one pool serves thousands of questions."""
    holders: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(pool):
        for word in set(words(name)):
            holders[word].append(index)
    return dict(holders)
