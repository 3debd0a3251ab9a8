"""The world in words: the training text, the text for a bank, and the tokenizer that reads it."""

import hashlib
import itertools
import math
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Final

from ghosttrack.data.config import Coverage
from ghosttrack.world.facts import Fact, WorldSpec, build, rng_of
from ghosttrack.world.relations import RELATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EOS: Final = "<eos>"
"""Stands before and after every document."""
EOS_ID: Final = 0
UNKNOWN: Final = "<unk>"
"""Stands for any word that the world lacks."""


def prompt(wording: str, subject: str) -> str:
    """Put a subject into a wording; the model goes on with the answer.

    >>> prompt("where was {subject} born?", "Mara Velten")
    'Where was Mara Velten born?'
    """
    text = wording.format(subject=subject)
    return text[0].upper() + text[1:]


def documents(spec: WorldSpec) -> list[str]:
    """Write the training text: one sentence or question with its answer per document, shuffled.

    A fact is stated as often as its exposure says, its wordings in turn.
    """
    return _shuffled(build(spec).facts, rng_of(spec, "documents"))


def bank_text(spec: WorldSpec, coverage: Coverage) -> list[str]:
    """Write the text that a bank learns from; each kind of it is about as long.

    Facts that the language model never read are part of it unless it is the natural one.
    """
    if coverage is Coverage.natural:
        return documents(spec)
    facts = build(spec).facts
    n_sentences = sum(fact.exposure for fact in facts)
    if coverage is Coverage.held_out:
        groups = covered_groups(spec)
        facts = tuple(fact for fact in facts if fact.entity.group in groups)
    times = math.ceil(n_sentences / len(facts))
    stated = [fact._replace(exposure=times) for fact in facts]
    return _shuffled(stated, rng_of(spec, "even documents"))


def covered_groups(spec: WorldSpec) -> frozenset[str]:
    """Choose half of the entities of every kind and tier: a world lists them by both."""
    return frozenset(entity.group for entity in build(spec).entities[::2])


def _shuffled(facts: Iterable[Fact], rng: Random) -> list[str]:
    texts = list(itertools.chain(*(_statements(fact, rng.random()) for fact in facts)))
    rng.shuffle(texts)
    return texts


def _statements(fact: Fact, start: float) -> list[str]:
    """State a fact `exposure` times, beginning with the wording at fraction `start` of the list."""
    wordings = fact.relation.trained
    first = int(start * len(wordings))
    return [
        f"{prompt(wordings[(first + turn) % len(wordings)], fact.entity.name)} {fact.answer}."
        for turn in range(fact.exposure)
    ]


def make_tokenizer(spec: WorldSpec) -> "PreTrainedTokenizerFast":
    """Make the tokenizer of a world: lower-case words and punctuation marks, one token each."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from transformers import PreTrainedTokenizerFast

    splitter = BertPreTokenizer()
    wordings = [
        wording for relation in RELATIONS for wording in (*relation.trained, *relation.held_out)
    ]
    world = build(spec)
    texts = [wording.format(subject="") for wording in wordings] + ["."]
    texts += [*world.name_parts, *(answer.lower() for answer in world.answers)]
    words = dict.fromkeys(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    vocabulary = {word: index for index, word in enumerate((EOS, UNKNOWN, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS, unk_token=UNKNOWN
    )


def vocabulary_hash(tokenizer: "PreTrainedTokenizerFast") -> str:
    """SHA-256 of the tokens in the order of their ids."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()
