"""Do sampled answers follow from one another, or contradict the response? A model reads them.

Every text is read after its question. Sources: semantic entropy, Kuhn 2023 and, as here without
likelihoods, Farquhar 2024; SelfCheckGPT, Manakul 2023, its NLI variant on the whole response.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from jaxtyping import Bool
from scipy.special import entr

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.self_checks import bare
from ghosttrack.detector.table import FRACTION, POSITIVE, Table, define
from ghosttrack.models.entailment import KINDS, Entailment
from ghosttrack.questions.ready_answers import ReadyAnswer

ENTAILMENT_SPECS = define(
    "entailment",
    ("semantic_entropy", POSITIVE, +1, "entropy over samples that entail one another"),
    ("contradiction", FRACTION, +1, "mean probability that a sample contradicts the response"),
    prefix="entailment_",
)
ENTAILED, CONTRADICTED = KINDS.index("entail"), KINDS.index("contradict")


def entailment_table(model: Entailment, rows: Sequence[ReadyAnswer], template: str) -> Table:
    """Compare the samples of each answer with one another and with its response.

    `template` is the prompt around a question. A pair of texts is read once, and the same text
    twice never: it entails itself.
    """
    texts = [
        [f"{bare(row.question, template)} {text}" for text in (row.response, *row.samples)]
        for row in rows
    ]
    pairs = sorted({pair for said in texts for pair in permutations(dict.fromkeys(said), 2)})
    with Meter("entailment", len(pairs), unit="pairs") as meter:
        told = dict(zip(pairs, model.probs(pairs, meter.advance), strict=True))
    itself = np.eye(len(KINDS))[ENTAILED]
    values = []
    for said in texts:
        probs = np.array([[told.get((one, other), itself) for other in said] for one in said])
        follows = probs[1:, 1:].argmax(axis=-1) == ENTAILED
        against = probs[1:, 0, CONTRADICTED]
        decided = against + probs[1:, 0, ENTAILED]
        values.append((cluster_entropy(follows & follows.T), (against / decided).mean()))
    return Table(tuple(spec.name for spec in ENTAILMENT_SPECS), np.array(values))


def cluster_entropy(same: Bool[np.ndarray, "sample sample"]) -> float:
    """Compute the entropy of clusters; each text joins the first whose first text says the same.

    >>> round(cluster_entropy(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)), 3)
    0.637
    """
    firsts: list[int] = []
    sizes: list[int] = []
    for text in range(len(same)):
        joined = next((at for at, first in enumerate(firsts) if same[text, first]), None)
        if joined is None:
            firsts.append(text)
            sizes.append(1)
        else:
            sizes[joined] += 1
    return float(entr(np.array(sizes) / len(same)).sum())
