"""Answers of no model, for tests of what comes after the model."""

import numpy as np

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.table import Table


def made_up_answers(n: int, n_groups: int, seed: int = 0, informative: float = 1.0) -> Answers:
    """Answer `n` questions about `n_groups` entities; output scores tell labels apart a little.

    The hidden difficulty of an entity moves label and probability; words and order tell nothing.
    """
    generator = np.random.default_rng(seed)
    group_of = np.sort(generator.integers(n_groups, size=n))
    hidden = generator.normal(size=n_groups)[group_of] + generator.normal(size=n)
    labels = (hidden > 0).astype(np.int64)
    logprobs = -np.exp(0.7 * informative * hidden + generator.normal(size=n))
    relations = [f"r{index % 4}" for index in range(n)]
    names = [f"entity{one}" for one in generator.permutation(n_groups)]
    values = [f"value{one}" for one in generator.integers(40, size=n)]
    output = np.column_stack([logprobs, -logprobs + generator.normal(size=n)])
    prompts = tuple(
        f"the {relation} of {names[group]} number {index} is"
        for index, (relation, group) in enumerate(zip(relations, group_of, strict=True))
    )
    return Answers(
        question_ids=tuple(f"q{index}" for index in range(n)),
        groups=tuple(names[group] for group in group_of),
        prompts=prompts,
        asked=prompts,
        subjects=tuple(names[group] for group in group_of),
        relations=tuple(relations),
        tiers=("head",) * n,
        exposures=np.maximum(0, 10 - np.round(4 * hidden)).astype(np.int64),
        texts=tuple(values),
        references=(("value",),) * n,
        labels=labels,
        categories=tuple("wrong" if label else "correct" for label in labels),
        other_categories=tuple("wrong" if label else "correct" for label in labels),
        prob=np.exp(logprobs),
        token_ids=tuple((int(one),) for one in generator.integers(100, size=n)),
        logprobs=tuple((float(one),) for one in logprobs),
        entropies=((0.0,),) * n,
        margins=((0.0,),) * n,
        output=Table(("mean_logprob", "mean_entropy"), output),
    )
