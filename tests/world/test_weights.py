"""The shipped model: it belongs to its recipe, and is what the detector's claims need."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers import AutoTokenizer

from ghosttrack.files import read_json
from ghosttrack.world.facts import FOLDER, WORLD_FILE, WorldSpec
from ghosttrack.world.measure import Verdict, accuracy
from ghosttrack.world.questions import HELD_OUT
from ghosttrack.world.text import make_tokenizer, vocabulary_hash


def test_the_tokenizer_is_that_of_the_spec(shipped_spec: WorldSpec) -> None:
    shipped = AutoTokenizer.from_pretrained(FOLDER)
    made = make_tokenizer(shipped_spec)
    assert shipped.get_vocab() == made.get_vocab()
    assert vocabulary_hash(made) == read_json(FOLDER / WORLD_FILE)["tokenizer"]


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 6e6


def test_the_spec_is_the_default_one(shipped_spec: WorldSpec) -> None:
    assert shipped_spec == WorldSpec()


def test_the_weights_know_what_world_json_says(verdicts: list[Verdict]) -> None:
    measured = read_json(FOLDER / WORLD_FILE)["measured"]
    known = accuracy(verdicts)._asdict()
    # A third of the facts measured there; half-width of a 99.9 % interval at n = 150 and p = .02,
    # or at n = 1,200 and p = .5, is 0.04.
    for group in ("head", "mid", "rare", "unseen", "gap", "lucky_frac"):
        assert known[group] == pytest.approx(measured[group], abs=0.04)


def test_what_was_seen_often_is_known_and_what_was_never_seen_is_not(
    verdicts: list[Verdict],
) -> None:
    known = accuracy(verdicts)
    assert len(verdicts) >= 3000
    assert len({verdict.question.group for verdict in verdicts}) >= 2000
    assert min(known.head, known.mid) >= 0.97
    assert 0.35 <= known.rare <= 0.8
    assert known.unseen <= 0.05
    assert known.gap <= 0.08
    assert known.lucky_frac <= 0.03


def test_some_errors_are_confident(verdicts: list[Verdict]) -> None:
    assert accuracy(verdicts).n_confident_errors >= 100


def test_held_out_wordings_are_understood(verdicts: list[Verdict]) -> None:
    known = accuracy([v for v in verdicts if v.question.id.endswith(HELD_OUT)])
    assert known.n >= 500
    assert min(known.head, known.mid) >= 0.95


def _lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), len(text.split())] for text in texts])


@pytest.mark.parametrize(
    ("reads", "shape"),
    [
        pytest.param("prompt", CountVectorizer, id="bag of words of the question"),
        pytest.param("prompt", TfidfVectorizer, id="tf-idf of the question"),
        pytest.param("subject", TfidfVectorizer, id="name"),
        pytest.param("relation", CountVectorizer, id="relation"),
        pytest.param("prompt", None, id="length of the question"),
        pytest.param("text", None, id="length of the answer"),
    ],
)
def test_words_and_lengths_do_not_tell_hallucinations(
    verdicts: list[Verdict], reads: str, shape: type | None
) -> None:
    texts = [v.text if reads == "text" else getattr(v.question, reads) for v in verdicts]
    labels = np.array([not verdict.is_right for verdict in verdicts])
    groups = [verdict.question.group for verdict in verdicts]
    columns = [FunctionTransformer(_lengths), StandardScaler()] if shape is None else [shape()]
    classifier = make_pipeline(*columns, LogisticRegression(max_iter=1000))
    scores = cross_val_predict(
        classifier, texts, labels, groups=groups, cv=GroupKFold(5), method="predict_proba"
    )
    assert 0.45 <= roc_auc_score(labels, np.asarray(scores)[:, 1]) <= 0.55
