"""What a report says before anything in it is opened: a verdict, three numbers, four answers."""

from collections.abc import Mapping
from math import isfinite, nan
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ghosttrack.evaluation.result import ALL, SHUFFLE, Evaluation, Pair, Row
from ghosttrack.evaluation.roster import TITLES, leads
from ghosttrack.report.tables import number, with_interval

OWN = "output"
"""Detector that reads nothing but the model's own probabilities."""
SURFACE = "control:surface"
CHANCE = 0.5
RANKED = 100
"""Answers of the rarer label, below which two good detectors cannot be told apart."""


HIDDEN = 0.6
"""AUROC of a leak that canaries are to find."""


class KeyNumber(NamedTuple):
    """A number that is read from afar."""

    value: str
    interval: str
    says: str


class Answered(NamedTuple):
    """A question that every reader has."""

    question: str
    answer: str
    anchor: str
    """Section that shows what the answer rests on."""


def leader(evaluation: Evaluation) -> str:
    """Name the detector that a report opens with, and whose probability stands beside each answer.

    Where the roster names none that leads, it is that of most forward passes.
    """
    rows = [row for row in evaluation.rows if row.subset == ALL]
    costly = max(rows, key=lambda row: row.forwards).detector
    return leads(evaluation.recommended, evaluation.scores) or costly


def choices(evaluation: Evaluation) -> list[str]:
    """Say what inner folds choose, of how many answers, and what that choice is worth."""
    said = []
    for row, name in evaluation.recommended.items():
        counts = "{:,} right and {:,} hallucinated answers".format(*_counts(evaluation))
        text = f"{row}: {name}, which the inner folds choose on {counts}"
        if _is_few(evaluation):
            text = f"{row}: {counts} are too few to choose; the inner folds take {name}"
        pair = evaluation.pair(row, OWN)
        if pair is not None and isfinite(pair.delta):
            ends = f"[{pair.ci.low:+.3f}, {pair.ci.high:+.3f}]"
            text = f"{text}; AUROC of such a choice less that of {OWN} {pair.delta:+.3f} {ends}"
        said.append(f"{text}.")
    return said


def _counts(evaluation: Evaluation) -> tuple[int, int]:
    """Count right and hallucinated answers."""
    n_wrong = round(evaluation.n_judged * evaluation.hallucinated_frac)
    return evaluation.n_judged - n_wrong, n_wrong


def _is_few(evaluation: Evaluation) -> bool:
    return min(_counts(evaluation)) < RANKED


def verdict(evaluation: Evaluation, detector: str) -> str:
    """Say in one sentence whether a detector is any good, by chance and by the model's own say."""
    row, pair = evaluation.row(detector), evaluation.pair(detector, OWN)
    area = f"AUROC {with_interval(row.auroc, row.auroc_ci)}"
    name = f"{detector} ({TITLES[detector]})" if detector in TITLES else detector
    if detector in evaluation.recommended:
        few = ", from too few answers to be sure" if _is_few(evaluation) else ""
        name = f"{detector} ({TITLES[detector]}{few}: {evaluation.recommended[detector]})"
    if not row.auroc_ci.low > CHANCE:
        return f"{name} is not shown to tell hallucinated answers from right ones: {area}."
    said = (
        f"{name} ranks a hallucinated answer above a right one in {100 * row.auroc:.0f} of 100"
        f" pairs ({area})"
    )
    return f"{said}{_against(pair)}." if pair is not None else f"{said}."


def thin(labels: Int[np.ndarray, " answer"]) -> list[str]:
    """Warn where few answers are right, or few are wrong."""
    n_wrong = int(labels.sum())
    n, word = min((len(labels) - n_wrong, "right"), (n_wrong, "hallucinated"))
    if n >= RANKED:
        return []
    return [
        f"Only {n} {word} answers: a good detector can be told from a useless one, two good ones"
        " cannot be ranked."
    ]


def _against(pair: Pair) -> str:
    if pair.ci.low > 0:
        return f", {number(pair.delta)} more than the model's own probabilities do"
    if pair.ci.high < 0:
        return f", {number(-pair.delta)} less than the model's own probabilities do"
    return ", which is not shown to be more than the model's own probabilities do"


def key_numbers(evaluation: Evaluation, detector: str) -> list[KeyNumber]:
    """Choose three: how well, how much beyond the model's own probabilities, at what cost."""
    row, pair = evaluation.row(detector), evaluation.pair(detector, OWN)
    gain = (
        KeyNumber(
            f"{pair.delta:+.3f}", _ends(pair.ci, "+"), "AUROC beyond the model's own probabilities"
        )
        if pair is not None and isfinite(pair.delta)
        else KeyNumber(
            number(row.ece_unbiased),
            _ends(row.intervals.get("ece_unbiased")),
            "calibration error (ECE less its bias)",
        )
    )
    return [
        KeyNumber(number(row.auroc), _ends(row.auroc_ci), f"AUROC of {detector}; chance is 0.5"),
        gain,
        KeyNumber(f"{row.forwards:.3g}", "", "forward passes per answer"),
    ]


def _ends(interval: tuple[float, float] | None, sign: str = "") -> str:
    if interval is None or not all(map(isfinite, interval)):
        return ""
    low, high = interval
    return f"95 % interval {low:{sign}.3f} to {high:{sign}.3f}"


def answered(
    evaluation: Evaluation, detector: str, facts: Mapping[str, str], seconds: float
) -> list[Answered]:
    """Answer what a reader asks first.

    Args:
        evaluation: Holds the numbers.
        detector: Whose they are.
        facts: What was run.
        seconds: The whole run took.
    """
    row = evaluation.row(detector)
    model = facts.get("model", "this model").split(",")[0]
    took = f"{seconds:.0f} s" + (f" ({facts['machine']})" if "machine" in facts else "")
    good = (
        f"Of the answers that it flags {_percent(row.precision)} are hallucinated, of all answers"
        f" {_percent(evaluation.hallucinated_frac)}; it finds {_percent(row.recall)} of the"
        f" hallucinated ones. Its probabilities are off by {number(row.ece)} on average."
        f"{_surface(evaluation)}"
    )
    other = (
        f"Not known: all numbers are of {model} and of these questions, in folds that keep a"
        " question or entity together. Another model has its detector fitted and judged anew, on"
        f" questions with references of which it answers {RANKED} rightly and {RANKED} wrongly, or"
        " more: python detect.py experiment=real_model model.path=… questions=file questions.path=…"
    )
    leak = f"{leaks(evaluation)}{_shuffled(evaluation, detector)}"
    return [
        Answered("Is it any good?", good, "detectors"),
        Answered("What did it cost?", _cost(evaluation, row, took), "cost"),
        Answered("Would it work on my model?", other, "limits"),
        Answered("What shows that the numbers are no leaks?", leak, "canaries"),
    ]


def _surface(evaluation: Evaluation) -> str:
    """Say what can be told without understanding, where that was judged."""
    for row in evaluation.rows:
        if row.detector == SURFACE and row.subset == ALL and isfinite(row.auroc):
            area = with_interval(row.auroc, row.auroc_ci)
            return f" {SURFACE}, which understands nothing, comes to AUROC {area}."
    return ""


def _shuffled(evaluation: Evaluation, detector: str) -> str:
    """Say what the leader comes to where labels are shuffled."""
    name = f"{SHUFFLE}:{detector}"
    if not isfinite(evaluation.canaries.get(name, nan)):
        return ""
    area = with_interval(evaluation.canaries[name], evaluation.canaries_ci[name])
    return f" {detector}, learned and judged by shuffled labels: {area}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if isfinite(share) else "–"


def _cost(evaluation: Evaluation, row: Row, took: str) -> str:
    said = f"{row.forwards:.3g} forward passes per answer, its own included; this run took {took}."
    best = of_one_pass(evaluation)
    return said if row.forwards <= 1 or not best else f"{said} The best here that needs {best}."


def of_one_pass(evaluation: Evaluation) -> str:
    """Name the best detector of one pass, with its AUROC; nothing where there is none."""
    cheap = [
        one
        for one in evaluation.rows
        if one.subset == ALL and one.forwards <= 1 and isfinite(one.auroc) and not is_beside(one)
        if one.detector not in evaluation.recommended
    ]
    if not cheap:
        return ""
    best = max(cheap, key=lambda one: one.auroc)
    area = with_interval(best.auroc, best.auroc_ci)
    return f"one pass, {best.detector}: AUROC {area} on {best.n:,} answers"


def is_beside(row: Row) -> bool:
    """Whether a row is no detector that could be used: a null, a control, an oracle."""
    return row.detector.startswith(("null:", "control:")) or row.detector == ORACLE


ORACLE = "exposure_oracle"
"""Knows how often the training text named the fact, as only a generated world tells."""


def leaks(evaluation: Evaluation) -> str:
    """Say what the inputs found that know nothing of hallucination."""
    known = [value for value in evaluation.canaries.values() if isfinite(value)]
    if not known:
        return "No canary could be judged here."
    said = (
        f"{len(known)} canaries, inputs that know nothing of hallucination, were judged in the same"
        f" way: AUROC {number(min(known), 2)} to {number(max(known), 2)}"
    )
    if evaluation.singing:
        return f"{said}; above chance, so beware: {', '.join(evaluation.singing)}."
    if evaluation.signals:
        told = ", ".join(f"{name} ({why})" for name, why in evaluation.signals.items())
        return f"{said}; above chance, which is no leak: {told}; no other is{_room(evaluation)}."
    return f"{said}, none shown to be above chance{_room(evaluation)}."


def _room(evaluation: Evaluation) -> str:
    """Say how great a leak canaries could have missed."""
    ends = sorted(
        ci.high
        for name, ci in evaluation.canaries_ci.items()
        if ci.low < ci.high and name not in evaluation.signals
    )
    if not ends:
        return "; too few answers for an interval, so nothing is excluded"
    few = "; so few answers can hide a leak" if ends[len(ends) // 2] > HIDDEN else ""
    return (
        f". Their intervals end at {number(ends[0], 2)} to {number(ends[-1], 2)}: a smaller leak is"
        f" not excluded{few}"
    )
