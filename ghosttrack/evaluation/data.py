"""What an evaluation is given."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from ghosttrack.detector.answers import Answers
from ghosttrack.detector.table import Table


class EvaluationData(NamedTuple):
    """Answers and everything measured on them, all in the answers' order."""

    answers: Answers
    tables: Mapping[str, Table]
    """`output` is required; `lens`, `tracks`, `interventions`, `exposure`, `untrained` (the
    statistics of tracks in a model without training) and `null:<kind>` where they exist."""
    probes: Float[np.ndarray, "layer sample d_model"]
    """Residual streams at the position that predicts the answer."""
    latents: Sequence[csr_array]
    """SAE activations there, one [sample d_sae] matrix per layer."""
    layers: tuple[int, ...]
    """Block index of each entry of `probes` and `latents`."""
    forwards: Mapping[str, float]
    """Forward passes per answer that a table needs beyond the one that gave the answer;
    a table without an entry needs none."""
    directions: Mapping[str, int]
    """Expected direction of the statistics in `tracks`, fixed before any label was seen."""
    persistence: Mapping[str, Mapping[str, Float[np.ndarray, " sample"]]]
    """Measures of how long tracks last, each under `tracks` and each `null:<kind>`; NaN where an
    answer has no such track."""
