"""Faults that were planted in other people's scores are found, in every form that is read."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.analysis.audit import audit, judge, question_skill
from ghosttrack.analysis.samples import read_samples
from ghosttrack.errors import DataError
from ghosttrack.evaluation.scores import plain_auroc

N = 240
HEADER = ("id", "question", "answer", "label", "group", "split")


def sound() -> list[dict[str, object]]:
    """Rows of which a score knows something, and neither question nor answer does."""
    generator = np.random.default_rng(0)
    rows = []
    for at in range(N):
        label = int(generator.random() < 0.5)
        rows.append(
            dict(zip(HEADER, (at, f"where is place{at} ?", f"town{at}", label, f"g{at}",
                              "test" if at % 4 == 0 else "train"), strict=True))
            | {"score:good": generator.normal() + 1.5 * label, "score:luck": generator.normal()}
        )  # fmt: skip
    return rows


def written(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "scores.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def said(path: Path, folder: Path, precision: float = 0.2) -> dict[str, list[str]]:
    audit(path, precision, folder / "out")
    return json.loads((folder / "out" / "audit.json").read_text())


def test_sound_scores_have_intervals_and_only_luck_is_named(tmp_path: Path):
    rows = sound()
    found = said(written(tmp_path, rows), tmp_path)
    assert [name for name, lines in found.items() if lines] == ["account", "question-only skill"]
    (line,) = found["question-only skill"]
    assert line.startswith("luck is not better than the question's words: ")
    with (tmp_path / "out" / "audit.csv").open() as file:
        table = {(row["score"], row["split"]): row for row in csv.DictReader(file)}
    labels = np.array([row["label"] for row in rows])
    wanted = plain_auroc(labels, np.array([row["score:good"] for row in rows]))
    good = table["good", "all"]
    assert float(good["auroc"]) == pytest.approx(wanted)
    assert float(good["low"]) < wanted < float(good["high"])
    assert int(table["good", "test"]["n"]) == N / 4
    assert "good on test (n = 60): AUROC" in (tmp_path / "out" / "audit.txt").read_text()


def test_planted_faults_are_each_named(tmp_path: Path):
    rows = sound()
    for at in range(0, N, 2):
        rows[at]["question"] = f"{'hard' if rows[at]['label'] else 'easy'} {rows[at]['question']}"
    rows[1] |= {"question": rows[0]["question"], "answer": rows[0]["answer"], "group": "g0"}
    right = next(row for row in rows if row["label"] == 0 and row["id"] > 3)
    right |= {"question": "Who was king of old Oslo ?", "answer": "The king of old Oslo"}
    silent = next(row for row in rows if row["label"] == 0 and row["id"] > right["id"])
    silent["answer"] = "I don't know."
    for row in rows:
        good = row["score:good"]
        row |= {
            "score:twin": -(2**good),
            "score:flat": 1.0,
            "score:leak": row["label"] + 0.1 * good,
        }
        row |= {"score:holes": "nan" if row["label"] else good}
    found = said(written(tmp_path, rows), tmp_path, precision=0.01)
    assert [line.split(":")[0] for line in found["texts across splits"]] == [
        "1 question in several splits", "1 group in several splits",
        "1 question-and-answer pair more than once",
    ]  # fmt: skip
    n_wrong = sum(row["label"] for row in rows)
    assert found["columns"] == [
        "twin is good again (|rho| of ranks > 0.999)", "flat is constant",
        f"holes is not a number in {n_wrong} rows, {n_wrong} of them hallucinated",
    ]  # fmt: skip
    assert found["perfect"][0] == "leak makes no error on all: does it know the labels?"
    assert 'echo the question: "The king of old Oslo"' in found["labels"][0]
    assert 'say nothing: "I don\'t know."' in found["labels"][1]
    assert [line.partition(":")[0] for line in found["precision"]] == ["all", "test", "train"]
    assert "±0.01 takes about " in found["precision"][0]
    (line,) = found["direction"]
    assert line.startswith("twin is lower where hallucinated, AUROC 0.1")
    assert any(
        line.startswith("question's words alone tells") for line in found["question-only skill"]
    )


def test_the_samples_of_a_file_of_results_are_read_whatever_is_around_them(tmp_path: Path):
    samples = [
        {"question": f"q{at // 2}", "response": f"a{at}", "is_factual": at % 3 > 0,
         "confidence": at / 90, "prediction": at % 2 == 0}
        for at in range(90)
    ]  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"config": {"k": 3}, "test": {"samples": samples}}))
    read = read_samples(path)
    assert read.labels.tolist() == [int(at % 3 == 0) for at in range(90)]
    assert {*read.scores} == {"confidence", "prediction"}
    assert read.answers[3] == "a3"
    assert len(set(read.groups)) == 45
    found = said(path, tmp_path)
    assert "90 answers to 45 questions in 45 groups, 30 hallucinated" in found["account"]
    assert found["texts across splits"] == [
        "questions repeat and no split is told: only a split by question is sound"
    ]


@pytest.mark.parametrize("named", ["gpt2", "gpt2/evaluations/one"], ids=["a model's newest", "it"])
def test_a_folder_of_evaluations_is_read(tmp_path: Path, named: str):
    folder = tmp_path / "gpt2" / "evaluations" / "one"
    (folder / "tables").mkdir(parents=True)
    (tmp_path / "gpt2" / "runs").mkdir()
    (folder / "manifest.json").write_text("{}")
    rows = [("question", "answer", "category", "group", "output")]
    kinds = [("wrong", "a"), ("correct", "b")]
    rows += [(f"q{at}", f"a{at}", *kinds[at % 2], f"{at}") for at in range(20)]
    with (folder / "tables" / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    read = read_samples(tmp_path / named)
    assert read.labels.tolist() == [1, 0] * 10
    assert read.groups == ("a", "b") * 10
    assert {*read.scores} == {"output"}
    assert read.scores["output"].tolist() == list(range(20))


def test_headers_in_capitals_are_read_and_a_file_without_scores_is_told(tmp_path: Path):
    rows = [{name.capitalize(): row[name] for name in HEADER} for row in sound()]
    found = said(written(tmp_path, rows), tmp_path)
    assert found["columns"] == ["no column score:<name>: only texts and order are judged"]
    with pytest.raises(DataError, match=r"--precision must be above 0 and below 0\.5, got 0"):
        audit(tmp_path / "scores.csv", 0.0, None)
    (tmp_path / "scores.json").write_text('[{"question": "q", "is_factual": true}')
    with pytest.raises(DataError, match="is not JSON"):
        read_samples(tmp_path / "scores.json")


def test_a_score_without_bounds_ranks_first(tmp_path: Path):
    path = tmp_path / "scores.csv"
    rows = [f"q{at},a,{at % 2},{'inf' if at % 2 else at}" for at in range(40)]
    path.write_text("\n".join(["question,answer,label,score:a", *rows]))
    assert judge(read_samples(path), 0.01)[0].auroc == 1.0


def test_one_group_gives_no_interval(tmp_path: Path):
    path = tmp_path / "scores.csv"
    rows = [f"q{at},a,{at % 2},0.{at},g" for at in range(40)]
    path.write_text("\n".join(["question,answer,label,score:a,group", *rows]))
    found = judge(read_samples(path), 0.01)
    assert [np.isnan(row.ci.low) for row in found] == [True] * len(found)
    assert question_skill(found) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\na,b\n", "no rows with a column label"),
        ("question;answer;label\na;b;1\n", "cut at commas, are question;answer;label"),
        ("question,answer,label\ncaf\xe9,b,1\n", "is no .csv of UTF-8 text"),
        ("question,answer,label\na,b,maybe\n", "row 1: label must be 0, 1, correct or error"),
        ("question,answer,label\na,b,1\nc,d,error\n", "every label is the same"),
        ("question,answer,label\na,b,c,1\n", "line 2: more cells than the first line has names"),
        ("question,answer,label,Label\na,b,1,0\n", "more than one column is named label; keep one"),
    ],
)
def test_a_faulty_file_is_one_clear_line(tmp_path: Path, text: str, message: str):
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        read_samples(path)
    with pytest.raises(DataError, match="no such file"):
        read_samples(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no evaluation"):
        read_samples(tmp_path)
