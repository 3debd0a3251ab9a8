"""Answers that a model gave elsewhere, judged and set in the form that answers have here.

Of given options a fact is a subject of a relation whose statement was scored with each of the same
options in it; p = softmax of the scores over the options, and the option of greatest p is the
answer. Scores say how sure the choice is, and whether it is the subject's own: no label enters any.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import entr, log_softmax, logsumexp

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.output_scores import logprob_scores
from ghosttrack.detector.asking.families.owner import OWNER_SPECS, against
from ghosttrack.detector.table import LOG_PROB, POSITIVE, REAL, Table, define
from ghosttrack.questions.categories import Label, categorise
from ghosttrack.questions.option_scores import OptionScores
from ghosttrack.questions.ready_answers import ReadyAnswer
from ghosttrack.questions.sets import Question

OPTION_SPECS = define(
    "output",
    ("logprob", LOG_PROB, -1, "log p of the answer"),
    ("margin", POSITIVE, -1, "log p less that of the second option"),
    ("entropy", POSITIVE, +1, "entropy of p"),
    prefix="option_",
)
PRIOR_SPECS = define(
    "owner",
    ("logprob", LOG_PROB, -1, "log q of the answer; q = p over its mean for others, sum 1"),
    ("margin", REAL, -1, "log q of the answer less that of the best other option"),
    ("entropy", POSITIVE, +1, "entropy of q"),
    prefix="prior_",
)
"""The prior correction: what an option gets for any subject at all is divided out of it."""
OWNER_OPTION_SPECS = (*OWNER_SPECS, *PRIOR_SPECS)


def given_answers(rows: Sequence[ReadyAnswer], *, relabel: bool = False) -> Answers:
    """Judge given answers: by their label where they have one, else by their references.

    With `relabel` by their references, and the label is the other eye's. The probability of an
    answer without token log-probabilities is NaN.
    """
    questions = [
        Question(str(at), row.question, row.references, row.group) for at, row in enumerate(rows)
    ]
    labels = [_label(*pair, relabel=relabel) for pair in zip(questions, rows, strict=True)]
    texts, output = [row.response for row in rows], logprob_scores([row.logprobs for row in rows])
    return Answers.of(questions, texts, labels, output)


def _label(question: Question, row: ReadyAnswer, *, relabel: bool) -> Label:
    ours = categorise(question, row.response)
    if row.label is None:
        return ours
    theirs = _verdict(row.label == 0).category
    if not row.references:
        return Label.certain(theirs)
    return Label(ours.category, theirs) if relabel else Label(theirs, ours.category)


def option_answers(relations: Sequence[OptionScores]) -> Answers:
    """Take each fact's best option for the answer; groups are subjects, by name."""
    questions, texts, is_right = [], [], []
    for one in relations:
        facts = zip(one.ids, one.statements, one.subjects, one.right.tolist(), strict=True)
        for (fact, text, subject, right), best in zip(facts, _best(one).tolist(), strict=True):
            answer = (one.options[right],)
            questions.append(Question(fact, text, answer, subject, subject, one.relation))
            texts.append(one.options[best])
            is_right.append(best == right)
    output = output_table(relations)
    labels = list(map(_verdict, is_right))
    return Answers.of(questions, texts, labels, output, "option_logprob")


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


def skewed(relations: Sequence[OptionScores]) -> Bool[np.ndarray, " fact"]:
    """Keep facts so that right answers are as uneven as the model takes options to be.

    Of a relation's options, in the order of their mean p, the r-th keeps 1 / r as many facts as the
    most frequent one has, drawn at random: Zipf's law.
    """
    rng, kept = np.random.default_rng(0), []
    for one in relations:
        prior = np.exp(log_softmax(one.scores, axis=1)).mean(axis=0)
        rank = 1 + (-prior).argsort(kind="stable").argsort()
        most = np.round(np.bincount(one.right).max() / rank).astype(np.int64)
        mask, order = np.zeros(len(one.right), dtype=bool), rng.permutation(len(one.right))
        for option, n_kept in enumerate(most.tolist()):
            mask[order[one.right[order] == option][:n_kept]] = True
        kept.append(mask)
    return np.concatenate(kept)


def rivals(relations: Sequence[OptionScores]) -> tuple[str, ...]:
    """Name the other subject to whom each fact's answer fits best; "" where there is none."""
    names = []
    for one in relations:
        theirs = log_softmax(one.scores, axis=1)[:, _best(one)]
        others = _others(one.subjects)
        best = np.where(others, theirs.T, -inf).argmax(axis=1)
        names += [one.subjects[at] if others[fact].any() else "" for fact, at in enumerate(best)]
    return tuple(names)


def n_others(relations: Sequence[OptionScores]) -> float:
    """Count the other subjects that a fact is held against, on average."""
    counts = [_others(one.subjects).sum(axis=1) for one in relations]
    return float(np.concatenate(counts).mean())


def _verdict(is_right: bool) -> Label:
    return Label.certain("correct" if is_right else "wrong")


def _best(relation: OptionScores) -> Int[np.ndarray, " subject"]:
    return relation.scores.argmax(axis=1)


def _sureness(logprobs: Float[np.ndarray, "subject option"]) -> Float[np.ndarray, "subject score"]:
    best = np.sort(logprobs, axis=1)[:, ::-1]
    return np.column_stack([best[:, 0], best[:, 0] - best[:, 1], _entropy(logprobs)])


def _entropy(logprobs: Float[np.ndarray, "subject option"]) -> Float[np.ndarray, " subject"]:
    return entr(np.exp(logprobs)).sum(axis=1)


def _ownership(relation: OptionScores) -> Float[np.ndarray, "subject statistic"]:
    logprobs = log_softmax(relation.scores, axis=1)
    others = _others(relation.subjects)
    answer = _best(relation)
    values = np.full((len(answer), len(OWNER_OPTION_SPECS)), np.nan)
    for subject in np.flatnonzero(others.any(axis=1)):
        own, theirs = logprobs[subject], logprobs[others[subject]]
        values[subject] = _against(own, theirs, int(answer[subject]))
    return values


def _against(
    own: Float[np.ndarray, " option"], theirs: Float[np.ndarray, "other option"], answer: int
) -> list[float]:
    prior = logsumexp(theirs, axis=0) - np.log(len(theirs))
    corrected = log_softmax(own - prior)
    return [
        *against(float(own[answer]), theirs[:, answer]),
        float(corrected[answer]),
        float(corrected[answer] - np.delete(corrected, answer).max()),
        float(_entropy(corrected[None])[0]),
    ]


def _others(subjects: Sequence[str]) -> Bool[np.ndarray, "subject other"]:
    """Mark for each fact those of its relation that are about somebody else."""
    names = np.array(subjects)
    return np.not_equal(names[:, None], names[None, :])
