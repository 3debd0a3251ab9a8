"""Prompts that nobody knows the answers of: a file of them, one a line."""

from pathlib import Path

from ghosttrack.data.documents import json_rows, lines
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.questions.records import JSON_SUFFIXES
from ghosttrack.questions.sets import Question, bare_question


def bare_prompt(text: str, index: int = 0) -> Question:
    """Take a text as it is, for a question of which nothing else is known."""
    return Question(id=f"prompt-{index}", prompt=text, answers=(), group=str(index))


def read_prompts(path: Path) -> tuple[Question, ...]:
    """Read a .txt file, a prompt a line, or .jsonl with `question[, subject, wordings, short]`.

    Blank lines are left out; further columns are those of question sets. No template is put around.

    Raises:
        ConfigError: There is no such file, or it is of another kind.
        DataError: A line is malformed, or there is none.
    """
    if not path.is_file():
        raise ConfigError(f"--file {path} is not a file; give a .txt or .jsonl file")
    if path.suffix.lower() in JSON_SUFFIXES:
        questions = tuple(
            bare_question({"id": f"prompt-{index}", **row}, where, index)
            for index, (where, row) in enumerate(json_rows(path))
        )
    elif path.suffix.lower() == ".txt":
        texts = [line.strip() for _, line in lines(path) if line.strip()]
        questions = tuple(bare_prompt(text, index) for index, text in enumerate(texts))
    else:
        raise ConfigError(f"--file {path} must end in .txt or .jsonl")
    if not questions:
        raise DataError(f"{path}: holds no prompts")
    return questions
