"""One workplace and one finished job, shared by the tests of the programs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from ghosttrack.detector.answers.answers import answer
from ghosttrack.models.load import load_lm
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.labels import words
from ghosttrack.questions.sets import read_questions
from tests.models.conftest import model_config
from tests.support.commands import (
    PEOPLE,
    PLACES,
    Forks,
    Workplace,
    environment,
    only,
    said,
    write_corpus,
)

STOP = ["\n"]
ASKED = {
    "city": ("where was {} born", "{} was born in which city", "the city of {} is"),
    "work": ("which company is it {} works for", "who has {} for work", "{} works for"),
    "language": ("what language is it {} speaks", "{} speaks which language", "{} speaks"),
}


KINDS_MADE = ("activations", "saes", "tracks", "detectors", "evaluations")


class Done(NamedTuple):
    """A finished job: where it wrote, and what it said."""

    output: Path
    said: str
    complaints: str
    """On stderr, where warnings go."""
    made: Mapping[str, Path]
    """Its artefact of each kind, but for the two of answers."""

    def linked(self, output: Path, *kinds: str) -> Path:
        """Put its artefacts of some kinds where another job is to write, and nothing else."""
        (output / "tiny").mkdir()
        for kind in kinds:
            (output / "tiny" / kind).symlink_to(self.output / "tiny" / kind)
        return output


def _row(name: str, relation: str) -> dict[str, object]:
    asked, other, short = (text.replace("{}", name) for text in ASKED[relation])
    return {
        "id": f"{name} {relation}",
        "question": f"{asked}?",
        "answers": ["violin"],
        "group": name,
        "subject": name,
        "relation": relation,
        "kind": "person" if name in PEOPLE else "place",
        "wordings": [f"{other}?"],
        "short": short.replace(name, "{subject}"),
    }


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _answers(model: Path, questions: Path) -> tuple[str, ...]:
    """What the tiny model says to each question."""
    put = ("Q: {question}\nA:", 3, STOP)
    config = FileQuestions(
        QuestionKind.file, "file", 5000, *put, str(questions), None, AnswerSource.own
    )
    lm = load_lm(model_config(path=str(model), context=48), model, "cpu")
    questions = read_questions(config)
    prompts = [replace(one, prompt=f"Q: {one.prompt}\nA:") for one in questions.questions]
    return answer(lm, replace(questions, questions=tuple(prompts))).texts


@pytest.fixture(scope="session")
def workplace(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """72 questions over 24 subjects; most of what the model says counts as right."""
    folder = tmp_path_factory.mktemp("workplace")
    rows = [_row(name, relation) for name in PEOPLE + PLACES for relation in ASKED]
    path = _write(folder / "questions.jsonl", rows)
    texts = _answers(gpt2_folder, path)
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        if (index + index // 3) % 4 and words(text):
            row["answers"] = [text]
    home = folder / "home"
    home.mkdir()
    forks = Forks(home, environment(home))
    corpus = write_corpus(folder / "corpus.txt")
    yield Workplace(gpt2_folder, corpus, _write(path, rows), home, forks)
    forks.close()


@pytest.fixture(scope="session")
def done(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """`python detect.py` from nothing to the report."""
    output = tmp_path_factory.mktemp("done")
    result = workplace.run(output, "detect")
    said(result)
    made = {kind: only(output, kind) for kind in KINDS_MADE}
    return Done(output, result.stdout, result.stderr, made)
