"""What a learner can be made from, free of the pipeline that measured it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.learners.classifiers import Learner


class Inputs(NamedTuple):
    """Everything that was measured on the answers, with the columns that a detector reads."""

    names: tuple[str, ...]
    """Of the columns: `<column>`, or `<table>:<column>` where several tables are read."""
    values: Float[np.ndarray, "row column"]
    """NaN where a column is not defined; rows are answers, or tokens where these are read."""
    directions: Int[np.ndarray, " column"]
    """Expected direction of each column, fixed before any label was seen; 0: none."""
    residuals: Float[np.ndarray, "layer sample d_model"]
    latents: tuple[csr_array, ...]
    """One [sample d_sae] matrix per layer."""
    subject_latents: tuple[csr_array, ...]
    """As `latents`, at the last token of the subject's name."""
    layers: tuple[int, ...]
    """Block index of each layer."""
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    """The answers."""
    relations: tuple[str, ...]
    token_answer: Int[np.ndarray, " token"]
    """Number of the answer that each token is of."""


Factory = Callable[[Inputs], Learner | None]
"""Makes a learner from what is read; None where nothing that it can use is there."""
