"""Which answers are held out together, and which are judged by themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.errors import DataError
from ghosttrack.evaluation.config import EvaluationConfig, HeldOut
from ghosttrack.evaluation.data import Available
from ghosttrack.evaluation.result import ALL, CONFIDENT, WITHIN
from ghosttrack.evaluation.splits import check_labels, grouped_folds, transfer_folds
from ghosttrack.evaluation.summary import Subset
from ghosttrack.world.questions import HELD_OUT

TIER = "tier "
"""How the subsets of one exposure tier begin."""
WITHIN_ANSWER = "within answer"
UNSEEN_WORDING = "unseen wording"
"""Questions in words that the model of a generated world never read."""
UNAMBIGUOUS = "labels agree"
"""Answers that are right, or wrong, to both eyes (`Answers.is_ambiguous`)."""
N_SHOWN = 5
"""Answers that are shown where no detector can be judged on them."""
LEAST_OF_EACH = 11
"""Answers of each label from which on a relation, answer or tier has an AUROC of its own: below,
one more or less moves it by a tenth. Right ones count where they are not luck."""


def subsets(
    answers: Answers, parts: Mapping[str, Bool[np.ndarray, " sample"]] = MappingProxyType({})
) -> Available[Subset]:
    """Find the subsets that these answers have.

    Of the further `parts`, by name, one that lacks a label is left out.
    """
    present = [Subset(ALL, np.ones(len(answers), dtype=bool))]
    left_out = {}
    for name, least in CONFIDENT.items():
        if np.isnan(answers.prob).all():
            left_out[name] = "the answers' probabilities are not known"
        else:
            present.append(Subset(name, answers.prob > least))
    unseen = np.array([name.endswith(HELD_OUT) for name in answers.question_ids])
    agreed = {UNAMBIGUOUS: ~answers.is_ambiguous} if answers.is_ambiguous.any() else {}
    for name, mask in {UNSEEN_WORDING: unseen, **agreed, **parts}.items():
        if np.unique(answers.labels[mask]).size == 2:
            present.append(Subset(name, mask))
    strata = _of_strata(answers)
    return Available((*present, *strata.present), left_out | strata.left_out)


def _of_strata(answers: Answers) -> Available[Subset]:
    """Pairs within relations and within answers, and every tier by itself."""
    present, left_out = [], {}
    for name, keys in {WITHIN: answers.relations, WITHIN_ANSWER: answers.texts}.items():
        _, stratum, judged = _strata(answers, keys)
        if len(judged) > 1 and judged.any():
            present.append(Subset(name, judged[stratum], stratum))
        elif len(judged) > 1:
            kind = name.removeprefix("within ")
            left_out[name] = f"no {kind} stands {LEAST_OF_EACH} times under each label"
    tiers, stratum, judged = _strata(answers, answers.tiers)
    for at, tier in enumerate(tiers if len(tiers) > 1 else ()):
        if judged[at]:
            present.append(Subset(TIER + tier, stratum == at))
        else:
            left_out[TIER + tier] = f"not {LEAST_OF_EACH} of each label, lucky ones not counted"
    return Available(tuple(present), left_out)


def _strata(
    answers: Answers, keys: Sequence[str]
) -> tuple[list[str], Int[np.ndarray, " sample"], Bool[np.ndarray, " stratum"]]:
    """Name the strata, say which each answer is of, and which have enough answers of each label.

    A right answer whose fact the model never read is luck, and tells nothing of what it knows.
    """
    names, stratum = np.unique(keys, return_inverse=True)
    is_known = (answers.labels == 0) & (answers.exposures != 0)
    counts = (np.bincount(stratum, kept) for kept in (answers.labels == 1, is_known))
    return names.tolist(), stratum, np.minimum(*counts) >= LEAST_OF_EACH


def check_answers(answers: Answers, n_folds: int) -> None:
    """Make sure that detectors can be judged on these answers, those without a label among them.

    Raises:
        DataError: None is right, or none is wrong: says what was asked and shows some; or too few
            groups hold either.
    """
    labels = answers.labels[answers.is_judged]
    for label, word in ((0, "right"), (1, "wrong")):
        if not (labels == label).any():
            counts = ", ".join(f"{name} {n}" for name, n in Counter(answers.categories).items())
            said = ", ".join(map(repr, answers.texts[:N_SHOWN]))
            raise DataError(
                f"questions: no answer is {word} ({counts}); asked {answers.asked[0]!r} and so"
                f" on, the model said {said}; another model or another way of asking would do"
            )
    judged = answers.judged()
    check_labels(judged.labels, judged.groups, n_folds)


def outer_folds(answers: Answers, config: EvaluationConfig) -> Int[np.ndarray, " sample"]:
    """Deal answers into folds, as `n_folds` and `held_out` ask.

    Raises:
        DataError: As in `grouped_folds`, or there are too few kinds of question to hold one out.
    """
    n_folds, seed = config.n_folds, config.seed
    folds = grouped_folds(answers.labels, answers.groups, answers.prompts, n_folds, seed)
    if config.held_out is HeldOut.group:
        return folds
    return transfer_folds(
        answers.labels, kinds_of_question(answers, config.held_out), n_folds, seed
    )


def drawn_together(answers: Answers, held_out: HeldOut) -> tuple[str, ...]:
    """Name the unit of the bootstrap that every answer belongs to: what is held out together.

    How well relations, or wordings, that were not learned from are judged varies from one to the
    next, however many questions each has. Of kinds and groups, both held out, the fewer are drawn.
    """
    if held_out is HeldOut.group:
        return answers.groups
    return min(kinds_of_question(answers, held_out), answers.groups, key=lambda of: len(set(of)))


def kinds_of_question(answers: Answers, held_out: HeldOut) -> tuple[str, ...]:
    """Name the kind of every question: its relation, and its words around the subject."""
    if held_out is HeldOut.relation:
        return answers.relations
    return tuple(
        f"{relation}: {prompt.replace(subject, '{}') if subject else prompt}"
        for relation, prompt, subject in zip(
            answers.relations, answers.prompts, answers.subjects, strict=True
        )
    )
