import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.data.corpora import (
    Framing,
    corpus_windows,
    framing,
    shuffled,
)
from ghosttrack.data.windows import Windows
from ghosttrack.errors import ConfigError, DataError
from tests.data.conftest import corpus_config, sentences

# A text's characters are its tokens; 1 starts a window, 2 ends a document.
LETTERS = Framing(lambda texts: [[ord(c) for c in text] for text in texts], (1,), (2,), 64)


def letters(windows: Windows) -> list[tuple[int, str]]:
    bounds = zip(windows.bounds[:-1], windows.bounds[1:], strict=True)
    return [
        (int(document), "".join(map(chr, windows.ids[start:end])))
        for document, (start, end) in zip(windows.documents, bounds, strict=True)
    ]


def test_a_document_is_cut_into_windows_that_each_start_with_the_prefix():
    config = corpus_config(context=4, num_tokens=100, heldout_tokens=1)
    corpus = corpus_windows(["abcdefg", "hi"], LETTERS, config, skip_first=1, seed=0)
    found = dict(enumerate(["abcdefg\2", "hi\2"]))
    for document, text in letters(corpus.train):
        assert text[0] == "\1"
        assert len(text) <= 4
        assert found[document].startswith(text[1:])
        found[document] = found[document].removeprefix(text[1:])
    assert "" in found.values()


@given(
    st.lists(st.text("abc", max_size=30), max_size=40),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_parts_share_no_document_and_end_at_exactly_their_tokens(
    documents, num_tokens, heldout_tokens, skip_first, seed
):
    config = corpus_config(context=8, num_tokens=num_tokens, heldout_tokens=heldout_tokens)
    total = sum(
        max(min(len(text) + 1 - start, 7) + 1 - skip_first, 0)
        for text in documents
        for start in range(0, len(text) + 1, 7)
    )
    try:
        corpus = corpus_windows(documents, LETTERS, config, skip_first, seed)
    except DataError:
        assert total < num_tokens + heldout_tokens + max(map(len, documents), default=0) + 64
        return
    assert not set(corpus.train.documents) & set(corpus.heldout.documents)
    n_train, n_heldout = (int(windows.kept(skip_first).sum()) for windows in corpus)
    assert n_train <= num_tokens
    assert n_heldout <= heldout_tokens
    if total > num_tokens + heldout_tokens + 64:
        assert (n_train, n_heldout) == (num_tokens, heldout_tokens)


def test_a_short_corpus_gives_a_fifth_to_heldout_and_says_so(caplog):
    config = corpus_config(context=8, num_tokens=1000, heldout_tokens=1000)
    corpus = corpus_windows(["abc"] * 50, LETTERS, config, skip_first=1, seed=0)
    assert [len(windows.documents) for windows in corpus] == [40, 10]
    assert "corpus.num_tokens=1000" in caplog.text


def test_more_training_tokens_leave_heldout_as_it_was():
    small, large = (
        corpus_windows(sentences(99), LETTERS, corpus_config(num_tokens=n), 1, seed=3)
        for n in (500, 1500)
    )
    assert letters(small.heldout) == letters(large.heldout)
    assert letters(large.train)[: len(small.train.documents) - 1] == letters(small.train)[:-1]


def test_one_document_cannot_be_both_parts():
    with pytest.raises(DataError, match="need one document each"):
        corpus_windows(["abcdef"], LETTERS, corpus_config(), skip_first=1, seed=0)


@pytest.mark.parametrize(("context", "skip_first"), [(1, 0), (2, 2)])
def test_windows_that_keep_nothing_are_refused(context, skip_first):
    with pytest.raises(ConfigError, match=r"^corpus\.context="):
        corpus_windows(["abc"], LETTERS, corpus_config(context=context), skip_first, seed=0)


def test_a_context_beyond_the_models_is_refused():
    with pytest.raises(ConfigError, match=r"corpus\.context=65 exceeds .* 64"):
        corpus_windows(["abc"], LETTERS, corpus_config(context=65), 1, seed=0)


@pytest.mark.parametrize("number", [None, 0])
def test_text_needs_its_numbers(number):
    with pytest.raises(ConfigError, match=rf"corpus\.num_tokens must be at least 1, got {number}"):
        corpus_config(num_tokens=number)


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
