"""What LM-Polygraph and UQLM say of the answers, beside GhostTrack's row for the same method."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from lm_polygraph import estimators
from lm_polygraph.stat_calculators.entropy import EntropyCalculator
from lm_polygraph.stat_calculators.extract_claims import Claim
from lm_polygraph.stat_calculators.semantic_classes import SemanticClassesCalculator
from lm_polygraph.ue_metrics.pred_rej_area import PredictionRejectionArea
from lm_polygraph.ue_metrics.risk_cov_curve import RiskCoverageCurveAUC
from lm_polygraph.ue_metrics.ue_metric import get_random_scores, normalize_metric
from uqlm.black_box import ConsistencyScorer, MatchScorer
from uqlm.nli.cluster import SemanticClusterer
from uqlm.nli.entropy_utils import compute_semantic_entropy
from uqlm.nli.nli import NLI
from uqlm.white_box import SingleLogprobsScorer, TopLogprobsScorer

from ghosttrack.evaluation.bootstrap import once
from ghosttrack.evaluation.roster import find
from ghosttrack.evaluation.scores import score, tabulate
from tests.parity.asked import N_SAMPLES, Asked, ByWords
from tests.parity.compare import Method, column, values

Theirs = Callable[[Asked], np.ndarray]
ENTAIL, NEUTRAL, CONTRADICT = range(3)
RANDOM_ORDERS = 2000


def told(asked: Asked) -> dict[str, object]:
    """Make the statistics that LM-Polygraph's estimators read."""
    stats: dict[str, object] = {
        "greedy_log_likelihoods": [one.said for one in asked.readings],
        "greedy_log_probs": [list(one.logprobs) for one in asked.readings],
        "greedy_lm_log_likelihoods": [one.alone for one in asked.readings],
        "sample_texts": [list(texts) for texts in asked.samples],
        "sample_embeddings": list(asked.embeddings),
        "attention_all": [
            one.attention.reshape(-1, *one.attention.shape[2:]) for one in asked.readings
        ],
        "claims": [[Claim("", "", list(range(len(one.said))))] for one in asked.readings],
    }
    return stats | EntropyCalculator()(stats)


def polygraph(estimator: estimators.Estimator) -> Theirs:
    return lambda asked: np.ravel(estimator(told(asked)))


def rauq(asked: Asked, *, own_reader: bool = False) -> np.ndarray:
    """Score by RAUQ; `own_reader`: on what LM-Polygraph's generation keeps.

    That is, for a token, the attention of the step that wrote it, whose query is the token before.
    """
    stats = told(asked)
    if own_reader:
        itself = [np.diagonal(one.attention, axis1=-2, axis2=-1) for one in asked.readings]
        stats["attention_all"] = [
            np.stack([np.diag(one[:-1], -1) for one in weights.reshape(-1, weights.shape[-1])])
            for weights in itself
        ]
    return estimators.RAUQ(n_layers=asked.layers, n_heads=asked.heads)(stats)


def cocoa(estimator: estimators.Estimator) -> Theirs:
    """Show it ROUGE-L of response and samples where it asks for a cross-encoder."""
    lexical = estimators.LexicalSimilarity("rougeL")

    def theirs(asked: Asked) -> np.ndarray:
        similarity = [
            np.array([lexical._score_single(text, other) for other in others])
            for text, others in zip(asked.answers.texts, asked.samples, strict=True)
        ]
        return estimator({**told(asked), "greedy_sentence_similarity": similarity})

    return theirs


def asked_texts(asked: Asked) -> list[list[str]]:
    """Set every response and its samples after their question."""
    rows = zip(asked.answers.prompts, asked.answers.texts, asked.samples, strict=True)
    return [[f"{prompt} {text}" for text in (said, *others)] for prompt, said, others in rows]


def kinds(texts: Sequence[str]) -> np.ndarray:
    """Judge whether texts follow from one another: [premise hypothesis kind]; each from itself."""
    found = ByWords().probs([(one, other) for one in texts for other in texts])
    found = found.reshape(len(texts), len(texts), 3)
    same = np.array([[one == other for other in texts] for one in texts])
    found[same] = np.eye(3)[ENTAIL]
    return found


def likeliest(texts: Sequence[str]) -> np.ndarray:
    return kinds(texts).argmax(-1)


def unequal(texts: Sequence[str]) -> np.ndarray:
    return np.array([[ENTAIL if one == other else NEUTRAL for other in texts] for one in texts])


def semantic_entropy(classes: Callable[[list[str]], np.ndarray], *, response: bool) -> Theirs:
    """Cluster samples, and the response if it is to be among them, and give the entropy."""

    def theirs(asked: Asked) -> np.ndarray:
        texts = [said[0 if response else 1 :] for said in asked_texts(asked)]
        matrices = {
            "sample_texts": texts,
            "semantic_matrix_classes": np.stack([classes(said) for said in texts]),
            "entailment_id": ENTAIL,
        }
        found = SemanticClassesCalculator()(matrices, [], None)
        estimator = estimators.SemanticEntropy(class_probability_estimation="frequency")
        return estimator({**matrices, **found})

    return theirs


def luq(asked: Asked) -> np.ndarray:
    """Average LUQ of each pair of a sample and the response, read in one direction."""
    found = []
    for texts in asked_texts(asked):
        with np.errstate(divide="ignore"):
            logits = np.log(kinds(texts))[1:, 0]
        pairs = [logits[:, kind][:, None, None] * np.ones((2, 2)) for kind in (ENTAIL, CONTRADICT)]
        names = ("semantic_matrix_entail_logits", "semantic_matrix_contra_logits")
        found.append(estimators.LUQ()(dict(zip(names, pairs, strict=True))).mean())
    return np.array(found)


class Judge(NLI):
    """UQLM's reading of two texts, by `ByWords`."""

    def __init__(self) -> None:
        self.label_mapping, self.probabilities = ["contradiction", "neutral", "entailment"], {}

    def predict_batch(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        return ByWords().probs(pairs)[:, [CONTRADICT, NEUTRAL, ENTAIL]]


def uqlm_entropy(asked: Asked) -> np.ndarray:
    found = []
    for texts in asked_texts(asked):
        shares = [1 / N_SAMPLES] * N_SAMPLES
        clusterer = SemanticClusterer(Judge())
        found.append(compute_semantic_entropy(clusterer.evaluate(texts[1:], None, shares)[2]))
    return np.array(found)


def uqlm_contradiction(asked: Asked) -> np.ndarray:
    texts = asked_texts(asked)
    scorer = ConsistencyScorer(nli=Judge(), scorers=["noncontradiction"])
    said = scorer.evaluate([one[0] for one in texts], [one[1:] for one in texts])
    return -np.array(said["noncontradiction"])


def uqlm_match(asked: Asked) -> np.ndarray:
    said = MatchScorer().evaluate(list(asked.answers.texts), [list(one) for one in asked.samples])
    return -np.array(said)


def uqlm_token(name: str, *, normalised: bool = True) -> Theirs:
    """Give one of UQLM's scores of token probabilities; it is told the whole vocabulary's."""

    def theirs(asked: Asked) -> np.ndarray:
        results = [
            [
                {"logprob": said, "top_logprobs": [{"logprob": other} for other in every]}
                for said, every in zip(one.said, one.logprobs, strict=True)
            ]
            for one in asked.readings
        ]
        single = SingleLogprobsScorer([name], normalised)
        top = TopLogprobsScorer([name], asked.readings[0].logprobs.shape[1])
        scorer = single if name in ("min_probability", "sequence_probability") else top
        return -np.array(scorer.evaluate(results)[name])

    return theirs


def negentropy(d_vocab: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda entropy: entropy / np.log(d_vocab) - 1


def probability(ours: np.ndarray) -> np.ndarray:
    return -np.exp(-ours)


def methods(d_vocab: int) -> tuple[Method, ...]:
    """List what both have; the first four are scores of one pass."""
    lm, entropy = "LM-Polygraph ", find("mean_token_entropy")
    share = "1 - H / log V"
    return (
        Method(
            lm + "MaximumSequenceProbability", find("sequence_probability"),
            polygraph(estimators.MaximumSequenceProbability()),
        ),
        Method(lm + "Perplexity", find("perplexity"), polygraph(estimators.Perplexity())),
        Method(lm + "MeanTokenEntropy", entropy, polygraph(estimators.MeanTokenEntropy())),
        Method(
            lm + "MaxTokenEntropyClaim", column("output", "max_entropy", 1),
            polygraph(estimators.MaxTokenEntropyClaim()),
        ),
        Method("UQLM min_probability", column("output", "min_logprob", -1),
               uqlm_token("min_probability"), probability, "probability"),
        Method("UQLM sequence_probability", find("perplexity"),
               uqlm_token("sequence_probability"), probability, "probability"),
        Method("UQLM sequence_probability, length_normalize=False", find("sequence_probability"),
               uqlm_token("sequence_probability", normalised=False), probability, "probability"),
        Method("UQLM mean_token_negentropy", entropy,
               uqlm_token("mean_token_negentropy"), negentropy(d_vocab), share),
        Method("UQLM min_token_negentropy", column("output", "max_entropy", 1),
               uqlm_token("min_token_negentropy"), negentropy(d_vocab), share),
        Method(lm + "CocoaMSP", find("cocoa:sequence"), cocoa(estimators.CocoaMSP())),
        Method(lm + "CocoaPPL", find("cocoa:perplexity"), cocoa(estimators.CocoaPPL())),
        Method(lm + "CocoaMTE", find("cocoa:entropy"), cocoa(estimators.CocoaMTE())),
        Method(lm + "RAUQ", find("rauq"), rauq, lambda ours: 1 + ours, "1 + ours"),
        Method(
            lm + "RAUQ on what it keeps of attention", find("rauq"),
            partial(rauq, own_reader=True), lambda ours: 1 + ours, "1 + ours",
            differs="ours takes what a token attends to the one before it, as the paper says;"
            " theirs what that one attends to itself",
        ),
        Method(lm + "EigenScore", find("eigenscore"), polygraph(estimators.EigenScore())),
        Method(
            lm + "SemanticEntropyEmpirical", find("semantic_entropy:entailment"),
            semantic_entropy(likeliest, response=False),
        ),
        Method(
            lm + "SemanticEntropyEmpirical of equal texts",
            column("sampling", "sample_exact_entropy", 1), semantic_entropy(unequal, response=True),
        ),
        Method(lm + "LUQ of sample and response", find("selfcheck:entailment"), luq),
        Method(
            lm + "DegMat, Jaccard", column("sampling", "sample_pair_overlap", -1),
            polygraph(estimators.DegMat("Jaccard_score")),
            lambda ours: (1 - 1 / N_SAMPLES) * (1 + ours), "(1 - 1 / n) (1 - ours)",
            differs="theirs takes two empty texts for unlike",
        ),
        Method(
            lm + "LexicalSimilarity, ROUGE-L", column("sampling", "sample_rouge", -1),
            polygraph(estimators.LexicalSimilarity("rougeL")),
            differs="theirs compares samples with one another, ours with the response",
        ),
        Method(
            lm + "MeanPointwiseMutualInformation", column("prior", "mean_pmi", -1),
            polygraph(estimators.MeanPointwiseMutualInformation()),
            differs="theirs leaves the first token's prior out",
        ),
        Method(
            "UQLM semantic entropy", find("semantic_entropy:entailment"), uqlm_entropy,
            differs="theirs takes entailment in one direction as enough",
        ),
        Method(
            "UQLM noncontradiction", find("selfcheck:entailment"), uqlm_contradiction,
            lambda ours: ours - 1, "1 - ours",
            differs="theirs averages both directions, and counts what is neutral",
        ),
        Method(
            "UQLM exact_match", column("sampling", "sample_same", -1), uqlm_match,
            differs="theirs wants the same text, ours most key words",
        ),
    )  # fmt: skip


def compare_metrics(asked: Asked, chosen: Sequence[Method]) -> list[tuple[str, str, float, float]]:
    """Judge rows by AURC and PRR of both: metric, row, ours, theirs."""
    labels = asked.answers.labels
    right, found = 1 - labels, []
    area = PredictionRejectionArea()
    perfect, chance = area(-right, right), get_random_scores(area, right, RANDOM_ORDERS)
    for method in chosen:
        ours = values(method.row, asked)
        ranks = ours.argsort().argsort() / len(ours)
        mine = score(tabulate(labels, ranks, ranks > 0.5), once(len(labels)))
        theirs = normalize_metric(area(ours, right), perfect, chance)
        risk = RiskCoverageCurveAUC()(ours, right)
        found.append(("AURC", method.row.name, float(mine.aurc[0]), float(risk)))
        found.append(("PRR", method.row.name, float(mine.prr[0]), float(theirs)))
    return found
