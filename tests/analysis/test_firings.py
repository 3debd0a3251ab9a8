"""Firings counted in batches, against firings counted one by one."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.analysis.firings import Fired, HeldoutText, Tally, strongest, tally
from ghosttrack.data.corpora import framing, read_corpus, write_corpus
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from tests.data.conftest import corpus_config
from tests.support.tiny import WORDS

D_SAE, N_CONTEXTS, SKIP = 24, 3, 3


@pytest.fixture(scope="module")
def lm(gpt2_folder: Path) -> LM:
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    return LM(model, tokenizer, prepend_bos=True, identity={})


@pytest.fixture(scope="module")
def bank() -> Bank:
    bank = Bank(["layer_1", "layer_2"], 32, D_SAE, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bank.W_enc.normal_(generator=generator)
    return bank.requires_grad_(False)


@pytest.fixture(scope="module")
def text(lm: LM, tmp_path_factory: pytest.TempPathFactory) -> HeldoutText:
    """Documents of one window and of two, none of which begins as another does."""
    generator, words = np.random.default_rng(0), [word for word in WORDS if word.isalpha()]
    documents = [" ".join(generator.choice(words, n)) for n in generator.integers(9, 27, 120)]
    folder, config = tmp_path_factory.mktemp("corpus"), corpus_config(heldout_tokens=700)
    write_corpus(folder, documents, framing(lm, append_eos=False), config, SKIP, 0)
    return HeldoutText.of(read_corpus(folder).heldout.first(600), SKIP, 0)


def one_by_one(lm: LM, bank: Bank, text: HeldoutText) -> list[tuple[int, int, int, float]]:
    """Latent, window, place and activation of every firing, from one window at a time."""
    found = []
    for window, (start, end) in enumerate(pairwise(text.windows.bounds.tolist())):
        ids = torch.from_numpy(text.windows.ids[start:end]).long()[None]
        resid = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [1, 2])
        acts = bank.encode(resid[:, 0])
        for hook in range(2):
            for pos in range(SKIP, end - start):
                for value, index in zip(
                    acts.values[hook, pos].tolist(), acts.indices[hook, pos].tolist(), strict=True
                ):
                    if value > 0:
                        found.append((hook * D_SAE + index, window, start + pos, value))
    return found


def test_counts_and_contexts_are_those_of_every_firing(lm: LM, bank: Bank, text: HeldoutText):
    firings, ids, second = one_by_one(lm, bank, text), text.windows.ids, text.in_second
    found = tally(lm, bank, text, 8, N_CONTEXTS)
    assert len({latent for latent, *_ in firings}) > D_SAE
    tokens = np.zeros((2, 2 * D_SAE, lm.d_vocab), dtype=int)
    for latent, _, place, _ in firings:
        tokens[int(second[place]), latent, ids[place]] += 1
    for half in range(2):
        np.testing.assert_array_equal(found.half(half).toarray(), tokens[half])
    for latent in range(2 * D_SAE):
        own = [one for one in firings if one[0] == latent]
        assert found.windows[latent] == len({one[1] for one in own if second[one[2]]})
        assert found.activation[latent] == pytest.approx(sum(one[3] for one in own), rel=1e-4)
        best: dict[int, float] = {}
        for *_, place, value in own:
            document = int(text.windows.documents[place])
            best[document] = max(best.get(document, 0.0), value)
        wanted = sorted(best.items(), key=lambda one: -one[1])[:N_CONTEXTS]
        top = found.strongest.of(found.strongest.latent == latent)
        assert text.windows.documents[top.place].tolist() == [one[0] for one in wanted]
        np.testing.assert_allclose(top.value, [one[1] for one in wanted], rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(lm: LM, bank: Bank, text: HeldoutText, batch_size: int):
    whole, parts = (tally(lm, bank, text, size, N_CONTEXTS) for size in (1000, batch_size))
    assert (whole.tokens != parts.tokens).nnz == 0
    np.testing.assert_array_equal(whole.windows, parts.windows)
    np.testing.assert_array_equal(whole.strongest.latent, parts.strongest.latent)
    np.testing.assert_array_equal(whole.strongest.place, parts.strongest.place)
    np.testing.assert_allclose(whole.activation, parts.activation, rtol=1e-4)


def test_what_is_read_is_what_a_half_counts(lm: LM, text: HeldoutText):
    found = Tally(text, 1, lm.d_vocab, 1)
    both = found.frequency(0) + found.frequency(1)
    kept = np.concatenate(
        [text.windows.ids[a + SKIP : b] for a, b in pairwise(text.windows.bounds)]
    )
    np.testing.assert_array_equal(both, np.bincount(kept, minlength=lm.d_vocab))
    assert 0.3 < found.frequency(1).sum() / both.sum() < 0.7


def test_a_document_is_in_one_half_whichever_windows_it_takes(text: HeldoutText):
    windows = text.windows
    assert len(np.unique(windows.documents)) < len(windows.lengths)
    for document in np.unique(windows.documents):
        assert len(set(text.in_second[windows.documents == document].tolist())) == 1


def test_of_equal_firings_the_first_in_the_text_is_kept():
    latent, place = np.zeros(4, dtype=np.int64), np.array([5, 2, 0, 4])
    fired = Fired(latent, place, np.array([1, 1, 1, 2], dtype=np.float32))
    documents = np.array([0, 0, 1, 1, 2, 3], dtype=np.int32)
    assert strongest(fired, documents, 3).place.tolist() == [4, 0, 2]
