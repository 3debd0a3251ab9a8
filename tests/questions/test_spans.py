import pytest

from ghosttrack.questions.sets import Question
from ghosttrack.questions.spans import LEAST_NAMES, Span, about, candidate_spans, span_names

CASES = {
    "Who performed Bridges to Babylon?": ["Bridges to Babylon", "performed"],
    "Which artist painted 'Monarch of the Glen'?": ["Monarch of the Glen", "artist painted"],
    "did Harry S. Truman see Barack Obama's?": ["Harry S. Truman", "Barack Obama", "see"],
    "who played the joker in the dark knight?": ["played", "joker", "dark knight"],
    "How many of 17,504 had the iPod Mini by 2015?": ["iPod Mini", "17,504", "2015", "many"],
    "who is it?": [],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_what_a_question_may_be_about(text: str):
    found = [one.text for one in candidate_spans(text, len)]
    assert found == CASES[text]
    assert all(one in text for one in found)


def test_a_slot_of_few_spans_takes_all_of_the_sort():
    asked = [Question(str(n), f"Who saw City{n}?", (), str(n)) for n in range(LEAST_NAMES)]
    asked.append(Question("where", "Where is Oslo?", (), "where"))
    names = span_names(asked, len)
    who, where = (about(one, Span(text, "name"), names) for one, text in zip(
        (asked[0], asked[-1]), ("City0", "Oslo"), strict=True
    ))  # fmt: skip
    assert (who.kind, where.kind) == ("name of who", "name")
    assert len(names[who.kind]) == LEAST_NAMES
    assert {"Oslo", "City0"} < set(names[where.kind])
