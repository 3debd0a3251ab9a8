"""What an evaluation is given."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.learners.token_risk import MOST_TOKENS
from ghosttrack.detector.table import Table


class EvaluationData(NamedTuple):
    """Answers and everything measured on them, all in the answers' order.

    Answers that came ready have only tables.
    """

    answers: Answers
    tables: Mapping[str, Table]
    """At least one of `output`, `sampling`, `lens`, `tracks`, `subject`, `ghosts`, `exposure`,
    `untrained` (the statistics of tracks in a model without training), `null:<kind>` and the
    families of interventions (`roster.FAMILIES`)."""
    forwards: Mapping[str, float]
    """Forward passes per answer that a table needs beyond the one that gave the answer;
    a table without an entry needs none."""
    probes: Float[np.ndarray, "layer sample d_model"] = np.empty((0, 0, 0))
    """Residual streams at `detector.position`."""
    latents: Sequence[csr_array] = ()
    """SAE activations there, one [sample d_sae] matrix per layer."""
    layers: tuple[int, ...] = ()
    """Block index of each entry of `probes` and `latents`."""
    directions: Mapping[str, int] = MappingProxyType({})
    """Expected direction of the statistics in `tracks`, fixed before any label was seen."""
    families: Mapping[str, str] = MappingProxyType({})
    """Family of each statistic in `tracks`."""
    uneven_relations: bool = False
    """Some relations are much harder than others, and the words tell which is which: canaries are
    then judged on pairs of answers of one relation, lest they sing for that."""
    persistence: Mapping[str, Mapping[str, Float[np.ndarray, " sample"]]] = MappingProxyType({})
    """Measures of how long tracks last, each under `tracks` and each `null:<kind>`; NaN where an
    answer has no such track."""
    parts: Mapping[str, Bool[np.ndarray, " sample"]] = MappingProxyType({})
    """Answers to judge by themselves, beside those that every set has."""
    causal: Table | None = None
    """Links tried by ablation, on text and not on answers, as in `detector.causal`."""
    tokens: Table | None = None
    """What was known at each of the first `MOST_TOKENS` tokens of every answer, those of one answer
    after those of the one before."""
    subject_latents: Sequence[csr_array] = ()
    """As `latents`, at the last token of the subject's name."""

    def has(self, name: str) -> bool:
        """Say whether there is a table of this name, or another thing that detectors need."""
        if name == "relations":
            return len(set(self.answers.relations)) > 1
        if name == "tokens":
            return self.tokens is not None
        held = {
            "surface": self.answers.texts,
            "probes": self.probes,
            "latents": self.latents,
            "subject_latents": self.subject_latents,
        }
        return len(held[name]) > 0 if name in held else name in self.tables

    @property
    def token_answer(self) -> Int[np.ndarray, " token"]:
        """Number of the answer that each row of `tokens` is of."""
        lengths = [min(len(ids), MOST_TOKENS) for ids in self.answers.token_ids]
        return np.repeat(np.arange(len(lengths)), lengths)
