"""Numbers and texts at their ends: a defined result, or one line that says what is wrong."""

import json
import math
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ghosttrack.detector.answers.answers import answer
from ghosttrack.detector.tracks.life_cycle import fit_length_null
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS, track_statistics
from ghosttrack.errors import ConfigError, DataError, GhostTrackError
from ghosttrack.evaluation.bootstrap import once
from ghosttrack.evaluation.scores import paired_auroc
from ghosttrack.evaluation.splits import check_labels
from ghosttrack.models.generate import GenerateSettings, generate
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.labels import words
from ghosttrack.questions.ready_answers import read_answered
from ghosttrack.questions.sets import QuestionSet, read_questions
from ghosttrack.report.tables import write_csv
from ghosttrack.sae.bank import Bank, initialise
from ghosttrack.sae.config import Architecture, KernelChoice
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.metrics import write_metrics
from ghosttrack.tracking.tracker import fit_tracker, link
from ghosttrack.typed import literal
from tests.detector.scenes import evidence_of
from tests.models.conftest import model_config
from tests.sae.support import activations, small_bank
from tests.sae.test_step import PATHS, config
from tests.tracking.worlds import SETTINGS, drawn

WHOLE = activations(64)


@pytest.fixture(scope="module")
def lm(gpt2_folder: Path) -> LM:
    return load_lm(model_config(), gpt2_folder, "cpu")


def changed(value: float) -> Tensor:
    """Activations of which one number is another."""
    x = WHOLE.clone()
    x[1, 5, 3] = value
    return x


BROKEN = {
    "NaN": changed(math.nan),
    "infinity": changed(math.inf),
    "one constant layer": torch.stack([WHOLE[0], torch.ones_like(WHOLE[1])]),
    "a constant of many digits": torch.stack([WHOLE[0], 3e4 + torch.full_like(WHOLE[1], 0.1)]),
    "one token": WHOLE[:, :1],
}


@pytest.mark.parametrize("x", BROKEN.values(), ids=BROKEN)
def test_what_has_no_variance_is_neither_learned_nor_measured(x: Tensor):
    bank = Bank(["layer_0", "layer_3"], d_model=16, d_sae=64, k=4, architecture=Architecture.topk)
    with pytest.raises(DataError, match=r"layer_[03] have variance \S+: nothing to learn"):
        initialise(bank, x)
    with pytest.raises(DataError, match=r"layer_[03]: its \d+ held-out activations are constant"):
        evaluate(small_bank(), [x], "cpu")


def test_two_tokens_are_enough_to_measure(tmp_path: Path):
    write_metrics(tmp_path / "metrics.json", evaluate(small_bank(), [WHOLE[:, :2]], "cpu"))


@pytest.mark.parametrize(("architecture", "kernels"), PATHS)
def test_as_many_active_latents_as_there_are(architecture: Architecture, kernels: KernelChoice):
    bank = small_bank(k=64, architecture=architecture)
    losses = BankLoss(2, config(architecture, k=64, kernels=kernels))(bank, WHOLE)
    losses.loss.backward()
    assert all(p.grad.isfinite().all() for p in bank.parameters() if p.grad is not None)
    for row in evaluate(bank, [WHOLE], "cpu"):
        assert math.isfinite(row.fvu)
        assert 0 < row.l0 <= 64


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["no latent", "all latents"])
def test_tracks_of_one_layer_one_answer_or_no_latent(n_layers: int, n_samples: int, share: float):
    rng = np.random.default_rng(0)
    directions = [rng.normal(size=(8, 6)).astype(np.float32) for _ in range(n_layers)]
    directions = tuple(one / np.linalg.norm(one, axis=1, keepdims=True) for one in directions)
    text = drawn(rng, 40, n_layers, 4, d_sae=8, share=0.5)
    tracker = fit_tracker(directions, text, SETTINGS)
    seen = drawn(rng, n_samples, n_layers, 4, d_sae=8, share=share)
    tracks = link(seen, *tracker)
    assert tracks.n_obs.sum() == (seen.latents >= 0).sum()
    assert len(tracks) == 0 or tracks.n_obs.max() <= n_layers
    evidence = evidence_of(np.where(seen.latents >= 0, np.abs(seen.magnitudes), 0.0))
    table = track_statistics(evidence, tracks, fit_length_null(tracks))
    assert table.values.shape == (n_samples, len(TRACK_STATISTICS))
    assert not np.isinf(table.values).any()


@pytest.mark.parametrize(
    ("labels", "groups", "said"),
    [
        ([1] * 40, [str(row) for row in range(40)], "0 groups hold a right answer"),
        ([0] * 40, [str(row) for row in range(40)], "0 groups hold a hallucinated answer"),
        ([0, 1] * 20, ["one"] * 40, "1 groups hold a hallucinated answer"),
        ([], [], "0 groups hold a hallucinated answer"),
    ],
    ids=["all wrong", "all right", "one entity", "no answer"],
)
def test_one_class_or_one_entity_is_refused(labels: list[int], groups: list[str], said: str):
    with pytest.raises(DataError, match=rf"\Aquestions: {said}, 5 folds need 6 [^\n]+\Z"):
        check_labels(np.array(labels, dtype=np.int64), groups, 5)


@pytest.mark.parametrize("scores", [np.zeros(6), np.full(6, 1e300), np.full(6, -1e-300)])
def test_a_constant_score_is_worth_a_coin(scores: np.ndarray):
    labels = np.array([0, 1, 0, 1, 1, 0])
    assert paired_auroc(labels, scores, once(6))[0] == 0.5


def questions_of(folder: Path, *rows: dict[str, object]) -> QuestionSet:
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    put = (QuestionKind.file, "q", 99, "{question}", 3, ["\n"])
    return read_questions(FileQuestions(*put, str(path), None, AnswerSource.own))


PLANES = [
    *(chr(plane << 16 | 0x41) for plane in range(17)),  # of planes that are not assigned, too
    *(chr(plane << 16 | 0xFFFE) for plane in range(17)),  # never a character
    *(
        "\u202e",
        "\u200d",
        "\ufeff",
        "e\u0301",
        "\U0001f468\u200d\U0001f469",
        "\u2028",
        "\x85",
        "\x7f",
    ),
]


def test_characters_of_every_plane_go_through(tmp_path: Path, lm: LM):
    rows = [{"question": f"who is {one} ?", "answers": [f"a{one}b"]} for one in PLANES]
    found = questions_of(tmp_path, *rows)
    assert [one.prompt for one in found.questions] == [row["question"] for row in rows]
    answers = answer(lm, found)
    answers.save(tmp_path / "answers.parquet")
    again = type(answers).load(tmp_path / "answers.parquet")
    assert again.references == tuple((f"a{one}b",) for one in PLANES)
    assert again.texts == answers.texts
    write_csv(tmp_path / "t.csv", ["x"], [[one] for one in PLANES])
    for one in PLANES:
        assert words(unicodedata.normalize("NFD", f"a{one}b")) == words(f"a{one}b")


@pytest.mark.parametrize("column", ["question", "answers", "group"])
def test_half_a_character_is_named_with_its_line(tmp_path: Path, column: str):
    row = {"question": "who?", "answers": ["a"], "group": "g", column: "\\ud800"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row).replace("\\\\", "\\"))
    with pytest.raises(DataError, match=r"q\.jsonl:1: '.ud800' is half of a character"):
        read_answered(tmp_path / "q.jsonl")


def test_a_command_line_that_is_not_utf8_is_one_line():
    with pytest.raises(ConfigError, match=r"\A'corpus\.path=\\udcff': is not UTF-8; [^\n]+\Z"):
        literal(["corpus.path=\udcff"])


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400, "true", '"1"', "null", "[]", "0.5"]


@pytest.mark.parametrize("number", NUMBERS)
def test_no_odd_number_is_taken_for_a_log_probability(tmp_path: Path, number: str):
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"question": "q", "response": "r", "label": "error", "token_logprobs": [{number}]}}'
    )
    with pytest.raises(DataError, match=r"\A\S+a\.jsonl:1: token_logprobs must [^\n]+\Z"):
        read_answered(path)


def test_a_prompt_of_ten_thousand_tokens_is_named(lm: LM):
    prompt = "anna is in " * 3_400
    with pytest.raises(GhostTrackError, match=r"\A[^\n]+\Z") as caught:
        generate(lm, lm.encode_all([prompt]), GenerateSettings(3, ()))
    assert len(str(caught.value)) < 500


def test_recursion_in_a_row_is_one_line(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"question": ' + "[" * 10 * sys.getrecursionlimit())
    with pytest.raises(DataError, match=r"\A\S+a\.jsonl:1: not JSON [^\n]+\Z"):
        read_answered(tmp_path / "a.jsonl")
