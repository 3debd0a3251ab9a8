import json
from collections import Counter
from pathlib import Path

import pytest

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.sets import QuestionSet, read_questions


def load(path: Path, seed: int = 0, **changes) -> QuestionSet:
    settings = {
        "kind": QuestionKind.file,
        "name": "mine",
        "path": str(path),
        "split": "train",
        "num": 100,
        "answers": AnswerSource.own,
        "template": "Q: {question}\nA:",
        "max_new_tokens": 4,
        "stop": ["\n"],
    }
    config = FileQuestions(**settings | changes)
    return read_questions(config).drawn(config.num, seed)


def write(path: Path, content: str | list[dict]) -> Path:
    if not isinstance(content, str):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(content, encoding="utf-8")
    return path


def test_a_row_becomes_a_question_with_all_its_columns(tmp_path):
    row = {
        "id": "q7",
        "question": "Where was Anna born?",
        "answers": ["Oslo", "Christiania"],
        "group": "anna",
        "subject": "Anna",
        "relation": "birthplace",
        "kind": "person",
        "wordings": ["What is Anna's place of birth?"],
        "short": "{subject} was born in",
        "source": "a book",
    }
    questions = load(write(tmp_path / "a.jsonl", [row]))
    (question,) = questions.questions
    assert question.prompt == "Where was Anna born?"
    assert question.wordings == ("What is Anna's place of birth?",)
    assert question.answers == ("Oslo", "Christiania")
    assert (question.id, question.group, question.subject) == ("q7", "anna", "Anna")
    assert (question.relation, question.kind) == ("birthplace", "person")
    assert question.short == "{subject} was born in"
    assert question.exposure == -1
    assert questions.names == {"person": ("Anna",)}
    assert (questions.name, questions.stop, questions.max_new_tokens) == ("mine", ("\n",), 4)


def test_csv_and_jsonl_of_the_same_rows_are_the_same_questions(tmp_path):
    rows = [{"question": "Who, me?", "answers": ["you", "we"], "group": "g", "id": "1"}]
    table = '\ufeffQuestion,Answers,group,id\n"Who, me?",you; we ,g,1\n\n'
    csv = load(write(tmp_path / "a.csv", table))
    assert csv.questions == load(write(tmp_path / "a.jsonl", rows)).questions


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("a", ("a",)),
        ("a; b;", ("a", "b")),
        ('"[""a; b"", ""c"", 1984]"', ("a; b", "c", "1984")),
        ("[sic] a", ("[sic] a",)),
    ],
)
def test_a_csv_cell_holds_one_answer_or_several(tmp_path, cell, answers):
    path = write(tmp_path / "a.csv", f"question,answers\nq,{cell}\n")
    assert load(path).questions[0].answers == answers


def test_truthfulqa_loads_as_it_is(tmp_path):
    table = (
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        "Adversarial,Law,May I?,It depends; ask,Yes; It depends; ask,Never,https://a.b\n"
    )
    (question,) = load(write(tmp_path / "a.csv", table)).questions
    assert question.answers == ("It depends; ask", "Yes", "It depends", "ask")


def test_halueval_loads_as_it_is(tmp_path):
    row = {"knowledge": "k", "question": "q?", "right_answer": "r", "hallucinated_answer": "h"}
    (question,) = load(write(tmp_path / "qa_data.json", [row])).questions
    assert question.answers == ("r",)


def test_squads_answers_are_read_and_other_objects_named(tmp_path):
    row = {"question": "q?", "context": "c", "answers": {"text": ["a", "b"], "answer_start": [0]}}
    (question,) = load(write(tmp_path / "a.jsonl", [row])).questions
    assert question.answers == ("a", "b")
    odd = {"question": "q?", "answers": [{"value": "a", "score": 1}]}
    with pytest.raises(DataError, match="answers must be a text, got an object of value, score"):
        load(write(tmp_path / "b.jsonl", [odd]))


def test_without_a_group_the_same_question_is_one_group(tmp_path):
    texts = ["Who is  Anna?", "who is anna", "Who is Berta?"]
    rows = [{"question": text, "answer": "x"} for text in texts]
    groups = [q.group for q in load(write(tmp_path / "a.jsonl", rows)).questions]
    assert groups[0] == groups[1] != groups[2]


def test_subjects_of_one_relation_stand_in_for_one_another(tmp_path):
    rows = [
        {"question": f"capital of {name}?", "answer": "x", "subject": name, "relation": "capital"}
        for name in ("Norway", "Spain", "Norway")
    ]
    assert load(write(tmp_path / "a.jsonl", rows)).names == {"capital": ("Norway", "Spain")}


@pytest.mark.parametrize("num", [3, 5, 12])
def test_a_draw_takes_one_of_every_group_before_a_second_of_any(tmp_path, num):
    rows = [{"question": f"q{i}", "answer": "x", "group": f"g{i % 5}"} for i in range(30)]
    path = write(tmp_path / "a.jsonl", rows)
    drawn = load(path, num=num).questions
    groups = Counter(question.group for question in drawn)
    assert len(drawn) == num
    assert len(groups) == min(num, 5)
    assert [int(q.id) for q in drawn] == sorted(int(q.id) for q in drawn)
    assert drawn == load(path, num=num).questions
    assert drawn != load(path, seed=1, num=num).questions


def test_identity_follows_the_content_and_not_the_place(tmp_path):
    row = {"question": "q", "answer": "a"}
    (tmp_path / "b").mkdir()
    here, there = (write(tmp_path / name, [row]) for name in ("a.jsonl", "b/c.jsonl"))
    assert load(here).identity == load(there).identity
    write(there, [row | {"answer": "b"}])
    assert load(here).identity != load(there).identity


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"question": "q", "answer": "a"}\n{"question"\n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '["q"]\n', r"a\.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"answer": "a"}\n', r"a\.jsonl:1: no `question`; found answer"),
        ("a.jsonl", '\n{"question": "q", "answers": []}\n', r"a\.jsonl:2: no `answers`"),
        (
            "a.jsonl",
            '{"question": {"a": 1}, "answer": "a"}\n',
            r":1: question must be a text, got an object",
        ),
        ("a.jsonl", '{"question": "q", "answers": NaN}\n', r":1: answers must be a text, got nan"),
        ("a.jsonl", '{"question": "q", "answers": [[]]}\n', r":1: answers must be a text"),
        ("a.csv", 'question,answers\nq,"[1, ]"\n', r"a\.csv:2: answers: not JSON"),
        ("a.csv", f"question,answers\nq,[{'1' * 5000}]\n", r"a\.csv:2: answers: not JSON"),
        ("a.csv", f"question,answers\nq,{'[' * 99_999}]\n", r"a\.csv:2: answers: not JSON"),
        ("a.csv", 'question,answers\nq,"[""\\ud800""]"\n', r"a\.csv:2: answers: .* is half of a"),
        ("a.csv", 'question,answers\n"q\nr",a\ns\n', r"a\.csv:4: 1 cells where the header has 2"),
        ("a.csv", "question,answer,Answer\nq,a,b\n", "more than one column is named answer; keep"),
        ("a.csv", 'question,answers\nq,"a\n', r"a\.csv:2: not CSV"),
        ("a.csv", b"question,answers\nq,a\ncaf\xe9,b\n", r"a\.csv:3: not UTF-8"),
        ("a.csv", "question,answers\n", r"a\.csv: holds no questions"),
        ("a.jsonl", "", r"a\.jsonl: holds no questions"),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a", "subject": "Bo"}\n',
            r":1: subject 'Bo' does not stand in 'q'",
        ),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a", "short": "is"}\n',
            r":1: short must contain \{subject\}",
        ),
        ("a.csv", "id,question,answer\n1,q,a\n1,r,b\n", r"a\.csv: id '1' stands for two questions"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["missing.csv", "a.xlsx"])
def test_a_path_that_is_no_question_file_is_a_setting_at_fault(tmp_path, name):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"^questions\.path="):
        load(tmp_path / name)
