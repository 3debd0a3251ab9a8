"""Which columns of a question set hold what: the one place that knows published sets."""

from collections.abc import Mapping
from typing import NamedTuple

from ghosttrack.questions.config import QuestionKind


class Layout(NamedTuple):
    """Columns, lower-case with `_` for blanks; a field of an object is `column.field`."""

    answer: tuple[str, ...] = ()
    """One right answer each."""
    answers: tuple[str, ...] = ()
    """Several right answers each, after those of `answer`."""
    wrong: tuple[str, ...] = ()
    """One wrong answer each."""
    wrongs: tuple[str, ...] = ()
    """Several wrong answers each, after those of `wrong`."""
    question: str = "question"
    id: str = "id"
    group: str = "group"
    subject: str = "subject"
    subject_aliases: str = ""
    """Other names of the subject; with them it need not stand in the question."""
    relation: str = "relation"


LAYOUTS: Mapping[QuestionKind, Layout] = {
    QuestionKind.file: Layout(
        answer=("answer", "best_answer", "right_answer"),
        answers=("answers", "correct_answers", "possible_answers"),
        wrong=("wrong_answer", "best_incorrect_answer", "hallucinated_answer"),
        wrongs=("wrong_answers", "incorrect_answers"),
    ),
    QuestionKind.truthfulqa: Layout(
        answer=("best_answer",),
        answers=("correct_answers",),
        wrong=("best_incorrect_answer",),
        wrongs=("incorrect_answers",),
        relation="category",
    ),
    QuestionKind.halueval: Layout(answer=("right_answer",), wrong=("hallucinated_answer",)),
    # An id stands for as many rows as there are pages with the answer.
    QuestionKind.triviaqa: Layout(answer=("answer.value",), answers=("answer.aliases",), id=""),
    QuestionKind.popqa: Layout(
        answers=("possible_answers",),
        subject="subj",
        subject_aliases="s_aliases",
        relation="prop",
        group="subj",
    ),
    QuestionKind.nq_open: Layout(answers=("answer",)),
}
"""Of every kind that has questions to read."""
