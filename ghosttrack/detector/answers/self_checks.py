"""What the model tells of its answer when it is asked more than the question.

Sources: P(True), Kadavath 2022; the answer's prior, pointwise mutual information as in Holtzman
2021; other answers of its own, semantic entropy (Kuhn 2023) with clusters by words (`sampling.py`).
"""

import numpy as np

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.table import FRACTION, LOG_PROB, REAL, Table, define
from ghosttrack.models.generate import GenerateSettings, generate, work
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score
from ghosttrack.questions.ready_answers import ReadyAnswer
from ghosttrack.questions.sets import QuestionSet

QUESTION, ANSWER = "{question}", "{answer}"
VERDICTS = (" True", " False")
PRIOR_SPECS = define(
    "prior",
    ("prior_logprob", LOG_PROB, +1, "lp of the answer after no question"),
    ("pmi", REAL, -1, "lp of the answer minus its prior"),
    ("mean_pmi", REAL, -1, "the same per token"),
)
P_TRUE_SPECS = define("p_true", ("p_true", FRACTION, -1, "probability of True against False"))


def prior_table(lm: LM, answers: Answers, template: str) -> Table | None:
    """Score each answer after the prompt without its question; None where nothing is left of it.

    `template` is the prompt around a question.
    """
    empty = lm.encode(template.replace(QUESTION, ""))
    if not empty:
        return None
    prior = np.array(
        [one.logprobs.sum() for one in score(lm, [empty] * len(answers), answers.token_ids)],
        dtype=np.float64,
    )
    pmi = answers.output.column("answer_logprob") - prior
    n_tokens = np.array([len(ids) for ids in answers.token_ids])
    names = tuple(spec.name for spec in PRIOR_SPECS)
    return Table(names, np.column_stack([prior, pmi, pmi / n_tokens]))


def p_true_table(lm: LM, answers: Answers, template: str, asking: str) -> Table:
    """Ask the model whether each answer is true.

    `template` is the prompt around a question, `asking` a text with `{question}` and `{answer}`
    that " True" or " False" continues.
    """
    prompts = [
        lm.encode(asking.replace(QUESTION, bare(prompt, template)).replace(ANSWER, text))
        for prompt, text in zip(answers.prompts, answers.texts, strict=True)
    ]
    verdicts = [lm.encode(text, prefix=False) for text in VERDICTS]
    true, false = (
        np.array([one.logprobs.sum() for one in score(lm, prompts, [ids] * len(prompts))])
        for ids in verdicts
    )
    return Table(("p_true",), (1 / (1 + np.exp(false - true))).astype(np.float64)[:, None])


def draw_samples(
    lm: LM, questions: QuestionSet, answers: Answers, n_samples: int, seed: int
) -> list[ReadyAnswer]:
    """Let the model answer each question again, at temperature 1, all in one batch."""
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    settings = GenerateSettings(
        questions.max_new_tokens, questions.stop, temperature=1.0, samples=n_samples, seed=seed
    )
    with Meter("sampling", work(lm, prompts, settings)) as meter:
        texts = [one.text for one in generate(lm, prompts, settings, meter.advance)]
    rows = zip(answers.prompts, answers.texts, answers.groups, strict=True)
    drawn = (tuple(texts[at : at + n_samples]) for at in range(0, len(texts), n_samples))
    return [
        ReadyAnswer(prompt, text, (), None, samples, (), group)
        for (prompt, text, group), samples in zip(rows, drawn, strict=True)
    ]


def bare(prompt: str, template: str) -> str:
    r"""Take a question out of its prompt.

    >>> bare("Q: Who?\nA:", "Q: {question}\nA:")
    'Who?'
    """
    before, _, after = template.partition(QUESTION)
    return prompt.removeprefix(before).removesuffix(after)
