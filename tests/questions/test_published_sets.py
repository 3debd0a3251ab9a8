"""Published question sets, each from rows of its real schema."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars
from hydra import compose, initialize_config_dir

from ghosttrack.config import load
from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.sets import QuestionSet, read_questions

ROOT = Path(__file__).parents[2]
ROWS: dict[str, list[dict[str, Any]]] = {
    "truthfulqa": [
        {
            "type": "Adversarial",
            "category": "Misconceptions",
            "question": "Where did fortune cookies originate?",
            "best_answer": "The precise origin; it is unclear",
            "correct_answers": ["Fortune cookies originated in California", "It is unclear"],
            "incorrect_answers": ["Fortune cookies originated in China", "In Japan"],
            "source": "https://en.wikipedia.org",
        }
    ],
    "halueval": [
        {
            "knowledge": "The Oberoi Group has its head office in Delhi.",
            "question": "The Oberoi family's hotel company has its head office in what city?",
            "right_answer": "Delhi; India",
            "hallucinated_answer": "Mumbai, the financial capital; of India.",
        }
    ],
    "triviaqa": [
        {
            "question": "Who was the man behind The Chipmunks?",
            "question_id": "tc_2",
            "question_source": "http://www.triviacountry.com/",
            "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
            "search_results": {"description": [], "filename": [], "rank": [], "title": []},
            "answer": {
                "aliases": ["David Seville", "Ross Bagdasarian"],
                "normalized_aliases": ["david seville", "ross bagdasarian"],
                "matched_wiki_entity_name": "",
                "normalized_matched_wiki_entity_name": "",
                "normalized_value": "david seville",
                "type": "WikipediaEntity",
                "value": "David Seville",
            },
        }
    ]
    * 2,  # a row for each page that holds the answer
    "popqa": [
        {
            "id": 4222362 + number,
            "subj": subject,
            "prop": "occupation",
            "obj": "politician",
            "s_aliases": aliases,
            "o_aliases": '["political leader", "polit."]',
            "s_pop": 142,
            "o_pop": 25692,
            "question": f"What is {asked}'s occupation?",
            "possible_answers": '["politician", "political leader", "polit."]',
        }
        for number, (subject, aliases, asked) in enumerate(
            [
                ("George Rankin", '["George James Rankin"]', "George Rankin"),
                ("Rankin, G.", '["G. Rankin"]', "G. Rankin"),
                ("Somebody", "[]", "the other one"),
            ]
        )
    ],
    "nq_open": [
        {
            "question": "when was the last time anyone was on the moon",
            "answer": ["14 December 1972 UTC", "December 1972"],
        }
    ],
}


def settings(option: str, *more: str) -> DetectProgram:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load(compose("detect", [f"questions={option}", *more]), DetectProgram)


def read(option: str, path: object, *more: str) -> QuestionSet:
    config = settings(option, f"questions.path={path}", *more)
    assert isinstance(config.questions, FileQuestions)
    return read_questions(config.questions).drawn(config.questions.num, 0)


def as_jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder / "rows.parquet"


def as_dataset(folder: Path, rows: list[dict[str, Any]]) -> Path:
    disable_progress_bars()
    Dataset.from_list(rows).save_to_disk(folder / "dataset")
    return folder / "dataset"


def as_csv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
            )
    return folder / "rows.csv"


READ: dict[str, list[dict[str, object]]] = {
    "truthfulqa": [
        {
            "prompt": "Where did fortune cookies originate?",
            "answers": (
                "The precise origin; it is unclear",
                "Fortune cookies originated in California",
                "It is unclear",
            ),
            "wrong": ("Fortune cookies originated in China", "In Japan"),
            "relation": "Misconceptions",
        }
    ],
    "halueval": [
        {"answers": ("Delhi; India",), "wrong": ("Mumbai, the financial capital; of India.",)}
    ],
    "triviaqa": [{"answers": ("David Seville", "Ross Bagdasarian")}] * 2,
    "popqa": [
        {
            "answers": ("politician", "political leader", "polit."),
            "id": str(4222362 + number),
            "relation": "occupation",
            "subject": subject,
        }
        for number, subject in enumerate(("George Rankin", "G. Rankin", ""))
    ],
    "nq_open": [{"answers": ("14 December 1972 UTC", "December 1972")}],
}
"""What is read of each row: the best answer first; a subject as it stands in the question."""


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        (kind, write)
        for kind in ROWS
        for write in (as_jsonl, as_parquet, as_dataset, as_csv)
        if (kind, write) != ("triviaqa", as_csv)  # CSV holds no objects
    ],
)
def test_every_set_is_read_from_every_format(tmp_path, kind, write):
    found = read(kind, write(tmp_path, ROWS[kind]))
    for question, fields in zip(found.questions, READ[kind], strict=True):
        assert {name: getattr(question, name) for name in fields} == fields
    assert len({question.id for question in found.questions}) == len(found.questions)


def test_rows_of_a_question_share_a_group_and_subjects_are_names(tmp_path):
    first, again = read("triviaqa", as_jsonl(tmp_path, ROWS["triviaqa"])).questions
    assert first.group == again.group
    popqa = read("popqa", as_jsonl(tmp_path, ROWS["popqa"]))
    assert popqa.questions[0].group == "George Rankin"
    assert popqa.names == {"occupation": ("George Rankin", "G. Rankin")}


@pytest.mark.parametrize("kind", ROWS)
def test_the_same_rows_are_the_same_set_wherever_they_lie(tmp_path, kind):
    disable_progress_bars()
    dataset, other = (Dataset.from_list(rows) for rows in (ROWS[kind], [{"question": "q"}]))
    split = settings(kind).questions.split
    DatasetDict({str(split): dataset, "other": other}).save_to_disk(tmp_path / "all")
    whole = read(kind, tmp_path / "all")
    assert whole.questions == read(kind, as_jsonl(tmp_path, ROWS[kind])).questions
    assert whole.identity == read(kind, as_dataset(tmp_path, ROWS[kind])).identity


def test_rows_of_another_set_are_refused_by_what_they_lack(tmp_path):
    path = as_jsonl(tmp_path, ROWS["nq_open"])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no `possible_answers`; found question"):
        read("popqa", path)
    row = {key: value for key, value in ROWS["truthfulqa"][0].items() if "incorr" not in key}
    path = as_jsonl(tmp_path, [row])
    with pytest.raises(DataError, match=r"needs `best_incorrect_answer` or `incorrect_answers`"):
        read("truthfulqa_pairs", path)


def test_a_set_without_wrong_answers_has_none_to_judge(tmp_path):
    path = as_jsonl(tmp_path, ROWS["nq_open"])
    with pytest.raises(ConfigError, match="must be own: questions=nq_open has no wrong answers"):
        read("nq_open", path, "questions.answers=written")


def test_written_answers_are_another_set_of_the_same_questions(tmp_path):
    path = as_jsonl(tmp_path, ROWS["halueval"])
    own, written = read("halueval", path), read("halueval_pairs", path)
    assert settings("halueval_pairs").questions.kind is QuestionKind.halueval
    assert settings("truthfulqa_pairs").questions.answers is AnswerSource.written
    assert own.questions == written.questions
    assert (own.written, written.written) == (False, True)
    assert own.identity != written.identity


def test_a_text_under_two_groups_is_refused_before_the_model_runs(tmp_path):
    rows = [{"question": "Who?", "answer": "I", "group": group} for group in "ab"]
    with pytest.raises(DataError, match=r"'Who\?' stands under the groups 'a' and 'b'"):
        read("file", as_jsonl(tmp_path, rows))


@pytest.mark.parametrize(
    ("option", "override", "message"),
    [
        ("file", "+questions.revision=x", "revision is not a setting of questions=file"),
        ("popqa", "questions.split=null", "questions.split is required"),
        ("answered", "+questions.answers=own", "answers is not a setting of questions=answered"),
    ],
)
def test_settings_that_mean_nothing_are_refused(option, override, message):
    with pytest.raises(ConfigError, match=message):
        settings(option, "questions.path=x", override)


def test_a_broken_parquet_file_is_one_line(tmp_path):
    path = as_parquet(tmp_path, ROWS["nq_open"])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read as Parquet") as caught:
        read("nq_open", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ROWS)
def test_without_a_network_a_set_is_refused_in_one_line(option, monkeypatch, tmp_path):
    from ghosttrack.data import huggingface

    monkeypatch.setattr(huggingface.datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(huggingface, "is_reachable", lambda: False)
    config = settings(option).questions
    with pytest.raises(ConfigError) as caught:
        read_questions(config)
    message = str(caught.value)
    assert message.startswith(f"questions.path={config.path}, questions.subset={config.subset}")
    assert "cannot be reached; point questions.path at a folder" in message
    assert "\n" not in message
