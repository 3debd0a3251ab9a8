"""From the features of new answers to judgements of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.artifacts import is_complete
from ghosttrack.detector.answers.self_checks import UNASKED, bare
from ghosttrack.detector.judgement import (
    About,
    Hypothesis,
    Judge,
    Judgement,
    Promoter,
    Spoken,
    TokenRisk,
    explain,
)
from ghosttrack.detector.learners.calibration import shifted
from ghosttrack.detector.learners.classifiers import STREAMING
from ghosttrack.detector.learners.fitted import FittedDetector, values_of, with_parts
from ghosttrack.detector.table import StatisticSpec
from ghosttrack.detector.tracks.attribution import promote, promoted_tokens
from ghosttrack.detector.tracks.streaming import Stream
from ghosttrack.files import read_json
from ghosttrack.models.generate import GenerateSettings, generate
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.report.contents import TrackView
from ghosttrack.scoring.features import AnswerFeatures

N_HYPOTHESES = 5
"""Competing answers that are shown."""
N_PROMOTERS = 3
"""Tracks that are named beside each."""
ONE_PASS = frozenset({"output", "lens", "tracks"})
"""Tables that there is a row of at every token."""
SEEN = ONE_PASS - {"output"}
"""Of them, those that take reading the answer token by token."""
ANY_ANSWER = ONE_PASS | {"states", "latents", "scores", *UNASKED}
"""Tables that there is a row of for every answer, whatever is known of its question."""


@dataclass(frozen=True)
class RankedDetectors:
    """The detectors that may speak, the best first.

    Attributes:
        fitted: None empty.
        judges: Parallel to them.
        ranks: Their places in the order in which they are asked.
        specs: By name, what a statistic means.
    """

    fitted: tuple[FittedDetector, ...]
    judges: tuple[Judge, ...]
    ranks: tuple[int, ...]
    specs: Mapping[str, StatisticSpec]

    @classmethod
    def of(
        cls, fitted: Sequence[FittedDetector], specs: Sequence[StatisticSpec], evaluation: Path
    ) -> "RankedDetectors":
        """Set beside each detector what its evaluation, if that is there, found it to be worth.

        The one that it recommends is asked first, then by AUROC; those that it did not judge last.
        """
        found = read_json(evaluation / "evaluation.json") if is_complete(evaluation) else {}
        worth = {row["detector"]: row for row in found.get("rows", ()) if row["subset"] == "all"}
        judges = tuple(_judge(one, worth.get(one.name)) for one in fitted)
        first = found.get("recommended", {}).get("recommended")
        ranks = sorted(
            range(len(fitted)),
            key=lambda at: (fitted[at].name != first, -np.nan_to_num(judges[at].auroc, nan=-1.0)),
        )
        return cls(tuple(fitted), judges, tuple(ranks), {spec.name: spec for spec in specs})

    @cached_property
    def asked(self) -> tuple[FittedDetector, ...]:
        """Those that may be asked, up to the first that any answer can feed, and their parts."""
        held: dict[str, FittedDetector] = {}
        for at in self.ranks:
            if self.fitted[at].name == STREAMING:
                continue
            own = with_parts(self.fitted[at], self._named)
            held |= {one.name: one for one in own}
            if {table for one in own for table in one.tables} <= ANY_ANSWER:
                break
        return tuple(held.values())

    @cached_property
    def _named(self) -> dict[str, FittedDetector]:
        return {one.name: one for one in self.fitted}

    @property
    def reads(self) -> frozenset[str]:
        """Tables that those read."""
        return frozenset(table for one in self.asked for table in one.tables)

    def verdicts(
        self, features: AnswerFeatures, notes: Sequence[tuple[str, ...]]
    ) -> tuple[Judgement, ...] | None:
        """Judge every answer of a batch, each by the first detector that it can feed.

        What happened token by token, and what else could have been said, is left to `complete`.

        Returns:
            None where one that reads what is seen at every token may have to speak, and that is
            not looked at yet.
        """
        values = list(values_of(self.fitted, features.tables).values())
        lacks = np.stack([one.lacks(held) for one, held in zip(self.fitted, values, strict=True)])
        unseen = [at for at in self.ranks if features.stream is None and self._sees_tokens(at)]
        lacks[unseen] = True
        whole = [at for at in self.ranks if self.fitted[at].name != STREAMING]
        assert not lacks[whole].all(axis=0).any(), "not even output scores"
        best = [next(at for at in whole if not lacks[at, row]) for row in range(len(notes))]
        if not {at for one in best for at in whole[: whole.index(one)]}.isdisjoint(unseen):
            return None
        judged = []
        for row, (question, at) in enumerate(zip(features.questions.questions, best, strict=True)):
            about = About(question.subject, features.found.rivals[row])
            one, held = self.fitted[at], values[at][row]
            judged.append(
                Judgement(
                    prompt=question.prompt,
                    question=bare(question.prompt, features.template),
                    subject=question.subject,
                    answer=features.answers.texts[row],
                    category=features.answers.categories[row],
                    own_prob=float(features.answers.prob[row]),
                    probability=float(one.prob(held[None])[0]),
                    judge=self.judges[at],
                    streamer=self.judges[at],
                    tokens=(),
                    hypotheses=(),
                    explanation=explain(one, held, self.specs, about, self._spoken(values, row)),
                    owner=about.rival,
                    owner_gap=float(features.found.gaps[row]),
                    references=question.answers,
                    notes=(*notes[row], *self._passed_over(values, row, at)),
                )
            )
        return tuple(judged)

    def complete(
        self, lm: LM, features: AnswerFeatures, judged: Sequence[Judgement]
    ) -> tuple[Judgement, ...]:
        """Add the risk at every token, and the competing answers."""
        values = values_of(self.fitted, features.tables).values()
        lacks = np.stack([one.lacks(held) for one, held in zip(self.fitted, values, strict=True)])
        one_pass = [at for at in self.ranks if set(self.fitted[at].tables) <= ONE_PASS]
        one_pass.sort(key=lambda at: self.fitted[at].name != STREAMING)
        hypotheses, found = compete(lm, features), []
        for row, one in enumerate(judged):
            at = next(at for at in one_pass if not lacks[at, row])
            tokens = _tokens(lm, features, row, self.fitted[at])
            said = {"streamer": self.judges[at], "tokens": tokens, "hypotheses": hypotheses[row]}
            found.append(replace(one, **said))
        return tuple(found)

    def _sees_tokens(self, at: int) -> bool:
        return any(SEEN & {*one.tables} for one in with_parts(self.fitted[at], self._named))

    def _spoken(self, values: Sequence[Float[np.ndarray, "_ _"]], row: int) -> dict[str, Spoken]:
        pairs = zip(self.fitted, values, strict=True)
        return {one.name: (one, held[row]) for one, held in pairs}

    def _passed_over(
        self, values: Sequence[Float[np.ndarray, "_ _"]], row: int, best: int
    ) -> list[str]:
        """Say why detectors that come before the one that speaks could not."""
        said: dict[str, list[str]] = {}
        for at in self.ranks[: self.ranks.index(best)]:
            one, held = self.fitted[at], values[at]
            if one.name == STREAMING:
                continue
            missing = np.isnan(held[row]) & ~one.has_holes
            names = [one.columns[at].partition(":")[2] for at in np.flatnonzero(missing)]
            families = dict.fromkeys(
                self.specs[name].family for name in names if name in self.specs
            )
            said.setdefault(", ".join(families), []).append(one.name)
        return [
            f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not asked: statistics of"
            f" {families} need what this prompt does not bring"
            for families, names in said.items()
        ]


def compete(lm: LM, features: AnswerFeatures) -> list[tuple[Hypothesis, ...]]:
    """Spell the likeliest answers out, each begun with another token, and name what promotes them.

    Tracks are those at the last token of the prompt.
    """
    questions, stream = features.questions, features.stream
    assert stream is not None, "nothing is known of the tokens"
    prompts = [lm.encode(question.prompt) for question in questions.questions]
    begun = [
        (row, token)
        for row, first in enumerate(stream.first)
        for token in _beginnings(lm, stream.readings.candidates[first], questions.stop)
    ]
    wholes = _finish(lm, [(prompts[row], token) for row, token in begun], questions)
    scores = score(lm, [prompts[row] for row, _ in begun], wholes)
    promoters = _promoters(stream)
    found: list[list[Hypothesis]] = [[] for _ in prompts]
    for (row, token), whole, said in zip(begun, wholes, scores, strict=True):
        mine = promoters.get((int(stream.first[row]), token), [])
        found[row].append(
            Hypothesis(
                text=lm.decode(whole).strip(),
                prob=float(np.exp(said.logprobs.sum())),
                push=sum(one.push for one in mine),
                promoters=tuple(mine[:N_PROMOTERS]),
                is_answer=tuple(whole) == features.answers.token_ids[row],
            )
        )
    return [tuple(sorted(one, key=lambda held: -held.prob)) for one in found]


def track_view(lm: LM, stream: Stream) -> TrackView | None:
    """Give the tracks of every token the form that pages draw; a sample is a row of the stream."""
    if stream.followed is None:
        return None
    evidence, tracks = stream.followed
    promotion = promote(tracks, evidence.attribution)
    words = promoted_tokens(promotion, tracks, stream.readings.candidates, lm.decode)
    observations = evidence.observed.observations
    return TrackView(tracks, observations, stream.layers, words, promotion.logits)


def read_words(lm: LM, text: str) -> tuple[list[str], list[str]]:
    """Part a text's words into those that the tokenizer has tokens for, and the others."""
    words = list(dict.fromkeys(re.findall(r"\w+", text)))
    unknown = lm.tokenizer.unk_token_id
    if unknown is None or unknown == lm.tokenizer.eos_token_id:  # GPT-2's: it can spell everything
        return words, []
    lost = [word for word in words if unknown in lm.encode(word, prefix=False)]
    return [word for word in words if word not in lost], lost


def _judge(fitted: FittedDetector, row: Mapping[str, Any] | None) -> Judge:
    found = (row["auroc"], *row["auroc_ci"]) if row else (None, None, None)
    auroc, low, high = (nan if number is None else float(number) for number in found)
    known = fitted.prevalence
    assumed = float(shifted(np.array([known]), fitted.calibration.shift)[0])
    return Judge(fitted.name, auroc, low, high, fitted.threshold, known, assumed)


def _tokens(
    lm: LM, features: AnswerFeatures, row: int, fitted: FittedDetector
) -> tuple[TokenRisk, ...]:
    """Judge each token of one answer from what was known when it was there."""
    ids, stream = features.answers.token_ids[row], features.stream
    assert stream is not None, "nothing is known of the tokens"
    start = int(stream.first[row])
    rows = np.arange(start, start + len(ids))
    tables = {name: table.take(rows) for name, table in stream.tables.items()}
    risks = fitted.prob(fitted.values(tables))
    probs = np.exp(features.answers.logprobs[row])
    return tuple(
        TokenRisk(lm.decode([token]).strip(), float(prob), float(risk))
        for token, prob, risk in zip(ids, probs, risks, strict=True)
    )


def _beginnings(
    lm: LM, candidates: Int[np.ndarray, " candidate"], stop: Sequence[str]
) -> list[int]:
    """Take the first tokens of competing answers: the likeliest that begin one at all."""
    special = set(lm.tokenizer.all_special_ids)
    return [
        token
        for token in candidates.tolist()
        if token not in special and not any(mark in lm.decode([token]) for mark in stop)
    ][:N_HYPOTHESES]


def _finish(
    lm: LM, begun: Sequence[tuple[list[int], int]], questions: QuestionSet
) -> list[list[int]]:
    """Let the model go on greedily from each beginning; return answers, beginnings included."""
    n_left = questions.max_new_tokens - 1
    if not n_left:
        return [[token] for _, token in begun]
    settings = GenerateSettings(n_left, questions.stop)
    ends = generate(lm, [[*prompt, token] for prompt, token in begun], settings)
    return [[token, *end.token_ids] for (_, token), end in zip(begun, ends, strict=True)]


def _promoters(stream: Stream) -> dict[tuple[int, int], list[Promoter]]:
    """Collect confirmed tracks by row and promoted token, the strongest first."""
    if stream.followed is None:
        return {}
    evidence, tracks = stream.followed
    latents, _ = evidence.observed.observations
    promotion = promote(tracks, evidence.attribution)
    wanted = np.isin(tracks.sample, stream.first) & tracks.confirmed & (promotion.logits > 0)
    found: dict[tuple[int, int], list[Promoter]] = {}
    for track in sorted(np.flatnonzero(wanted), key=lambda track: -promotion.logits[track]):
        row = int(tracks.sample[track])
        layers, slots = np.nonzero(tracks.track_of[row] == track)
        token = int(stream.readings.candidates[row, promotion.candidates[track]])
        seen = tuple(latents[row, layers, slots].tolist())
        blocks = tuple(stream.layers[layer] for layer in layers)
        promoter = Promoter(blocks, seen, float(promotion.logits[track]))
        found.setdefault((row, token), []).append(promoter)
    return found
