"""Entailment between sampled answers, told by hand and by a tiny model."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from ghosttrack.detector.answers.entailment import ENTAILMENT_SPECS, entailment_table
from ghosttrack.errors import ConfigError
from ghosttrack.models.entailment import Entailment, entailment_folder
from ghosttrack.questions.ready_answers import ReadyAnswer
from tests.detector.scenes import keeps_ranges
from tests.support.tiny import tiny_entailment


class ByHand(Entailment):
    """Texts about one city entail each other; others contradict with probability .9."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def probs(self, pairs, read=lambda _: None):
        self.asked += pairs
        cities = [[text.split()[-1] for text in pair] for pair in pairs]
        return np.array(
            [(0.8, 0.15, 0.05) if one == other else (0.1, 0.0, 0.9) for one, other in cities]
        ).reshape(-1, 3)


def answered(response: str, *samples: str) -> ReadyAnswer:
    return ReadyAnswer("Q: where ? A:", response, (), None, samples, (), "g")


def test_samples_are_clustered_and_held_against_the_response_by_hand():
    model = ByHand()
    rows = [
        answered("in rome", "it is rome", "rome", "in rome", "oslo"),
        answered("rome", "rome", "rome", "rome", "rome"),
    ]
    table = entailment_table(model, rows, "Q: {question} A:")
    # Three of four samples are one cluster: -(3/4 ln 3/4 + 1/4 ln 1/4); four of four are one.
    wanted = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(table.column("entailment_semantic_entropy"), [wanted, 0], atol=1e-9)
    # .05 / .85 twice, 0 for the response's own words, .9 / 1.0 for oslo.
    against = (2 * 0.05 / 0.85 + 0 + 0.9) / 4
    np.testing.assert_allclose(table.column("entailment_contradiction"), [against, 0])
    assert ("where ? oslo", "where ? rome") in model.asked
    assert len(model.asked) == len(set(model.asked)) == 4 * 3
    keeps_ranges(table, ENTAILMENT_SPECS)


def test_a_model_is_read_by_its_labels_whatever_batch_and_order(tmp_path: Path):
    model = Entailment(tiny_entailment(tmp_path), torch.device("cpu"))
    texts = ("paris", "the capital of france is paris", "rome is old")
    pairs = list(product(texts, repeat=2))
    together = model.probs(pairs)
    for pair, found in zip(pairs, together, strict=True):
        tokens = model.tokenizer([pair[0]], [pair[1]], return_tensors="pt")
        contradiction, entailment, neutral = model.model(**tokens).logits[0].softmax(-1).tolist()
        np.testing.assert_allclose(found, [entailment, neutral, contradiction], atol=1e-5)


def test_a_classifier_of_other_labels_is_refused(tmp_path: Path):
    folder = tiny_entailment(tmp_path)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("NEUTRAL", "POSITIVE"))
    with pytest.raises(ConfigError, match=r"asking\.entailment: the labels of .* positive"):
        Entailment(folder, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"asking\.entailment"):
        entailment_folder(str(tmp_path / "nowhere" / "else"))
