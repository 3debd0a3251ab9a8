"""Risk while an answer is written: each token judged by what was known when it was there.

Worker processes import this module, so it stays free of torch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.detector.learners.classifiers import Asked, Columns, Known, Option

STREAMING = "streaming"
"""Risk by the tokens so far, output scores and tracks: after the last one; `streaming:<t>`: after
t, or after the last where the answer is shorter."""
MOST_TOKENS = 8
"""Tokens of an answer that are looked at, from the first."""


class TokenClassifier(NamedTuple):
    """Classify tokens, and let an answer's risk be that of the last token it has so far.

    Every token of a training answer is a row with the answer's label.
    """

    columns: Columns
    """Of tokens, those of one answer after those of the one before."""
    answer: Int[np.ndarray, " token"]
    """Number of the answer that each token is of; each answer has at least one."""
    n_tokens: int
    """How many tokens of an answer are there."""

    def options(self) -> tuple[Option, ...]:
        """The classifiers that compete."""
        return self.columns.options()

    def refine(self, option: Option) -> tuple[Option, ...]:
        """Nothing: one round decides."""
        return ()

    def fit_predict(
        self,
        option: Option,
        labels: Int[np.ndarray, " sample"],
        train: Known,
        test: Asked,
        seed: int,
    ) -> Float[np.ndarray, " asked"]:
        """Score each answer at its token `n_tokens`, or at its last where it is shorter."""
        rows = np.flatnonzero(np.isin(self.answer, train))
        first, end = (np.searchsorted(self.answer, test, side) for side in ("left", "right"))
        reached = np.minimum(first + self.n_tokens, end) - 1
        return self.columns.fit_predict(option, labels[self.answer], rows, reached, seed)
