from dataclasses import replace

from ghosttrack.detector.answers.written import surface_table
from tests.support.answers import made_up_answers


def test_the_surface_is_counted():
    answers = replace(
        made_up_answers(3, 2),
        prompts=("Where is Rome?",) * 3,
        texts=("Rome is not in Iran, 1 of 2.", "", "Rome"),
    )
    table = surface_table(answers)
    row = dict(zip(table.names, table.values[0].tolist(), strict=True))
    # Words: rome is not in iran 1 of 2; of these "rome" and "is" stand in the question.
    assert row == {
        "characters": 28, "words": 8, "mean_word": 19 / 8, "shared_words": 2, "shared_share": 0.25,
        "marks": 2, "capitals": 2, "digits": 2, "denials": 1,
    }  # fmt: skip
    assert table.values[1].tolist() == [0] * len(table.names)
    assert table.column("shared_share")[2] == 1
