from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.data import corpora
from ghosttrack.data.config import Packing, TextCorpus
from ghosttrack.data.corpora import (
    ENCODE_BATCH,
    Framing,
    framing,
    read_corpus,
    shuffled,
    write_corpus,
)
from ghosttrack.data.windows import Windows
from ghosttrack.errors import ConfigError, DataError
from tests.data.conftest import corpus_config, sentences

# A text's characters are its tokens; 1 starts a window, 2 ends a document.
LETTERS = Framing(lambda texts: [[ord(c) for c in text] for text in texts], (1,), (2,), 64)


class Read(NamedTuple):
    train: Windows
    heldout: Windows


def read(folder: Path) -> Read:
    return Read(*(part.read(np.arange(len(part.lengths))) for part in read_corpus(folder)))


def cut(documents: Iterable[str], config: TextCorpus, skip_first: int = 1, seed: int = 0) -> Read:
    with TemporaryDirectory() as folder:
        write_corpus(Path(folder), documents, LETTERS, config, skip_first, seed)
        return read(Path(folder))


def letters(windows: Windows) -> list[tuple[set[int], str]]:
    """Each window's documents, and its text."""
    spans = [slice(start, end) for start, end in pairwise(windows.bounds)]
    return [
        (set(windows.documents[span].tolist()), "".join(map(chr, windows.ids[span])))
        for span in spans
    ]


def test_a_document_is_cut_into_windows_that_each_start_with_the_prefix():
    config = corpus_config(context=4, num_tokens=100, heldout_tokens=1)
    found = dict(enumerate(["abcdefg\2", "hijklmn\2"]))
    for document, text in letters(cut(["abcdefg", "hijklmn"], config).train):
        (place,) = document
        assert text[0] == "\1"
        assert len(text) <= 4
        assert found[place].startswith(text[1:])
        found[place] = found[place].removeprefix(text[1:])
    assert "" in found.values()


def test_blocks_are_full_and_hold_every_document_in_turn_with_its_name():
    documents = ["abcdefg", "hi", "", "jklmnop", "q", "rstuvwxyz", "ABC"]
    config = corpus_config(context=5, num_tokens=1000, heldout_tokens=5, packing=Packing.blocks)
    corpus = cut(documents, config)
    for windows in corpus:
        texts = [text for _, text in letters(windows)]
        assert {len(text) for text in texts[:-1]} <= {5}
        assert {text[0] for text in texts} == {"\1"}
        stream = "".join(text[1:] for text in texts)
        assert stream.endswith("\2")
        named = windows.documents[windows.ids != 1]
        places = list(dict.fromkeys(named.tolist()))
        assert stream == "".join(documents[place] + "\2" for place in places)
        lengths = [len(documents[place]) + 1 for place in places]
        assert named.tolist() == np.repeat(places, lengths).tolist()
    held, trained = (set(windows.documents.tolist()) for windows in (corpus.heldout, corpus.train))
    assert sorted(held | trained) == list(range(7))
    assert not held & trained


@given(
    st.lists(st.text("abc", max_size=30), max_size=40),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(0, 3),
    st.integers(0, 9),
    st.sampled_from(Packing),
)
def test_parts_share_no_document_and_end_at_exactly_their_tokens(
    documents, num_tokens, heldout_tokens, skip_first, seed, packing
):
    config = corpus_config(
        context=8, num_tokens=num_tokens, heldout_tokens=heldout_tokens, packing=packing
    )
    stretches = documents if packing is Packing.documents else ["\2".join(documents)]
    total = sum(
        max(min(len(text) + 1 - start, 7) + 1 - skip_first, 0)
        for text in stretches
        for start in range(0, len(text) + 1, 7)
    )
    try:
        corpus = cut(documents, config, skip_first, seed)
    except DataError:
        assert total < 2 * 8  # too few for a window on either side
        return
    shared = set(corpus.train.documents.tolist()) & set(corpus.heldout.documents.tolist())
    assert len(shared) <= 1  # one that outweighs the others
    n_train, n_heldout = (int((windows.lengths - skip_first).sum()) for windows in corpus)
    assert 0 < n_train <= num_tokens
    assert 0 < n_heldout <= heldout_tokens
    if total > num_tokens + heldout_tokens + 64:
        assert n_train >= num_tokens / 2
        assert n_heldout >= heldout_tokens / 2


@pytest.mark.parametrize("packing", Packing)
def test_a_short_corpus_gives_a_fifth_to_heldout_and_says_so(packing, caplog):
    config = corpus_config(context=8, num_tokens=1000, heldout_tokens=1000, packing=packing)
    corpus = cut(["abc"] * 50, config)
    assert [len(set(windows.documents.tolist())) for windows in corpus] == [40, 10]
    assert "corpus.num_tokens=1000" in caplog.text


@pytest.mark.parametrize(("num_tokens", "heldout_tokens"), [(1000, 20), (50, 1000), (1000, 1000)])
def test_of_a_short_corpus_nothing_is_left_over(num_tokens, heldout_tokens):
    config = corpus_config(context=8, num_tokens=num_tokens, heldout_tokens=heldout_tokens)
    corpus = cut(["abc"] * 50, config)
    kept = [int((windows.lengths - 1).sum()) for windows in corpus]
    assert sum(kept) > 200 - 2 * 4  # 50 documents of 4 tokens; a part ends in the midst of one
    assert kept[0] <= num_tokens
    assert kept[1] <= heldout_tokens


def test_more_training_tokens_leave_heldout_as_it_was():
    small, large = (cut(sentences(99), corpus_config(num_tokens=n), seed=3) for n in (500, 1500))
    assert letters(small.heldout) == letters(large.heldout)
    n_whole = len(small.train.lengths) - 1
    assert letters(large.train)[:n_whole] == letters(small.train)[:-1]


@pytest.mark.parametrize("packing", Packing)
@pytest.mark.parametrize("n_others", [0, 1])
def test_a_document_larger_than_the_budget_is_cut(n_others, packing, caplog):
    """Not held out whole, so that next to nothing is left to train on."""
    long = " ".join(map(str, range(300)))
    documents = [*["The end"] * n_others, long]
    asked = {"num_tokens": 600, "heldout_tokens": 150}
    config = corpus_config(context=8, **asked, packing=packing)
    for seed in range(3):
        corpus = cut(documents, config, seed=seed)
        assert [int((windows.lengths - 1).sum()) for windows in corpus] == [600, 150]
        train, heldout = (
            "".join(part[1:] for _, part in letters(windows)).replace("The end\2", "")
            for windows in corpus
        )
        assert long.index(heldout) + len(heldout) <= long.index(train)
    assert "fewer than" not in caplog.text
    assert "held-out text ends within one" in caplog.text


def test_too_little_text_for_two_windows_is_refused():
    with pytest.raises(DataError, match="7 tokens are too few to train on some and hold out"):
        cut(["abcdef"], corpus_config())


@pytest.mark.parametrize(
    ("context", "skip_first", "message"),
    [(1, 0, ""), (2, 2, ""), (65, 1, "65 exceeds .* 64")],
    ids=["no room for a token", "nothing kept", "beyond the model's"],
)
def test_an_impossible_context_is_refused(context, skip_first, message):
    with pytest.raises(ConfigError, match=rf"^corpus\.context={message}"):
        cut(["abc"], corpus_config(context=context), skip_first)


@pytest.mark.parametrize("n_whole", [0, 1, 2])
def test_what_a_kill_left_of_tokenising_is_gone_on_with(tmp_path, n_whole):
    documents = sentences(3 * ENCODE_BATCH)
    config = corpus_config(num_tokens=90_000)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    write_corpus(whole, documents, LETTERS, config, 1, seed=2)
    encoded = 0

    def dying(texts: list[str]) -> Iterator[list[int]]:
        nonlocal encoded
        if encoded == n_whole:
            raise KeyboardInterrupt
        encoded += 1
        return LETTERS.encode(texts)

    with pytest.raises(KeyboardInterrupt):
        write_corpus(killed, documents, LETTERS._replace(encode=dying), config, 1, seed=2)
    with (killed / "tokens.bin").open("ab") as file:
        file.write(b"half a batch")  # what `kill -9` leaves behind
    again = []
    counted = LETTERS._replace(encode=lambda texts: again.append(1) or LETTERS.encode(texts))
    write_corpus(killed, documents, counted, config, 1, seed=2)
    for path in whole.iterdir():
        assert path.read_bytes() == (killed / path.name).read_bytes()
    n_batches = len(np.fromfile(whole / "documents.bin", "<i8")) // 2 // ENCODE_BATCH
    assert len(again) == n_batches - n_whole > 0


def test_a_batch_that_a_power_cut_left_without_its_tokens_is_made_again(tmp_path):
    config = corpus_config(num_tokens=90_000)
    write_corpus(tmp_path, sentences(3 * ENCODE_BATCH), LETTERS, config, 1, seed=2)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (tmp_path / "tokens.bin").open("ab") as file:
        file.truncate(len(whole["tokens.bin"]) // 2)
    write_corpus(tmp_path, sentences(3 * ENCODE_BATCH), LETTERS, config, 1, seed=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_of_long_documents_little_more_than_the_budget_is_tokenised(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "ENCODE_CHARACTERS", 1000)
    config = corpus_config(context=32, num_tokens=3000, heldout_tokens=500)
    write_corpus(tmp_path, ["x" * 400] * 200, LETTERS, config, 1, seed=0)
    assert (tmp_path / "tokens.bin").stat().st_size <= 4 * (3500 + 2 * 1500)


def test_text_needs_its_numbers():
    with pytest.raises(ConfigError, match=r"corpus\.num_tokens must be at least 1, got 0"):
        corpus_config(num_tokens=0)


def test_blocks_need_a_token_that_parts_documents(lm):
    lm.tokenizer.eos_token, eos = None, lm.tokenizer.eos_token
    try:
        with pytest.raises(ConfigError, match=r"corpus\.packing=documents"):
            framing(lm, append_eos=True)
    finally:
        lm.tokenizer.eos_token = eos


def test_documents_are_framed_as_the_model_encodes_them(lm):
    framed = framing(lm, append_eos=True)
    text = "who was born in paris?"
    assert [*framed.prefix, *framed.encode([text])[0]] == lm.encode(text)
    assert framed.suffix == (lm.tokenizer.eos_token_id,)


@given(st.lists(st.text("ab", max_size=9), max_size=30), st.integers(0, 40), st.integers(0, 9))
def test_a_shuffle_yields_every_document_once_whatever_its_buffer(documents, characters, seed):
    drawn = list(shuffled(documents, seed, characters))
    assert sorted(drawn) == list(enumerate(documents))
    assert drawn == list(shuffled(documents, seed, characters))


def test_a_shuffle_reads_no_further_than_its_buffer():
    read = []

    def documents():
        for index in range(1000):
            read.append(index)
            yield "x" * 10

    next(shuffled(documents(), 0, characters=100))
    assert len(read) == 11
