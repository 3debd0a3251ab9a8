"""What a fitted detector says of one answer, and why, for programs, pages and callers.

The reasons are the scorer's own parts (`fitted`), column by column and in words: with the base they
add up to the log-odds before calibration, which rises with them and changes no order.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, isfinite, nan
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.learners.fitted import QUANTILES, SCORES, FittedDetector, Linear
from ghosttrack.detector.table import StatisticSpec

PROBED = {"states": "the residual stream", "latents": "the SAE's reading of the residual stream"}
"""Tables of many columns without a name of their own, and what they hold."""
PLACES = {
    "prompt_last": "at the prompt's last token",
    "answer_mean": "on average over the answer",
    "answer_last": "at the answer's last token",
}
"""Of residual streams."""
NO_VERDICT = {
    "no_answer": "the model gave no answer",
    "echo": "the answer only gives the question back",
}
"""Category of an answer that nothing is to be said of, and why."""


class Reason(NamedTuple):
    """One column's part in a score."""

    name: str
    family: str
    value: float
    """NaN where the answer has none."""
    effect: float
    """Log-odds that it adds: above 0 it raised the risk."""
    text: str
    """What the value says, in words."""
    right: str
    """From where to where the middle half of the right answers lies that the detector was fitted
    on; "" where none has a value."""
    hallucinated: str
    """The same of hallucinated ones."""


class Explanation(NamedTuple):
    """All parts of a score: `base + sum of effects`."""

    base: float
    reasons: tuple[Reason, ...]
    """One per column, the greatest effect first."""

    @property
    def families(self) -> dict[str, float]:
        """Log-odds by family of columns, the greatest first."""
        sums: dict[str, float] = {}
        for reason in self.reasons:
            sums[reason.family] = sums.get(reason.family, 0.0) + reason.effect
        return dict(sorted(sums.items(), key=lambda item: -abs(item[1])))


class TokenRisk(NamedTuple):
    """One token of the answer, judged when it was there and nothing after it."""

    text: str
    prob: float
    """The model's own probability of it."""
    risk: float
    """Calibrated probability that an answer that begins so is hallucinated."""


class Promoter(NamedTuple):
    """A track that argues for a hypothesis."""

    layers: tuple[int, ...]
    """Blocks at which it was seen, ascending."""
    latents: tuple[int, ...]
    """The SAE latent at each."""
    push: float
    """Its attribution to the hypothesis's first token, in logits above the rivals' mean."""


class Hypothesis(NamedTuple):
    """One of the answers that compete."""

    text: str
    prob: float
    """The model's probability of the whole of it."""
    push: float
    """Sum of its promoters' attributions."""
    promoters: tuple[Promoter, ...]
    """The strongest first."""
    is_answer: bool
    """The model gave it."""


class Judge(NamedTuple):
    """Which detector speaks, and how far it can be trusted."""

    name: str
    auroc: float
    """Cross-validated, on answers that it was not fitted on; NaN: not known."""
    low: float
    high: float
    """95 % interval of the AUROC."""
    threshold: float
    prevalence: float
    """Share of hallucinated answers among those that it was fitted on."""
    assumed: float
    """Share for which it says its risks."""


@dataclass(frozen=True)
class Judgement:
    """One answer and what is to be thought of it."""

    prompt: str
    """As the model got it."""
    question: str
    """What was asked, without what the model is asked by."""
    subject: str
    """Whom the prompt asks about; "" where nobody knows."""
    answer: str
    category: str
    """As in `Answers`; one of `NO_VERDICT` is neither right nor wrong."""
    own_prob: float
    """The model's own probability of the whole answer."""
    probability: float
    """Calibrated probability that the answer is hallucinated."""
    judge: Judge
    streamer: Judge
    """Whose score the tokens have: it sees one pass and needs no more than what was said so far."""
    tokens: tuple[TokenRisk, ...]
    hypotheses: tuple[Hypothesis, ...]
    """By the model's probability."""
    explanation: Explanation
    owner: str
    """The other subject to whom the answer fits best; "" where nobody was asked about."""
    owner_gap: float
    """Own log-probability of the answer minus that subject's, in nats; NaN: not asked."""
    references: tuple[str, ...]
    """Right answers, where they are known."""
    notes: tuple[str, ...]
    """What the reader should know, for example why a better detector could not be used."""
    seconds: float = nan
    """From the prompt to the judgement; of several prompts, each one's share. NaN: not timed."""

    @property
    def is_hallucinated(self) -> bool:
        """Whether there is a verdict, and the probability passes the threshold set in advance."""
        return self.has_verdict and self.probability >= self.judge.threshold

    @property
    def has_verdict(self) -> bool:
        """Whether the answer is one that can be right or wrong."""
        return self.category not in NO_VERDICT

    @property
    def verdict(self) -> str:
        """The same in words."""
        if not self.has_verdict:
            return f"no verdict: {NO_VERDICT[self.category]}"
        return "probably hallucinated" if self.is_hallucinated else "probably right"

    @property
    def has_owner_test(self) -> bool:
        """Whether other subjects were asked about."""
        return bool(self.owner) and isfinite(self.owner_gap)


class About(NamedTuple):
    """Who is spoken of."""

    subject: str = ""
    rival: str = ""
    """The other subject to whom the answer fits best."""

    @property
    def own(self) -> str:
        """The subject, as a sentence names it."""
        return self.subject or "its subject"

    @property
    def other(self) -> str:
        """The rival, as a sentence names it."""
        return self.rival or "another name"


class Sentence(NamedTuple):
    """How a column is spoken of."""

    words: Callable[[float, About], str]
    """What its value says."""
    shown: Callable[[float], str]
    """The value alone, in the unit of the words."""


Spoken = tuple[FittedDetector, Float[np.ndarray, " _"]]
"""A detector and the values of an answer in the order of its columns."""


def explain(
    fitted: FittedDetector,
    values: Float[np.ndarray, " column"],
    specs: Mapping[str, StatisticSpec],
    about: About,
    parts: Mapping[str, Spoken] = MappingProxyType({}),
) -> Explanation:
    """Say what each of the detector's columns added to an answer's score.

    What a detector of `parts`, which it fuses, said is put down to that one's own columns, in
    proportion, where it was weighed linearly. A probe's many columns are one reason. A column
    without a spec is named as it is.
    """
    base, found = _reasons(fitted, values, specs, about, parts)
    reasons = [
        one._replace(text=f"{one.text} {'for' if one.effect > 0 else 'against'} a hallucination")
        if one.family in PROBED
        else one
        for one in found
    ]
    return Explanation(base, tuple(sorted(reasons, key=lambda reason: -abs(reason.effect))))


def _reasons(
    fitted: FittedDetector,
    values: Float[np.ndarray, " column"],
    specs: Mapping[str, StatisticSpec],
    about: About,
    parts: Mapping[str, Spoken],
) -> tuple[float, list[Reason]]:
    """Take a score apart: its base, and one reason of each statistic or probe."""
    base, of = fitted.scorer.parts(values[None])
    found: dict[str, Reason] = {}
    for at, column in enumerate(fitted.columns):
        table, _, name = column.partition(":")
        effect = float(of[0, at])
        if table == SCORES and name in parts and isinstance(fitted.scorer, Linear):
            _, within = _reasons(*parts[name], specs, about, parts)
            slope = float(fitted.scorer.coef[at] / fitted.scorer.scale[at])
            own = [one._replace(effect=slope * one.effect) for one in within]
            base += effect - sum(one.effect for one in own)
        elif table in PROBED:
            own = [_of_probe(table, name, effect)]
        else:
            own = [_of_column(fitted, at, float(values[at]), effect, specs, about)]
        for one in own:
            before = found[one.name].effect if one.name in found else 0.0
            found[one.name] = one._replace(effect=before + one.effect)
    return base, list(found.values())


def _of_column(
    fitted: FittedDetector,
    at: int,
    value: float,
    effect: float,
    specs: Mapping[str, StatisticSpec],
    about: About,
) -> Reason:
    table, _, name = fitted.columns[at].partition(":")
    middle = [QUANTILES.index(0.25), QUANTILES.index(0.75)]
    usual = fitted.quantiles[:, middle, at]
    spec = specs.get(name)
    right, hallucinated = (_usual(name, *usual[label].tolist()) for label in (0, 1))
    text = say(name, value, spec.definition if spec else name, about)
    return Reason(name, spec.family if spec else table, value, effect, text, right, hallucinated)


def _of_probe(table: str, name: str, effect: float) -> Reason:
    """Name where a probe looked; `name` is of one of its columns, `<where>/<layer>/<number>`."""
    where, layer = name.split("/")[:2] if table == "states" else ("prompt_last", name.split("/")[0])
    text = f"{PROBED[table]} of layer {layer} {PLACES.get(where, where)} speaks"
    return Reason(f"{table}:{where}/{layer}", table, nan, effect, text, "", "")


def say(name: str, value: float, definition: str, about: About) -> str:
    """Put a column's value into words; by its definition where no sentence is known.

    >>> say("paraphrase_min", -3.0, "", About())
    'the wording that suits it least gives the answer 5 %'
    >>> say("half_life", 0.25, "layers until half of the mass is gone, / L/2", About())
    'layers until half of the mass is gone, / L/2: 0.25'
    """
    if np.isnan(value):
        return f"{definition}: not defined here"
    if name in SENTENCES:
        return SENTENCES[name].words(value, about)
    return f"{definition}: {_plain(value)}"


def _usual(name: str, low: float, high: float) -> str:
    if np.isnan(low):
        return ""
    shown = SENTENCES[name].shown if name in SENTENCES else _plain
    return f"{shown(low)} to {shown(high)}"


def percent(prob: float) -> str:
    """Write a probability as people read it.

    >>> percent(0.0), percent(0.0004), percent(0.016), percent(0.5), percent(0.9996)
    ('under 0.01 %', '0.04 %', '1.6 %', '50 %', '99.96 %')
    """
    if not 1e-4 <= prob <= 1 - 1e-4:
        return "under 0.01 %" if prob < 0.5 else "over 99.99 %"
    edge = min(prob, 1 - prob)
    digits = 0 if edge >= 0.02 else 1 if edge >= 0.005 else 2
    return f"{100 * prob:.{digits}f} %"


def times(log_ratio: float) -> str:
    """Write a ratio as people read it.

    >>> times(0.5), times(-5.0), times(30.0)
    ('1.6', '148', 'over 1000')
    """
    ratio = exp(min(abs(log_ratio), 20.0))
    return "over 1000" if ratio > 1000 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _gap(value: float, about: About) -> str:
    if times(value) == "1.0":
        return f"the answer fits another name, {about.other}, about as well"
    if value < 0:
        return f"the answer fits another name, {about.other}, {times(value)} times better"
    return f"of all other names {about.other} fits the answer best, {times(value)} times worse"


def _pmi(value: float, about: About) -> str:
    than = "likelier" if value > 0 else "less likely"
    return f"the answer is {times(value)} times {than} for {about.own} than for others on average"


def _plain(value: float) -> str:
    return f"{value:.3g}"


def _better(value: float) -> str:
    return f"{times(value)}× {'better' if value < 0 else 'worse'}"


def _ratio(value: float) -> str:
    return f"{exp(min(value, 20.0)):.2g}×"


def _exp(value: float) -> str:
    return percent(exp(min(value, 0.0)))


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _prob(sentence: str) -> Sentence:
    return Sentence(lambda value, _: sentence.format(_exp(value)), _exp)


def _share(sentence: str) -> Sentence:
    return Sentence(lambda value, _: sentence.format(_whole_percent(value)), _whole_percent)


SENTENCES: Mapping[str, Sentence] = {
    "owner_gap": Sentence(_gap, _better),
    "owner_pmi": Sentence(_pmi, _ratio),
    "owner_rank": _share("{} of the other names tried give the answer more strongly"),
    "paraphrase_logmean": _prob("other wordings of the question give the answer {}"),
    "paraphrase_min": _prob("the wording that suits it least gives the answer {}"),
    "paraphrase_max": _prob("the wording that suits it best gives the answer {}"),
    "paraphrase_agree": _share("{} of the other wordings lead to the same answer"),
    "answer_logprob": _prob("the model gives its answer {}"),
    "first_logprob": _prob("the model gives the answer's first token {}"),
    "min_logprob": _prob("the model gives the answer's least likely token {}"),
    "mean_logprob": _prob("the model gives the answer's tokens {} on (geometric) average"),
    "commit_depth": _share("the lens settles on the answer after {} of the layers"),
    "winner_share": _share("{} of the late support for the answer is one track's"),
    "prior_share": _share("{} of the support is there without the subject"),
}
"""What values say, for columns whose number is not its own explanation."""
