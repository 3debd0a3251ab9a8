"""`detect.py` on answers that came ready: no model, no corpus, no bank."""

import json
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.files import read_json
from tests.support.commands import ROOT, Forks, Workplace, artifacts, only, said

pytestmark = pytest.mark.slow

SMALL = ("logger=csv", "evaluation.n_folds=2", "evaluation.n_bootstrap=50", "model.name=tiny")
N_RELATIONS, N_SUBJECTS, N_OPTIONS = 3, 50, 5


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that likes option 0 for anybody; what it knows shows above that liking."""
    folder = tmp_path_factory.mktemp("scored")
    draw = np.random.default_rng(0)
    for relation in range(N_RELATIONS):
        rows = []
        for subject in range(N_SUBJECTS):
            right = int(draw.integers(N_OPTIONS))
            scores = draw.normal(size=N_OPTIONS)
            scores[0] += 2.0
            scores[right] += 4.0 * (draw.random() < 0.5)
            rows.append(
                {
                    "sub_id": f"Q{subject}",
                    "sub_label": f"subject {subject}",
                    "answer_idx": right,
                    "pll_scores": scores.tolist(),
                }
            )
        write_rows(folder / f"P{relation}_results.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Known answers are repeated by the samples, others are not."""
    draw = np.random.default_rng(1)
    rows = []
    for number in range(120):
        is_known = bool(draw.random() < 0.5)
        said_of_it = [f"It is value{number}." if is_known else f"It is value{one}."
                      for one in draw.integers(1000, 2000, size=4)]  # fmt: skip
        logprob = -0.5 - 2.0 * (not is_known) * float(draw.random())
        rows.append(
            {
                "question": f"What is the value of thing {number}?",
                "response": said_of_it[0],
                "answers": [f"value{number}"],
                "samples": said_of_it[1:],
                "token_logprobs": [-0.1, logprob],
            }
        )
    return write_rows(tmp_path_factory.mktemp("answered") / "answers.jsonl", rows)


def run(forks: Forks, output: Path, kind: str, path: Path, *more: str):
    settings = (f"questions={kind}", f"questions.path={path}", f"output_root={output}")
    return forks.run([str(ROOT / "detect.py"), *settings, *SMALL, *more])


def test_scores_of_options_are_judged_without_a_model(
    workplace: Workplace, scored: Path, tmp_path: Path
):
    printed = said(run(workplace.forks, tmp_path, "option_scores", scored))
    folder = only(tmp_path, "evaluations")
    assert {one.name for one in (tmp_path / "tiny").glob("[!.]*")} == {"evaluations", "runs"}
    found = read_json(folder / "evaluation.json")
    assert (found["n"], found["n_groups"]) == (N_RELATIONS * N_SUBJECTS, N_SUBJECTS)
    rows = {(row["detector"], row["subset"]): row for row in found["rows"]}
    for name in ("output_best", "output", "owner", "owner+output"):
        for subset in ("all", "p>0.5", "p>0.8", "within relation"):
            assert (name, subset) in rows
        line = next(line for line in printed.splitlines() if line.split()[:1] == [name])
        assert f"{rows[name, 'all']['auroc']:.3f} [" in line
    assert rows["owner", "all"]["auroc"] > rows["output", "all"]["auroc"]
    assert 0 < rows["owner", "skewed answers"]["n"] < found["n"]
    assert rows["owner", "all"]["forwards"] == 1 + N_SUBJECTS - 1
    assert found["left_out"]["tracks"] == "this data holds no tracks"
    recommended = {"recommended", "recommended:one_pass"}
    assert {pair["a"] for pair in found["paired"]} == {
        *("owner+output", "owner_gap", "output_shrunk"),
        *recommended,
    }
    assert {"noise_by_text", "label_shuffle", "index", "length", "name_tfidf"} <= set(
        found["canaries"]
    )
    text = (folder / "report.html").read_text()
    for title in ("SAE bank", "Track viewer", "Do the tracks track?"):
        assert title not in text
    for title in ("Detectors", "Paired differences", "Canaries", "Statistics", "Single answers"):
        assert f">{title}</h2>" in text
    assert "prior_<wbr>logprob" in text
    assert "balanced" in text
    for name in ("figures/roc.svg", "tables/detectors.csv", "tables/scores.csv", "metrics.json"):
        assert (folder / name).is_file()

    again = said(run(workplace.forks, tmp_path, "option_scores", scored, "verify=true"))
    assert "found " in again
    assert len(artifacts(tmp_path, "evaluations")) == 1


def test_answered_questions_are_judged_by_samples_and_probabilities(
    workplace: Workplace, answered: Path, tmp_path: Path
):
    rows = [json.loads(line) for line in answered.read_text().splitlines()]
    for row in rows[:3]:
        row["label"] = "error" if row["answers"][0] in row["response"] else "correct"
    asked = rows[3] | {"question": "Is it so?", "response": "I don't know."}
    echo = asked | {"response": "Is it so?"}
    path = write_rows(tmp_path / "answers.jsonl", [*rows, asked, echo])
    settings = "logger=wandb", "questions.labels=ours"
    printed = said(run(workplace.forks, tmp_path, "answered", path, *settings))
    folder = only(tmp_path, "evaluations")
    found = read_json(folder / "evaluation.json")
    rows = {(row["detector"], row["subset"]): row for row in found["rows"]}
    assert found["n_groups"] == 120
    assert (found["n"], found["n_judged"], found["n_ambiguous"]) == (122, 120, 3)
    assert found["categories"] == {**found["categories"], "no_answer": 1, "echo": 1}
    assert sum(found["categories"].values()) == 122
    assert sum(found["disagreements"].values()) == 3
    assert rows["sampling", "labels agree"]["n"] == 117
    assert "122 answers: " in printed
    assert "no answer 1, echo (only words of the question) 1; judged are 120" in printed
    assert rows["sampling", "all"]["auroc"] > 0.95
    assert rows["sampling", "all"]["forwards"] == 4
    assert {"output_best", "output", "sampling+output"} <= {name for name, _ in rows}
    assert "control:relation" in found["left_out"]
    page = (folder / "report.html").read_text()
    assert "value" in page
    assert "3 of 120 labels are ambiguous" in page
    assert "without them: AUROC" in page
    assert "Judged are the 120 answers that are right or wrong" in page
    assert str(folder / "report.html") in printed.strip().splitlines()[-1]


def test_answers_with_labels_and_samples_alone_have_no_confident_subset(
    workplace: Workplace, answered: Path, tmp_path: Path
):
    rows = [json.loads(line) for line in answered.read_text().splitlines()]
    for row in rows:
        right = row.pop("answers")[0] in row["response"]
        row["label"] = "correct" if right else "error"
        del row["token_logprobs"]
    path = write_rows(tmp_path / "labelled.jsonl", rows)
    said(run(workplace.forks, tmp_path, "answered", path))
    folder = only(tmp_path, "evaluations")
    found = read_json(folder / "evaluation.json")
    assert {row["subset"] for row in found["rows"]} == {"all"}
    assert found["left_out"]["output"] == "this data holds no token probabilities"
    assert "nan" not in (folder / "report.html").read_text().lower().split()


@pytest.mark.parametrize(
    ("kind", "rows", "answer"),
    [
        ("option_scores", None, "is not a folder; give that of LM-Pub-Quiz's files"),
        ("answered", None, "is not a file; give a .jsonl file"),
        (
            "answered",
            [{"question": "a", "label": "error"}],
            "1: no `response`; found question, label",
        ),
        (
            "answered",
            [{"question": "a", "response": "b", "label": "error"}],
            "no row has `samples` or `token_logprobs` to judge its answer by",
        ),
        (
            "answered",
            [{"question": "a", "response": "b", "label": "error", "samples": ["c"]}],
            "no answer is right (wrong 1); asked 'a' and so on, the model said 'b'",
        ),
    ],
)
def test_a_fault_is_answered_in_one_line_and_leaves_nothing(
    workplace: Workplace, tmp_path: Path, kind, rows, answer
):
    path = tmp_path / "no.jsonl"
    if rows is not None:
        write_rows(path, rows)
    result = run(workplace.forks, tmp_path, kind, path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert answer in result.stderr
    assert not (tmp_path / "tiny" / "evaluations").exists()
