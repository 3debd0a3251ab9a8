"""Scores of given options: how sure the choice is, and whether it is the subject's own.

A fact is a subject of a relation whose statement was scored with each of the same options in it;
p = softmax of the scores over the options, and the option of greatest p is the answer. No label
enters any number here.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax, logsumexp

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.families.owner import OWNER_SPECS
from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.detector.table import Table
from ghosttrack.questions.ready_answers import OptionScores

OPTION_SPECS = (
    StatisticSpec("option_logprob", "output", "log p of the answer", -inf, 0.0, -1),
    StatisticSpec("option_margin", "output", "log p less that of the second option", 0.0, inf, -1),
    StatisticSpec("option_entropy", "output", "entropy of p", 0.0, inf, +1),
)
PRIOR_SPECS = tuple(
    StatisticSpec(f"prior_{name}", "owner", definition, low, high, direction)
    for name, definition, low, high, direction in (
        ("logprob", "log q of the answer; q = p over its mean for others, sum 1", -inf, 0.0, -1),
        ("margin", "log q of the answer less that of the best other option", -inf, inf, -1),
        ("entropy", "entropy of q", 0.0, inf, +1),
    )
)
"""The prior correction: what an option gets for any subject at all is divided out of it."""
OWNER_OPTION_SPECS = (*OWNER_SPECS, *PRIOR_SPECS)


def option_answers(relations: Sequence[OptionScores]) -> Answers:
    """Take each fact's best option for the answer; groups are subjects, by name."""
    ids = tuple(one for relation in relations for one in relation.ids)
    chosen = [relation.scores.argmax(axis=1) for relation in relations]
    labels = np.concatenate(
        [choice != one.right for choice, one in zip(chosen, relations, strict=True)]
    ).astype(np.int64)
    output = output_table(relations)
    logprob = output.column("option_logprob")
    subjects = tuple(name for relation in relations for name in relation.subjects)
    none = ((),) * len(ids)
    return Answers(
        question_ids=ids,
        groups=subjects,
        prompts=tuple(text for relation in relations for text in relation.statements),
        subjects=subjects,
        relations=tuple(one.relation for one in relations for _ in one.ids),
        tiers=("",) * len(ids),
        exposures=np.full(len(ids), -1),
        texts=_names(relations, chosen),
        references=tuple((text,) for text in _names(relations, [one.right for one in relations])),
        labels=labels,
        categories=tuple("wrong" if label else "correct" for label in labels),
        prob=np.exp(logprob),
        token_ids=none,
        logprobs=none,
        entropies=none,
        margins=none,
        output=output,
    )


def output_table(relations: Sequence[OptionScores]) -> Table:
    """Score each fact by its own options alone."""
    values = [_sureness(log_softmax(one.scores, axis=1)) for one in relations]
    return Table(tuple(spec.name for spec in OPTION_SPECS), np.concatenate(values))


def owner_table(relations: Sequence[OptionScores]) -> Table:
    """Hold each fact's answer against what the relation's other subjects get.

    Others are all facts of the relation with another subject's name, so that no fact is a part of
    its own prior; a relation of one subject has none, and its numbers are NaN.
    """
    values = [_ownership(one) for one in relations]
    return Table(tuple(spec.name for spec in OWNER_OPTION_SPECS), np.concatenate(values))


def rivals(relations: Sequence[OptionScores]) -> tuple[str, ...]:
    """Name the other subject to whom each fact's answer fits best; "" where there is none."""
    names = []
    for one in relations:
        theirs = log_softmax(one.scores, axis=1)[:, one.scores.argmax(axis=1)]
        others = _others(one.subjects)
        best = np.where(others, theirs.T, -inf).argmax(axis=1)
        names += [one.subjects[at] if others[fact].any() else "" for fact, at in enumerate(best)]
    return tuple(names)


def n_others(relations: Sequence[OptionScores]) -> float:
    """Count the other subjects that a fact is held against, on average."""
    counts = [_others(one.subjects).sum(axis=1) for one in relations]
    return float(np.concatenate(counts).mean())


def _names(
    relations: Sequence[OptionScores], places: Sequence[Int[np.ndarray, " _"]]
) -> tuple[str, ...]:
    return tuple(
        relation.options[place]
        for relation, at in zip(relations, places, strict=True)
        for place in at
    )


def _sureness(
    logprobs: Float[np.ndarray, "subject option"],
) -> Float[np.ndarray, "subject score"]:
    best = np.sort(logprobs, axis=1)[:, ::-1]
    return np.column_stack([best[:, 0], best[:, 0] - best[:, 1], _entropy(logprobs)])


def _entropy(logprobs: Float[np.ndarray, "subject option"]) -> Float[np.ndarray, " subject"]:
    prob = np.exp(logprobs)
    return -np.where(prob > 0, prob * logprobs, 0.0).sum(axis=1)


def _ownership(relation: OptionScores) -> Float[np.ndarray, "subject statistic"]:
    logprobs = log_softmax(relation.scores, axis=1)
    others = _others(relation.subjects)
    answer = relation.scores.argmax(axis=1)
    values = np.full((len(answer), len(OWNER_OPTION_SPECS)), np.nan)
    for subject in np.flatnonzero(others.any(axis=1)):
        own, theirs = logprobs[subject], logprobs[others[subject]]
        values[subject] = _against(own, theirs, int(answer[subject]))
    return values


def _against(
    own: Float[np.ndarray, " option"], theirs: Float[np.ndarray, "other option"], answer: int
) -> list[float]:
    lp, other_lp = own[answer], theirs[:, answer]
    sd = other_lp.std()
    prior = logsumexp(theirs, axis=0) - np.log(len(theirs))
    corrected = log_softmax(own - prior)
    return [
        float((other_lp > lp).mean()),
        float(lp - other_lp.max()),
        float((lp - other_lp.mean()) / sd) if sd > 0 else np.nan,
        float(lp - prior[answer]),
        float(corrected[answer]),
        float(corrected[answer] - np.delete(corrected, answer).max()),
        float(_entropy(corrected[None])[0]),
    ]


def _others(subjects: Sequence[str]) -> Bool[np.ndarray, "subject other"]:
    """Mark for each fact those of its relation that are about somebody else."""
    names = np.array(subjects)
    return np.not_equal(names[:, None], names[None, :])
