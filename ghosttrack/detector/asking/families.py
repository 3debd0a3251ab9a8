"""The kinds of intervention, each with its columns defined where they are computed."""

from collections.abc import Callable, Iterable
from math import inf, nan

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.asking.interventions import (
    Copy,
    Echo,
    Family,
    Finding,
    Names,
    Plan,
    sibling_specs,
)
from ghosttrack.detector.config import InterventionsConfig
from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.models.changes import MASK, Change, ChangeKind
from ghosttrack.questions.names import NAME, other_parts, others, parts, statement, strangers
from ghosttrack.questions.sets import Question

NOISE_DEPTHS, NOISE_SCALES = (0.0, 1 / 3, 2 / 3), (0.3, 1.0)
"""Where noise enters, as a share of the blocks, and its length over the residual stream's."""
DROPOUT = 0.1


def _specs(
    family: str, *rows: tuple[str, str, tuple[float, float], int]
) -> tuple[StatisticSpec, ...]:
    """Read rows of name, definition, range and expected direction."""
    return tuple(
        StatisticSpec(f"{family}_{name}", family, definition, low, high, direction)
        for name, definition, (low, high), direction in rows
    )


LOG, REAL, SHARE, POSITIVE = (-inf, 0.0), (-inf, inf), (0.0, 1.0), (0.0, inf)

PARAPHRASE_SPECS = _specs(
    "paraphrase",
    ("logmean", "log of the answer's mean probability over other wordings", LOG, -1),
    ("min", "least lp over other wordings", LOG, -1),
    ("max", "greatest lp over other wordings", LOG, -1),
    ("sd", "standard deviation of lp over other wordings", POSITIVE, +1),
    ("agree", "share of other wordings with the same greedy answer", SHARE, -1),
    ("entropy", "mean next-token entropy along the answer, other wordings", POSITIVE, +1),
    ("first", "lp in the first other wording", LOG, -1),
)
SWAPS = {"first": "another first name", "rest": "another last name", "whole": "another name"}
SWAP_SPECS = (
    *(
        spec
        for part, changed in SWAPS.items()
        for spec in _specs(
            f"swap_{part}",
            ("logmean", f"log of the answer's mean probability with {changed}", LOG, +1),
            ("max", f"greatest lp with {changed}", LOG, +1),
            ("sd", f"standard deviation of lp with {changed}", POSITIVE, 0),
            ("agree", f"share of swaps to {changed} with the same greedy answer", SHARE, +1),
            ("entropy", f"mean next-token entropy along the answer with {changed}", POSITIVE, 0),
            ("drop", f"own lp minus the log of that mean probability, {changed}", REAL, -1),
        )
    ),
    *_specs("swap", ("interaction", "drop of both parts less the drops of either", REAL, -1)),
)
N_NEAR = 12
"""Names of the owner test that come first: those likeliest to be confused with the subject."""


def _owner_specs(family: str, whom: str) -> tuple[StatisticSpec, ...]:
    return _specs(
        family,
        ("rank", f"share of {whom} names that give the answer more strongly", SHARE, +1),
        ("gap", f"own lp minus the highest lp of {whom} names", REAL, -1),
        ("z", f"own lp in standard deviations above the mean of {whom} names", REAL, -1),
        ("pmi", f"own lp minus the log of the mean probability of {whom} names", REAL, -1),
    )


OWNER_SPECS = _owner_specs("owner", "other")
NEAR_SPECS = _owner_specs("owner_near", f"the {N_NEAR} nearest other")
ABLATE_SPECS = _specs(
    "ablate",
    ("drop", "own lp minus lp with the mean embedding in the subject's place", REAL, -1),
    ("first_drop", "the same for the first word of the subject's name", REAL, -1),
    ("rest_drop", "the same for the rest of the subject's name", REAL, -1),
    ("agree", "share of the three with the same greedy answer", SHARE, +1),
)


def _noise_specs(family: str, what: str) -> tuple[StatisticSpec, ...]:
    return _specs(
        family,
        ("survival", f"share of passes with {what} that keep the greedy answer", SHARE, -1),
        ("logmean", f"log of the answer's mean probability with {what}", LOG, -1),
        ("sd", f"standard deviation of lp with {what}", POSITIVE, +1),
    )


NOISE_SPECS = _noise_specs("noise_subject", "noise at the subject")
NOISE_ALL_SPECS = _noise_specs("noise_all", "noise at every position")
DROPOUT_SPECS = _noise_specs("dropout", "dropout in the residual stream")

FOR_SIBLINGS = (*PARAPHRASE_SPECS, *SWAP_SPECS, *OWNER_SPECS, *NEAR_SPECS)
INTERVENTION_SPECS = (
    *PARAPHRASE_SPECS,
    *SWAP_SPECS,
    *OWNER_SPECS,
    *NEAR_SPECS,
    *ABLATE_SPECS,
    *NOISE_SPECS,
    *NOISE_ALL_SPECS,
    *DROPOUT_SPECS,
    *sibling_specs(FOR_SIBLINGS),
)
"""Every column that asking again can give."""


def plan(config: InterventionsConfig, n_layers: int) -> Plan:
    """Choose the families that the configuration asks for; a count of 0 leaves one out."""
    wanted: tuple[tuple[int, Callable[[], Family]], ...] = (
        (config.paraphrases, lambda: paraphrase(config.paraphrases)),
        (config.swap_names, lambda: swap(config.swap_names)),
        (config.owner_names, lambda: owner(config.owner_names)),
        (config.ablate, ablate),
        (config.noise, lambda: noise("noise_subject", NOISE_SPECS, n_layers, everywhere=False)),
        (config.noise, lambda: noise("noise_all", NOISE_ALL_SPECS, n_layers, everywhere=True)),
        (config.dropouts, lambda: dropout(config.dropouts)),
    )
    families = tuple(make() for count, make in wanted if count)
    return Plan(families, config.siblings, config.siblings_again)


def paraphrase(n_wordings: int) -> Family:
    """Ask in other wordings: what the model knows does not hang on the words of the question."""

    def copies(question: Question, _: Names, __: np.random.Generator) -> tuple[Copy, ...]:
        return tuple(Copy(text, question.subject) for text in question.wordings[:n_wordings])

    def reduce(echo: Echo) -> Finding:
        lp = echo.logprobs
        numbers = (_log_mean_exp(lp), lp.min(), lp.max(), lp.std(), echo.agrees.mean())
        return Finding((*map(float, numbers), float(echo.entropies.mean()), float(lp[0])))

    return Family("paraphrase", PARAPHRASE_SPECS, copies, reduce, is_for_siblings=True)


def swap(n_names: int) -> Family:
    """Exchange the first word of the subject's name, the rest, or all of it.

    The first copy has the subject itself, then come `n_names` of each kind, in the question's
    shortest statement or, where it has none, in the question. Whole names share no word with the
    subject's. A name of one word has whole swaps alone.
    """

    def copies(question: Question, names: Names, rng: np.random.Generator) -> tuple[Copy, ...]:
        text = statement(question)
        firsts, rests = other_parts(question, names, n_names, rng)
        wholes = strangers(question, names, n_names, rng)
        if not text or not wholes or (firsts and not len(firsts) == len(rests) == len(wholes)):
            return ()
        chosen = (question.subject, *firsts, *rests, *wholes)
        return tuple(Copy(text.replace(NAME, name), name) for name in chosen)

    def reduce(echo: Echo) -> Finding:
        n_parts = 3 if len(echo.logprobs) > n_names + 1 else 1
        size = (len(echo.logprobs) - 1) // n_parts
        values = [nan] * len(SWAP_SPECS)
        drops: list[float] = []
        for part in range(n_parts):
            rows = slice(1 + part * size, 1 + (part + 1) * size)
            drops.append(float(echo.logprobs[0]) - _log_mean_exp(echo.logprobs[rows]))
            at = 6 * (part if n_parts == 3 else 2)
            values[at : at + 6] = [*_summary(echo, rows), drops[-1]]
        if n_parts == 3:
            values[-1] = drops[2] - drops[0] - drops[1]
        return Finding(tuple(values))

    return Family("swap", SWAP_SPECS, copies, reduce, is_for_siblings=True)


def owner(n_names: int) -> Family:
    """Ask about others: an answer that fits somebody else as well is not the subject's own.

    The first copy has the subject itself, the others up to `n_names` names of its kind, in the
    question's shortest statement or, where it has none, in the question. Names that share a word
    with the subject come first: whom a model confuses with the subject is likeliest among them.
    """

    def copies(question: Question, names: Names, rng: np.random.Generator) -> tuple[Copy, ...]:
        text, rest = statement(question), others(question, names, n_names, rng)
        if not text or not rest:
            return ()
        return tuple(Copy(text.replace(NAME, name), name) for name in (question.subject, *rest))

    def reduce(echo: Echo) -> Finding:
        own, rest = echo.logprobs[0], echo.logprobs[1:]
        values = (*_against(own, rest), *_against(own, rest[:N_NEAR]))
        return Finding(values, rival=1 + int(rest.argmax()))

    return Family("owner", OWNER_SPECS + NEAR_SPECS, copies, reduce, is_for_siblings=True)


def _against(own: float, rest: Float[np.ndarray, " name"]) -> tuple[float, ...]:
    """Rank, gap, z and PMI of the subject's own lp among those of other names."""
    sd = rest.std()
    z = (own - rest.mean()) / sd if sd > 0 else nan
    numbers = ((rest > own).mean(), own - rest.max(), z, own - _log_mean_exp(rest))
    return tuple(map(float, numbers))


def ablate() -> Family:
    """Take the subject away: an answer that stays was not read off the subject.

    The copies: the question as it is, without the subject, without the first word of its name,
    without the rest (the first word again, where there is no rest).
    """

    def copies(question: Question, _: Names, __: np.random.Generator) -> tuple[Copy, ...]:
        if not question.subject:
            return ()
        first, rest = parts(question.subject)
        bare = Copy(question.prompt, question.subject)
        marks = (question.subject, first, rest or first)
        return (bare, *(bare._replace(change=MASK, marked=mark) for mark in marks))

    def reduce(echo: Echo) -> Finding:
        drops = echo.logprobs[0] - echo.logprobs[1:]
        return Finding((*map(float, drops), float(echo.agrees[1:].mean())))

    return Family("ablate", ABLATE_SPECS, copies, reduce)


def noise(
    name: str, specs: tuple[StatisticSpec, ...], n_layers: int, *, everywhere: bool
) -> Family:
    """Disturb the residual stream at a few depths and scales: what is known well survives."""
    changes = [
        Change(ChangeKind.noise, int(depth * n_layers), scale, seed=at)
        for at, (depth, scale) in enumerate((d, s) for d in NOISE_DEPTHS for s in NOISE_SCALES)
    ]
    return _disturbed(
        name, specs, changes, lambda question: question.prompt if everywhere else question.subject
    )


def dropout(n_copies: int) -> Family:
    """Leave entries of the residual stream's updates out at random."""
    changes = [Change(ChangeKind.dropout, scale=DROPOUT, seed=seed) for seed in range(n_copies)]
    return _disturbed("dropout", DROPOUT_SPECS, changes, lambda question: question.prompt)


def _disturbed(
    name: str,
    specs: tuple[StatisticSpec, ...],
    changes: Iterable[Change],
    where: Callable[[Question], str],
) -> Family:
    """Ask the question as it is, with every one of the changes."""

    def copies(question: Question, _: Names, __: np.random.Generator) -> tuple[Copy, ...]:
        if not where(question):
            return ()
        bare = Copy(question.prompt, question.subject, marked=where(question))
        return tuple(bare._replace(change=change) for change in changes)

    def reduce(echo: Echo) -> Finding:
        lp = echo.logprobs
        return Finding((float(echo.agrees.mean()), _log_mean_exp(lp), float(lp.std())))

    return Family(name, specs, copies, reduce)


def _summary(echo: Echo, rows: slice) -> tuple[float, ...]:
    """Log-mean, greatest lp, deviation, agreement and entropy of some copies."""
    lp = echo.logprobs[rows]
    numbers = (lp.max(), lp.std(), echo.agrees[rows].mean(), echo.entropies[rows].mean())
    return (_log_mean_exp(lp), *map(float, numbers))


def _log_mean_exp(logprobs: Float[np.ndarray, " copy"]) -> float:
    return float(np.logaddexp.reduce(logprobs)) - float(np.log(len(logprobs)))
