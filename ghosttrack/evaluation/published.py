"""Detectors that others published, and controls that know nothing of the model: a row each.

Source: perplexity and mean token entropy, Fomicheva 2020; sequence probability, Malinin 2021;
CoCoA, Vashurin 2025; semantic entropy, Kuhn 2023 (here without likelihoods, Farquhar 2024);
SelfCheckGPT, Manakul 2023; P(True), Kadavath 2022; PMI, Holtzman 2021. Learners name their own.
"""

from functools import partial

import numpy as np

from ghosttrack.detector.learners.baselines import Distance, Words
from ghosttrack.detector.learners.classifiers import LINEAR, LabelFree, Learner
from ghosttrack.detector.learners.published import AdditiveLatents, EntropyProbe, Perceptron
from ghosttrack.evaluation.spec import (
    OUTPUT,
    DetectorSpec,
    Inputs,
    columns,
    light,
    state_probe,
    untrained,
    whole,
)

SURFACE, IDENTITY, RELATION = "control:surface", "control:answer_identity", "control:relation"


def cocoa(name: str, column: str, sign: int, title: str) -> DetectorSpec:
    """Make the row of an output score times the mean dissimilarity of response and samples."""

    def learner(x: Inputs) -> Learner | None:
        if len(x.names) < 2:
            return None
        product = sign * x.values[:, 0] * (1 - x.values[:, 1])
        return LabelFree(product[:, None], np.array([1]))

    reads = {"output": (column,), "sampling": ("sample_rouge",)}
    return DetectorSpec(name, f"CoCoA by shared words: {title}", reads, learner)


def mind(x: Inputs) -> Learner:
    """Join the mean over layers at the last token with the mean over tokens at the last layer."""
    last, mean = x.data.states["answer_last"].mean(axis=0), x.data.states["answer_mean"][-1]
    return Perceptron(np.concatenate([last, mean], axis=1)[None], x.data.layers[-1:])


PUBLISHED: tuple[DetectorSpec, ...] = (
    untrained(
        "sequence_probability", "probability of the whole answer", ("output", "answer_logprob"), -1
    ),
    untrained("perplexity", "the same, normalised by length", ("output", "mean_logprob"), -1),
    untrained("mean_token_entropy", "mean token entropy", ("output", "mean_entropy"), 1),
    cocoa("cocoa:sequence", "answer_logprob", -1, "sequence probability"),
    cocoa("cocoa:perplexity", "mean_logprob", -1, "perplexity"),
    cocoa("cocoa:entropy", "mean_entropy", 1, "mean token entropy"),
    untrained(
        "semantic_entropy:words", "semantic entropy of samples, clustered by words",
        ("sampling", "sample_semantic_entropy"), 1,
    ),
    untrained(
        "selfcheck:words", "SelfCheck: samples that hold what the answer says, by words",
        ("sampling", "sample_key_support"), -1,
    ),
    untrained(
        "semantic_entropy:entailment", "semantic entropy of samples, clustered by entailment",
        ("entailment", "entailment_semantic_entropy"), 1,
    ),
    untrained(
        "selfcheck:entailment", "SelfCheck: samples that contradict the answer, by entailment",
        ("entailment", "entailment_contradiction"), 1,
    ),
    untrained(
        "eigenscore", "EigenScore: how far apart sampled answers lie in the middle layer",
        ("eigenscore", "eigenscore"), 1,
    ),
    untrained(
        "verbalised", "probability that the model names for its answer",
        ("verbalised", "verbalised"), -1,
    )._replace(headline=True, color="#4a044e"),
    DetectorSpec(
        "semantic_entropy_probe", "linear probe for semantic entropy, at the answer's last token",
        {"sampling": ("sample_semantic_entropy",)}, needs=("states",), passes={"sampling": 0.0},
        learner=lambda x: EntropyProbe(x.data.states["answer_last"], x.data.layers, x.values[:, 0]),
    ),
    untrained(
        "rauq", "RAUQ: confidence handed on by attention to the last token", ("rauq", "rauq"), 1
    ),
    DetectorSpec(
        "lookback", "lookback ratios of all heads", whole("lookback"), columns(*LINEAR)
    ),
    DetectorSpec(
        "saplma", "SAPLMA: perceptron on the residual stream of one layer", needs=("states",),
        learner=lambda x: Perceptron(x.data.states["answer_last"], x.data.layers),
    ),
    DetectorSpec(
        "mind", "MIND's perceptron, on two means of residual streams", needs=("states",),
        learner=mind,
    ),
    DetectorSpec(
        "sae_additive", "additive model of the SAE latents that tell most, in one layer",
        needs=("probes", "encoders"),
        learner=lambda x: AdditiveLatents(x.data.probes, x.data.layers, *x.data.encoders),
    ),
    DetectorSpec("pmi", "what the question adds to the answer", whole("prior"), light),
    DetectorSpec(
        "pmi+output", "what the question adds to the answer, and output scores",
        whole("prior", "output"), compare_with=OUTPUT,
    ),
    DetectorSpec(
        "p_true", "what the model says of its answer", whole("p_true"), light, headline=True,
        color="#831843",
    ),
    DetectorSpec(
        "p_true+output", "what the model says of its answer, and output scores",
        whole("p_true", "output"), compare_with=OUTPUT,
    ),
    DetectorSpec(
        "mahalanobis", "distance from the residual streams of right answers", needs=("probes",),
        learner=lambda x: Distance(x.data.probes, x.data.layers, relative=False),
    ),
    DetectorSpec(
        "relative_mahalanobis", "the same, less the distance from those of all answers",
        needs=("probes",), learner=lambda x: Distance(x.data.probes, x.data.layers, relative=True),
    ),
)  # fmt: skip

CONTROLS: tuple[DetectorSpec, ...] = (
    DetectorSpec(
        "control:question_tfidf", "words of the question", forwards=0.0,
        learner=lambda x: Words(x.data.answers.asked, "word"),
    ),
    DetectorSpec(
        RELATION, "relation of the question", needs=("relations",), forwards=0.0,
        learner=lambda x: Words(x.data.answers.relations, "whole"),
    ),
    DetectorSpec(
        "control:answer_masked", "ridge probe, the answer masked", needs=("masked",),
        learner=partial(state_probe, places=("masked",)),
    ),
    DetectorSpec(
        "control:answer_tfidf", "words of the answer",
        learner=lambda x: Words(x.data.answers.texts, "word"),
    ),
    DetectorSpec(
        IDENTITY, "which answer it is", learner=lambda x: Words(x.data.answers.texts, "whole")
    ),
    DetectorSpec(SURFACE, "how the answer is written", whole("surface"), light),
)  # fmt: skip
