"""What the model tells of its answer when it is asked more than the question.

Sources: P(True), Kadavath 2022; verbalised confidence, Tian 2023; the answer's prior, pointwise
mutual information as in Holtzman 2021; the question after its answer, a noisy channel, Min 2022;
other answers of its own, semantic entropy (Kuhn 2023) with clusters by words (`sampling.py`);
EigenScore, Chen 2024 (INSIDE).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.table import FRACTION, LOG_PROB, REAL, Table, define
from ghosttrack.models import score
from ghosttrack.models.generate import GenerateSettings, generate, work
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import last_residuals, n_to_read
from ghosttrack.models.score import Texts
from ghosttrack.questions.ready_answers import ReadyAnswer
from ghosttrack.questions.sets import QuestionSet

QUESTION, ANSWER = "{question}", "{answer}"
VERDICTS = ("True", "False")
CONFIDENCE_TOKENS = 6
PROBABILITY = re.compile(r"(\d+(?:\.\d+)?) ?(%|percent)?")
RIDGE = 1e-3
"""Added to the eigenvalues in EigenScore, as its authors do."""
PRIOR_SPECS = define(
    "prior",
    ("prior_logprob", LOG_PROB, +1, "lp of the answer after no question"),
    ("pmi", REAL, -1, "lp of the answer minus its prior"),
    ("mean_pmi", REAL, -1, "the same per token"),
)
REVERSE_SPECS = define(
    "reverse", ("reverse_pmi", REAL, -1, "lp of the question after its answer minus after none")
)
P_TRUE_SPECS = define("p_true", ("p_true", FRACTION, -1, "probability of True against False"))
CONFIDENCE_SPECS = define(
    "verbalised", ("verbalised", FRACTION, -1, "probability that the model names")
)
EIGENSCORE_SPECS = define(
    "eigenscore", ("eigenscore", REAL, +1, "mean log eigenvalue of samples' middle-layer states")
)


class Drawn(NamedTuple):
    """Other answers to the same questions."""

    rows: list[ReadyAnswer]
    texts: list[list[int]]
    """Prompt and sample in tokens; the samples of one question after those of the one before."""


def prior_table(lm: LM, answers: Answers, template: str) -> Table | None:
    """Score each answer after the prompt without its question; None where nothing is left of it.

    `template` is the prompt around a question.
    """
    empty = lm.encode(template.replace(QUESTION, ""))
    if not empty:
        return None
    pairs = np.array([(0, at) for at in range(len(answers))]).reshape(-1, 2)
    prior = _logprobs(lm, "scoring answers unasked", [empty], answers.token_ids, pairs)
    pmi = answers.output.column("answer_logprob") - prior
    n_tokens = np.array([len(ids) for ids in answers.token_ids])
    names = tuple(spec.name for spec in PRIOR_SPECS)
    return Table(names, np.column_stack([prior, pmi, pmi / n_tokens]))


def reverse_table(lm: LM, answers: Answers, template: str) -> Table | None:
    """Score each question after its answer and after none, in the template turned around.

    None where the template cannot be turned, or a text does not fit the model.
    """
    turned = reversed_template(template)
    if turned is None:
        return None
    asked = [lm.encode(f" {text}", prefix=False) for text in answers.asked]
    prompts = lm.encode_all([turned.replace(ANSWER, text) for text in (*answers.texts, "")])
    if any(len(a) + len(b) > lm.n_ctx for a, b in zip(prompts, asked, strict=False)):
        return None
    each = np.arange(len(asked))
    prompt = np.append(each, np.full_like(each, len(asked)))  # the last is without an answer
    pairs = np.column_stack([prompt, np.tile(each, 2)])
    found = _logprobs(lm, "scoring questions after answers", prompts, asked, pairs)
    return Table(("reverse_pmi",), np.subtract(*found.reshape(2, -1))[:, None])


UNASKED: Mapping[str, tuple[Callable[[LM, Answers, str], Table | None], float]] = {
    "prior": (prior_table, 1.0),
    "reverse": (reverse_table, 2.0),
}
"""Tables that any answer has, made from its prompt's template, and their passes."""


def p_true_table(lm: LM, answers: Answers, template: str, asking: str) -> Table:
    """Ask the model whether each answer is true.

    `template` is the prompt around a question, `asking` a text with `{question}` and `{answer}`
    that "True" or "False" continues, after a blank unless it ends in one.
    """
    prompts = about(lm, answers, template, asking)
    blank = "" if asking[-1:].isspace() else " "
    verdicts = [lm.encode(blank + text, prefix=False) for text in VERDICTS]
    pairs = np.array([(row, said) for said in (0, 1) for row in range(len(prompts))])
    found = _logprobs(lm, "asking whether it is true", prompts, verdicts, pairs.reshape(-1, 2))
    true, false = found.reshape(2, -1)
    return Table(("p_true",), expit(true - false)[:, None])


def _logprobs(
    lm: LM,
    title: str,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    pairs: Int[np.ndarray, "pair 2"],
) -> Float[np.ndarray, " pair"]:
    """Score pairs of a prompt and an answer, by number; `title` names what is done."""
    texts = Texts(list(map(tuple, prompts)), list(map(tuple, answers)), [()] * len(prompts))
    with Meter(title, score.work(lm, texts, pairs)) as meter:
        return score.total(lm, texts, pairs, read=meter.advance).logprobs


def confidence_table(lm: LM, answers: Answers, template: str, asking: str) -> Table:
    """Let the model say how likely each answer is right; NaN where it names no probability.

    `template` and `asking` are as in `p_true_table`, but that a number continues.
    """
    settings = GenerateSettings(CONFIDENCE_TOKENS, ("\n",))
    prompts = about(lm, answers, template, asking)
    with Meter("asking how sure it is", work(lm, prompts, settings)) as meter:
        said = generate(lm, prompts, settings, meter.advance)
    return Table(("verbalised",), np.array([[named_probability(one.text)] for one in said]))


def named_probability(text: str) -> float:
    """Read the first number of a text as a probability, whole ones as percent; NaN if it is none.

    >>> [named_probability(text) for text in ("I am 85% sure", "0.7", "1", "1984")]
    [0.85, 0.7, 0.01, nan]
    """
    found = PROBABILITY.search(text)
    if found is None:
        return np.nan
    value = float(found[1])
    is_share = "." in found[1] and not found[2] and value <= 1
    share = value if is_share else value / 100
    return share if share <= 1 else np.nan


def about(lm: LM, answers: Answers, template: str, asking: str) -> list[list[int]]:
    """Put every question and its answer into a text that asks about both."""
    pairs = zip(answers.prompts, answers.texts, strict=True)
    return lm.encode_all(
        [
            asking.replace(QUESTION, bare(prompt, template)).replace(ANSWER, text)
            for prompt, text in pairs
        ]
    )


def draw_samples(
    lm: LM, questions: QuestionSet, answers: Answers, n_samples: int, seed: int
) -> Drawn:
    """Let the model answer each question again, at temperature 1, all in one batch."""
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    settings = GenerateSettings(
        questions.max_new_tokens, questions.stop, temperature=1.0, samples=n_samples, seed=seed
    )
    with Meter("sampling", work(lm, prompts, settings)) as meter:
        said = generate(lm, prompts, settings, meter.advance)
    texts = [one.text for one in said]
    rows = zip(answers.prompts, answers.texts, answers.groups, strict=True)
    drawn = (tuple(texts[at : at + n_samples]) for at in range(0, len(texts), n_samples))
    return Drawn(
        [
            ReadyAnswer(prompt, text, (), None, samples, (), group)
            for (prompt, text, group), samples in zip(rows, drawn, strict=True)
        ],
        [[*prompts[one.prompt], *one.token_ids] for one in said],
    )


def eigenscore_table(lm: LM, texts: Sequence[Sequence[int]], n_samples: int) -> Table:
    """Read the samples of each question, `texts` as in `Drawn`, and say how far apart they lie."""
    with Meter("reading samples", n_to_read(lm, texts)) as meter:
        (states,) = last_residuals(lm, texts, [middle_block(lm.n_layers)], meter.advance)
    sampled = states.reshape(-1, n_samples, lm.d_model)
    return Table(("eigenscore",), np.array([[eigenscore(one)] for one in sampled]))


def middle_block(n_layers: int) -> int:
    """Give the block whose stream EigenScore's authors read: hidden state (n + 1) // 2 of 0 to n.

    >>> [middle_block(n) for n in (1, 6, 7, 32)]
    [0, 2, 3, 15]
    """
    return (n_layers - 1) // 2


def eigenscore(states: Float[np.ndarray, "sample d_model"]) -> float:
    """Average the log of the eigenvalues of Z J Z' + `RIDGE`, J centring each state on its mean.

    >>> round(eigenscore(np.array([[1.0, -1.0], [1.0, -1.0]])), 3)  # eigenvalues 4 and 0
    -2.761
    """
    centred = states.astype(np.float64) - states.mean(axis=1, keepdims=True, dtype=np.float64)
    spectrum = np.linalg.eigvalsh(centred @ centred.T)
    return float(np.log(np.maximum(spectrum, 0.0) + RIDGE).mean())


def bare(prompt: str, template: str) -> str:
    r"""Take a question out of its prompt.

    >>> bare("Q: Who?\nA:", "Q: {question}\nA:")
    'Who?'
    """
    before, _, after = template.partition(QUESTION)
    return prompt.removeprefix(before).removesuffix(after)


def reversed_template(template: str) -> str | None:
    r"""Set answers before their questions, those that are shown too.

    None where a template is not a line with the question and one with the answer, after blocks of
    two such lines.

    >>> reversed_template("Q: Who?\nA: Anna\n\nQ: {question}\nA:")
    'A: Anna\nQ: Who?\n\nA: {answer}\nQ:'
    """
    *shown, last = template.split("\n\n")
    before, _, after = last.partition(QUESTION)
    mark = after.strip()
    if not (before.strip() and mark and after.startswith("\n")) or "\n" in before + mark:
        return None
    turned = []
    for block in shown:
        question, _, said = block.removeprefix(before).rpartition(f"\n{mark} ")
        if not (question and block.startswith(before)):
            return None
        turned.append(f"{mark} {said}\n{before}{question}")
    return "\n\n".join([*turned, f"{mark} {ANSWER}\n{before.rstrip()}"])
