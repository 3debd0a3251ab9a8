"""Answers of the embedded model, measured by GhostTrack, and read once more by transformers alone.

What others are told comes out of the second reading: nothing of it went through GhostTrack but the
tokens.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2LMHeadModel

from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.attention import attention_tables
from ghosttrack.detector.answers.entailment import entailment_table
from ghosttrack.detector.answers.sampling import sampling_table
from ghosttrack.detector.answers.self_checks import (
    Drawn,
    draw_samples,
    eigenscore_table,
    prior_table,
)
from ghosttrack.detector.table import Table
from ghosttrack.models.entailment import Entailment
from ghosttrack.models.load import load_lm
from ghosttrack.world.facts import FOLDER, load_spec
from ghosttrack.world.questions import question_set
from tests.world.conftest import shipped_config

N_SAMPLES = 8
TEMPLATE = "{question}"


@dataclass(frozen=True)
class Reading:
    """One text as transformers reads it."""

    logprobs: np.ndarray
    """[token vocabulary], of the answer's tokens."""
    said: np.ndarray
    """Log-probability of each token that was said."""
    alone: np.ndarray
    """The same after no question."""
    attention: np.ndarray
    """[layer head token token], of the answer's tokens to one another."""


@dataclass(frozen=True)
class Asked:
    """What is known of the answers."""

    answers: Answers
    tables: Mapping[str, Table]
    """What GhostTrack measured."""
    readings: Sequence[Reading]
    """What others are told."""
    samples: Sequence[tuple[str, ...]]
    embeddings: np.ndarray
    """[answer sample d_model]: residual stream after the middle block, at a sample's last token."""
    layers: int
    heads: int

    @property
    def d_vocab(self) -> int:
        return self.readings[0].logprobs.shape[1]


class ByWords(Entailment):
    """Judges two texts by the words that they share and by chance: one may follow from another that
    does not follow from it, and saying the same makes no clusters."""

    def __init__(self) -> None:
        pass

    def probs(self, pairs, read=lambda _: None):
        found = np.empty((len(pairs), 3))
        for row, (one, other) in enumerate(pairs):
            first, second = (set(text.lower().split()) for text in (one, other))
            shared = len(first & second) / len(first | second)
            seed = int.from_bytes(hashlib.sha256(f"{one}|{other}".encode()).digest()[:8])
            logits = np.array([4 * shared, 1.5, 4 - 4 * shared])
            logits += np.random.default_rng(seed).normal(size=3)
            found[row] = np.exp(logits) / np.exp(logits).sum()
        return found


def ask(n: int = 200, seed: int = 0) -> Asked:
    """Let the embedded model answer, and measure what it says twice."""
    lm = load_lm(shipped_config(), FOLDER, "cpu")
    # Without a stop an answer has its full stop as well: two tokens at least.
    questions = replace(question_set(load_spec(FOLDER), n, seed), stop=(), max_new_tokens=6)
    answers = answer(lm, questions)
    drawn = draw_samples(lm, questions, answers, N_SAMPLES, seed)
    answers = replace(answers, texts=tuple(map(_said, answers.texts)))
    drawn = drawn._replace(
        rows=[
            row._replace(response=_said(row.response), samples=tuple(map(_said, row.samples)))
            for row in drawn.rows
        ]
    )
    prior = prior_table(lm, answers, TEMPLATE)
    assert prior is not None
    tables = {
        "output": answers.output,
        "sampling": sampling_table(drawn.rows),
        "entailment": entailment_table(ByWords(), drawn.rows, TEMPLATE),
        "eigenscore": eigenscore_table(lm, drawn.texts, N_SAMPLES),
        "prior": prior,
        **attention_tables(lm, answers),
    }
    plain = GPT2LMHeadModel.from_pretrained(FOLDER, attn_implementation="eager").eval()
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    empty = lm.encode("")
    said = list(map(list, answers.token_ids))
    return Asked(
        answers,
        tables,
        [_read(plain, *one, empty) for one in zip(prompts, said, strict=True)],
        [row.samples for row in drawn.rows],
        _embeddings(plain, drawn),
        plain.config.n_layer,
        plain.config.n_head,
    )


def _said(text: str) -> str:
    """Leave out all marks, which not everybody takes for words."""
    return " ".join(re.findall(r"\w+", text.partition(".")[0]))


@torch.no_grad()
def _read(model: GPT2LMHeadModel, prompt: list[int], said: list[int], empty: list[int]) -> Reading:
    own = slice(len(prompt), None)
    whole = model(torch.tensor([prompt + said]), output_attentions=True)
    logprobs = whole.logits[0].double().log_softmax(-1)[len(prompt) - 1 : -1].numpy()
    alone = model(torch.tensor([empty + said])).logits[0].double().log_softmax(-1)
    at = np.arange(len(said))
    return Reading(
        logprobs,
        logprobs[at, said],
        alone[len(empty) - 1 : -1].numpy()[at, said],
        torch.cat(whole.attentions)[..., own, own].double().numpy(),
    )


@torch.no_grad()
def _embeddings(model: GPT2LMHeadModel, drawn: Drawn) -> np.ndarray:
    found = []
    for start in range(0, len(drawn.texts), N_SAMPLES):
        texts = drawn.texts[start : start + N_SAMPLES]
        padded = pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True)
        states = model(padded, output_hidden_states=True).hidden_states[model.config.n_layer // 2]
        found.append(states[torch.arange(len(texts)), [len(ids) - 1 for ids in texts]])
    return torch.stack(found).double().numpy()
