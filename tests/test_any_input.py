"""Whatever a file holds: it is read, or refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ghosttrack import artifacts
from ghosttrack.data.ready import read_ready
from ghosttrack.errors import GhostTrackError
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.option_scores import METADATA, read_option_scores
from ghosttrack.questions.ready_answers import read_answered
from ghosttrack.questions.sets import read_questions
from ghosttrack.sae.formats import read_saes

LEAVES = st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


def with_odd(**whole: object) -> st.SearchStrategy[dict[str, object]]:
    """Draw an object as it has to be with some fields of anything, or missing."""
    odd = st.fixed_dictionaries({}, optional=dict.fromkeys(whole, VALUES))
    missing = st.sets(st.sampled_from(sorted(whole)), max_size=1)
    return st.builds(
        lambda changed, gone: {k: v for k, v in {**whole, **changed}.items() if k not in gone},
        odd,
        missing,
    )


def is_read_or_refused_in_one_line(read: Callable[[Path], object], **files: object) -> None:
    """Write files, a list one object a line, and read their folder."""
    with TemporaryDirectory() as name:
        for file, content in files.items():
            rows = content if isinstance(content, list) else [content]
            path = Path(name, file.replace("__", "."))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = ""
        try:
            read(Path(name))
        except GhostTrackError as error:
            said = str(error)
        assert "\n" not in said


QUESTION = with_odd(
    question="Who?", answers=["a", "b"], group="g", subject="Who", relation="r", wordings=["Who!"],
    wrong_answer="c", short="{subject} is",
)  # fmt: skip
GIVEN = with_odd(
    question="Who?", response="a", label="correct", answers=["a"], samples=["b"],
    token_logprobs=[-1.0], group="g",
)  # fmt: skip
FACT = with_odd(
    sub_id="Q1", sub_label="Rome", answer_idx=1, pll_scores=[-1.0, -2.0], obj_id="Q2",
    obj_label="x", template_index=0,
)  # fmt: skip
TOLD = with_odd(
    templates=["[X] [Y]"], template_index=0, answer_space_labels=["x", "y"],
    answer_space_ids=["Q2", "Q3"],
)  # fmt: skip
SAELENS = with_odd(
    architecture="topk", k=2, d_in=4, d_sae=6, dtype="float32", apply_b_dec_to_input=True,
    normalize_activations="none", metadata={"hook_name": "blocks.0.hook_resid_post"},
    activation_fn_kwargs={}, rescale_acts_by_decoder_norm=False,
)  # fmt: skip
MANIFEST = with_odd(
    id="0" * 12, kind="saes", identity={"a": 1}, files={"x": {"bytes": 1, "sha256": "0"}},
)  # fmt: skip
SAMPLE = with_odd(problem_id="p", thoughts={"layer_0": [[1.0, 2.0]], "layer_1": [[1.0, 2.0]]})


@settings(max_examples=60)
@given(st.lists(QUESTION, max_size=3))
def test_a_question_file(rows: list[object]):
    def read(folder: Path) -> None:
        config = FileQuestions(
            *(QuestionKind.file, "q", 9, "{question}", 4, []),
            *(str(folder / "q.jsonl"), None, AnswerSource.written),
        )
        read_questions(config)

    is_read_or_refused_in_one_line(read, q__jsonl=rows)


@settings(max_examples=60)
@given(st.lists(GIVEN, max_size=3))
def test_answers_from_elsewhere(rows: list[object]):
    is_read_or_refused_in_one_line(lambda folder: read_answered(folder / "a.jsonl"), a__jsonl=rows)


@settings(max_examples=60)
@given(st.lists(FACT, max_size=3), TOLD | VALUES)
def test_scores_of_options(rows: list[object], told: object):
    files = {"P1_results__jsonl": rows, METADATA[0].replace(".", "__"): {"P1": told}}
    is_read_or_refused_in_one_line(read_option_scores, **files)


@settings(max_examples=60)
@given(SAELENS)
def test_an_sae_folder(cfg: dict[str, object]):
    def read(folder: Path) -> None:
        tensors = {"W_enc": torch.ones(4, 6), "b_enc": torch.ones(6), "W_dec": torch.ones(6, 4)}
        save_file({**tensors, "b_dec": torch.ones(4)}, folder / "sae_weights.safetensors")
        read_saes(folder)

    is_read_or_refused_in_one_line(read, cfg__json=cfg)


@settings(max_examples=60)
@given(MANIFEST | VALUES)
def test_a_manifest(manifest: object):
    is_read_or_refused_in_one_line(artifacts.read, manifest__json=[manifest])


@settings(max_examples=40)
@given(st.lists(SAMPLE | VALUES, max_size=3))
def test_ready_activations(samples: list[object]):
    is_read_or_refused_in_one_line(
        lambda folder: read_ready(folder / "a.json", [0], folder / "spool"),
        a__json={"samples": samples},
    )
