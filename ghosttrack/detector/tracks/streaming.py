"""Scores while an answer is being written: at every token, from what came before it alone.

Token t of an answer is looked at from the position that predicts it: residual streams, lens and
tracks there, and the output scores of the tokens up to t. What follows t changes nothing, so a
detector of one pass has a score as soon as the token is there. At the first token this is what the
tables `lens` and `tracks` hold of an answer.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.output_scores import output_scores
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import Evidence, gather
from ghosttrack.detector.tracks.lens import commitment
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.novelty import Usual
from ghosttrack.detector.tracks.observe import Standard
from ghosttrack.detector.tracks.statistics import track_statistics
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import Readings, read
from ghosttrack.models.score import TokenScores
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.tracker import Tracker, link
from ghosttrack.tracking.tracks import Tracks


class Instruments(NamedTuple):
    """What it takes to follow the tracks of a new prompt, fitted without it."""

    bank: Bank
    layers: tuple[int, ...]
    """Block index of each of the bank's hook points."""
    standard: Standard
    usual: Usual
    tracker: Tracker
    lengths: LengthNull
    top_k: int


class Spoken(NamedTuple):
    """One answer and how it began."""

    prompt: list[int]
    """Token ids, prefix included."""
    answer: tuple[int, ...]
    """At least one."""
    subject: str
    """As it stands in the prompt; "" where nobody knows."""


class Followed(NamedTuple):
    """What was observed at every token, and the tracks through it."""

    evidence: Evidence
    tracks: Tracks


class Stream(NamedTuple):
    """Tables with a row per token, the tokens of one answer after those of the one before."""

    tables: dict[str, Table]
    """`output`, `lens`, and `tracks` where they are followed."""
    first: Int[np.ndarray, " sample"]
    """Row of each answer's first token."""
    layers: tuple[int, ...]
    """Block index of each layer that was read."""
    readings: Readings
    followed: Followed | None


def stream(
    lm: LM, instruments: Instruments | None, spoken: Sequence[Spoken], output: Table
) -> Stream:
    """Look at every token of every answer from the position that predicts it.

    `output` holds the output scores at every token. Without instruments no tracks are followed, and
    nothing is read without its subject.
    """
    layers = instruments.layers if instruments else (lm.n_layers - 1,)
    rows = [(one, t) for one in spoken for t in range(len(one.answer))]
    readings = read(
        lm,
        [[*one.prompt, *one.answer[:t]] for one, t in rows],
        [one.answer[t : t + 1] for one, t in rows],
        [one.subject if instruments else "" for one, _ in rows],
        layers,
    )
    assert readings.lens is not None, "tokens are read with the lens"
    tables = {"output": output, "lens": commitment(readings.lens, readings.d_vocab)}
    followed = None
    if instruments is not None:
        bank, _, standard, usual, tracker, lengths, top_k = instruments
        evidence = gather(lm, bank, readings, top_k, standard, usual)
        followed = Followed(evidence, link(evidence.observed.observations, *tracker))
        tables["tracks"] = track_statistics(*followed, lengths)
    first = np.array([0, *accumulate(len(one.answer) for one in spoken)])[:-1]
    return Stream(tables, first, layers, readings, followed)


def output_so_far(answers: Answers, n_tokens: int) -> Table:
    """Read the output scores off the beginnings of greedy answers, a row per token.

    Every token of these answers is the model's best; at most `n_tokens` of each are looked at.
    """
    spoken = zip(answers.logprobs, answers.entropies, answers.margins, strict=True)
    whole = [
        TokenScores(*map(np.array, (lp, entropy, np.exp(lp), margin)), argmax_agrees=True)
        for lp, entropy, margin in spoken
    ]
    return output_scores(
        [beginning(one, t + 1) for one in whole for t in range(min(n_tokens, len(one.logprobs)))]
    )


def beginning(scores: TokenScores, n_tokens: int) -> TokenScores:
    """Keep what the first tokens say; whether they agree with the argmax is the whole's."""
    logprobs, entropies, max_probs, margins = (one[:n_tokens] for one in scores[:4])
    return TokenScores(logprobs, entropies, max_probs, margins, scores.argmax_agrees)
