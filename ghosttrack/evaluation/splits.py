"""Folds that keep a question or an entity on one side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import StratifiedGroupKFold

from ghosttrack.errors import DataError

INNER_FOLDS = 3
LEAST_GROUPS = 6
"""Groups that must hold each class, so that every inner training set sees both."""


class Fold(NamedTuple):
    """One outer fold: rows to learn from, rows to report on, and how to choose among the former."""

    number: int
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    inner: Int[np.ndarray, " train"]
    """Inner fold of each training row."""


def grouped_folds(
    labels: Int[np.ndarray, " sample"],
    groups: Sequence[str],
    texts: Sequence[str],
    n_folds: int,
    seed: int,
) -> Int[np.ndarray, " sample"]:
    """Deal whole groups into folds of like label shares.

    Texts are what a row's prediction could be keyed by: the same text in two folds is a leak.

    Raises:
        DataError: One label only, too few groups of a label, or a text of two groups.
    """
    check_labels(labels, groups, n_folds)
    owners: dict[str, str] = {}
    for text, group in zip(texts, groups, strict=True):
        owner = owners.setdefault(text, group)
        if owner != group:
            raise DataError(
                f"questions: the text {text!r} stands under the groups {owner!r} and {group!r}; "
                "rows that share it must share a group"
            )
    return _deal(labels, groups, n_folds, seed)


def transfer_folds(
    labels: Int[np.ndarray, " sample"],
    kinds: Sequence[str],
    n_folds: int,
    seed: int,
) -> Int[np.ndarray, " sample"]:
    """Deal whole kinds of question into folds.

    A group may have rows in several folds; `nested_folds` keeps it out of the training rows where
    it stands among the held-out ones.

    Raises:
        DataError: Fewer kinds than folds.
    """
    n_kinds = len(set(kinds))
    if n_kinds < n_folds:
        raise DataError(
            f"questions: {n_kinds} kinds to hold out, evaluation.n_folds={n_folds} needs as many;"
            " fewer folds or evaluation.held_out=group would do"
        )
    return _deal(labels, kinds, n_folds, seed)


def nested_folds(
    folds: Int[np.ndarray, " sample"],
    labels: Int[np.ndarray, " sample"],
    groups: Sequence[str],
    seed: int,
) -> tuple[Fold, ...]:
    """Split the training rows of every outer fold once more, by group.

    Rows whose group stands among a fold's held-out rows are no training rows of it.

    Raises:
        DataError: Some inner training set holds one label only.
    """
    names = np.asarray(groups)
    nested = []
    for number in range(int(folds.max()) + 1):
        test = np.flatnonzero(folds == number)
        train = np.flatnonzero((folds != number) & ~np.isin(names, names[test]))
        inner = _deal(labels[train], names[train].tolist(), INNER_FOLDS, seed + 1 + number)
        nested.append(Fold(number, train, test, inner))
        if not learnable(nested[-1], labels):
            raise DataError("questions: one label only in an inner fold; more questions would do")
    return tuple(nested)


def learnable(fold: Fold, labels: Int[np.ndarray, " sample"]) -> bool:
    """Say whether every inner training set of the fold holds both labels."""
    known = labels[fold.train]
    return all(
        np.unique(known[fold.inner != held_out]).size == 2 for held_out in range(INNER_FOLDS)
    )


def check_labels(labels: Int[np.ndarray, " sample"], groups: Sequence[str], n_folds: int) -> None:
    """Make sure that both labels can stand in every fold.

    Raises:
        DataError: Too few groups hold a right, or a hallucinated, answer.
    """
    names = np.asarray(groups)
    least = max(n_folds, LEAST_GROUPS)
    for label, word in ((1, "hallucinated"), (0, "right")):
        found = np.unique(names[labels == label]).size
        if found < least:
            raise DataError(
                f"questions: {found} groups hold a {word} answer, {n_folds} folds need {least}"
                " (a group is a question, or those that belong together); more questions, another"
                " model or fewer evaluation.n_folds would do"
            )


def _deal(
    labels: Int[np.ndarray, " sample"], groups: Sequence[str], n_folds: int, seed: int
) -> Int[np.ndarray, " sample"]:
    folds = np.empty(len(labels), dtype=np.int64)
    dealer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for index, (_, test) in enumerate(dealer.split(labels, labels, groups)):
        folds[test] = index
    return folds
