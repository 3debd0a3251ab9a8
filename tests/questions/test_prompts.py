import json
from pathlib import Path

import pytest

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.prompts import read_prompts


def test_a_text_file_has_a_prompt_on_every_line_that_is_not_blank(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text("Who's {there}?\n\n  a, b = [c]  \n")
    read = read_prompts(path)
    assert [question.prompt for question in read] == ["Who's {there}?", "a, b = [c]"]
    assert len({question.id for question in read}) == 2
    assert all(question.subject == "" and question.answers == () for question in read)


def test_json_lines_bring_what_is_known_of_a_prompt(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    rows = [
        {"question": "Where was Anna born?", "subject": "Anna", "kind": "person",
         "wordings": ["In which town was Anna born?"], "short": "{subject} was born in"},
        {"question": "What is it?", "answers": ["it"]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_prompts(path)
    assert (first.subject, first.kind, first.short) == ("Anna", "person", "{subject} was born in")
    assert first.wordings == ("In which town was Anna born?",)
    assert (second.prompt, second.answers) == ("What is it?", ("it",))


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("a.csv", "x", ConfigError, "must end in .txt or .jsonl"),
        ("a.txt", "\n \n", DataError, "holds no prompts"),
        ("a.jsonl", '{"prompt": "x"}\n', DataError, "a.jsonl:1: no `question`"),
        ("a.jsonl", "no\n", DataError, "a.jsonl:1: not JSON"),
        ("nowhere.txt", None, ConfigError, r"--file .*nowhere.txt is not a file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, name, text, error, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        read_prompts(tmp_path / name)
