"""What an answer's tokens attend to: RAUQ and the lookback ratio.

Sources: RAUQ, Vazhentsev 2025; Lookback Lens, Chuang 2024.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import starmap

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.table import POSITIVE, Table, define
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import equal_length_batches
from ghosttrack.models.sharing import read_together

OWN_SHARE = 0.2
"""Weight of a token's own probability in RAUQ's confidence; the rest is handed on."""
RAUQ_SPECS = define(
    "rauq", ("rauq", POSITIVE, +1, "-mean log confidence handed on by attention to the last token")
)

Weights = Float[Tensor, "layer head said key"]
"""Of an answer's tokens, on all up to themselves."""


def attention_tables(
    lm: LM, answers: Answers, read: Callable[[int], object] = lambda _: None
) -> dict[str, Table]:
    """Read every prompt with its answer once: tables `rauq` and `lookback`.

    What most prompts begin with is read once for all. None of the tables where the model tells no
    weights; `read` is told how many tokens were read.
    """
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    texts = [(*prompt, *ids) for prompt, ids in zip(prompts, answers.token_ids, strict=True)]
    risks, ratios = np.empty(len(texts)), dict[int, np.ndarray]()
    for rows, past in _batches(lm, texts, [len(prompt) - 1 for prompt in prompts]):
        n_past = past.get_seq_length() if past else 0
        layers = lm.attention(torch.tensor([texts[row][n_past:] for row in rows]), past)
        if not layers:
            return {}
        for row, weights in zip(rows, torch.stack(layers, dim=1).float().cpu(), strict=True):
            n_prompt, own = len(prompts[row]), weights[..., len(prompts[row]) - n_past :, :]
            risks[row] = rauq(previous(own, n_prompt), np.array(answers.logprobs[row]))
            ratios[row] = lookback(own, n_prompt)
        read(sum(len(texts[row]) for row in rows))
    names = tuple(starmap("lookback/{}/{}".format, np.ndindex(ratios[0].shape)))
    values = np.stack([ratios[row].ravel() for row in range(len(texts))]).astype(np.float64)
    return {"rauq": Table(("rauq",), risks[:, None]), "lookback": Table(names, values)}


def _batches(
    lm: LM, texts: Sequence[tuple[int, ...]], limits: Sequence[int]
) -> Iterator[tuple[list[int], DynamicCache | None]]:
    """Yield rows of equal length, with what they begin with where it is read already."""
    longest = max(map(len, texts), default=0)
    floats = lm.n_layers * lm.model.config.get_text_config().num_attention_heads * longest

    def can_share() -> bool:
        return lm.can_share and longest <= lm.window  # else a cache forgets the first keys

    for members, shared in read_together(texts, limits, can_share):
        past = lm.remember(shared) if shared else None
        rest = [texts[row][len(shared) :] for row in members]
        for batch in equal_length_batches(rest, floats):
            yield [members[at] for at in batch], past


def previous(own: Weights, n_prompt: int) -> Float[np.ndarray, "layer head handed"]:
    """Give what each answer token, from the second on, attends to the one before it."""
    return own.diagonal(offset=n_prompt - 1, dim1=-2, dim2=-1)[..., 1:].numpy()


def lookback(own: Weights, n_prompt: int) -> Float[np.ndarray, "layer head"]:
    """Average over the answer's tokens what share of attention goes to the prompt.

    Of a token's weights on the prompt and on the answer up to itself, means over tokens, not sums,
    are compared.
    """
    n_said = torch.arange(1, own.shape[-2] + 1)
    before = own[..., :n_prompt].mean(-1)
    said = own[..., n_prompt:].sum(-1) / n_said
    return (before / (before + said)).mean(-1).numpy()


def rauq(
    previous: Float[np.ndarray, "layer head handed"], logprobs: Float[np.ndarray, " token"]
) -> float:
    """Hand a token's confidence on to the next by attention; least sure of the middle layers.

    c_1 = p_1, c_i = a p_i + (1 - a) w_i c_(i-1), with a = `OWN_SHARE` and w_i what token i attends
    to the one before it in that head of the layer which does so most; the score is the greatest
    -mean log c over the middle third of the layers.

    >>> round(rauq(np.full((1, 2, 1), 0.5), np.log([0.5, 0.25])), 4)  # c: .5, .05 + .8 * .25
    1.0397
    """
    n = len(previous)
    middle = previous[n // 3 : -(-2 * n // 3) + 1]
    heads = middle.mean(axis=-1).argmax(axis=-1) if len(logprobs) > 1 else 0
    handed = middle[np.arange(len(middle)), heads]
    confidence = [np.full(len(middle), np.exp(logprobs[0]))]
    for weight, logprob in zip(handed.T, logprobs[1:], strict=True):
        own = OWN_SHARE * np.exp(logprob)
        confidence.append(own + (1 - OWN_SHARE) * weight * confidence[-1])
    sureness = np.log(np.maximum(confidence, 1e-30)).mean(axis=0)
    return float(-sureness.min())
