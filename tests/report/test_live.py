import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ghosttrack.detector.judgement import (
    Explanation,
    Hypothesis,
    Judge,
    Judgement,
    Promoter,
    Reason,
    TokenRisk,
)
from ghosttrack.report.live import (
    Shown,
    print_details,
    print_verdict,
    to_json,
    write_live_page,
    write_table,
)
from tests.report import materials
from tests.report.test_page import Page

JUDGE = Judge("interventions+output", 0.957, 0.949, 0.964, 0.58, 0.61, 0.61)
STREAMER = Judge("tracks+output", float("nan"), float("nan"), float("nan"), 0.5, 0.61, 0.61)
HOSTILE = "</script><script>alert(1)</script>\x1b[31m [bold]"


def judgement(**changed: object) -> Judgement:
    fields: dict[str, object] = {
        "prompt": "Q: Who?\nA: Bert\n\nQ: Where was Anna Pera born?\nA:",
        "question": "Where was Anna Pera born?",
        "subject": "Anna Pera",
        "answer": "kandby",
        "category": "wrong",
        "own_prob": 0.56,
        "probability": 0.992,
        "judge": JUDGE,
        "streamer": STREAMER,
        "tokens": (TokenRisk("kand", 0.7, 0.3), TokenRisk("by", 0.8, 0.75)),
        "hypotheses": (
            Hypothesis("kandby", 0.56, 0.0, (), is_answer=True),
            Hypothesis("kizton", 0.11, 0.46, (Promoter((1, 2), (7, 9), 0.46),), is_answer=False),
        ),
        "explanation": Explanation(
            0.3,
            (
                Reason("owner_gap", "owner", -1.4, 2.1, "it fits Anna Lund better", "a to b", ""),
                Reason("first_margin", "output", 1.6, -0.4, "log-ratio: 1.6", "", ""),
            ),
        ),
        "owner": "Anna Lund",
        "owner_gap": -1.4,
        "references": ("Femville",),
        "notes": ("something to know",),
        "seconds": 0.25,
    }
    return Judgement(**(fields | changed))  # pyright: ignore[reportArgumentType]


def printed(one: Judgement, *, brief: bool = False) -> str:
    stream = StringIO()
    console = Console(file=stream, width=110)
    print_verdict(one, console, brief=brief)
    if not brief:
        print_details(one, console)
    return stream.getvalue()


def page(folder: Path, *judgements: Judgement) -> str:
    shown = Shown(judgements, materials.view(), np.arange(len(judgements)) % 2)
    write_live_page(folder / "page.html", shown, {"model": HOSTILE})
    return (folder / "page.html").read_text()


def test_the_terminal_says_all_of_it():
    text = printed(judgement())
    for part in (
        *("Where was Anna Pera born? kandby", "probably hallucinated", "99.2 %"),
        *("by interventions+output, cross-validated AUROC 0.957 [0.949, 0.964]", "58 %"),
        *("note: something to know", "belongs more to Anna Lund", "right: Femville"),
        *("kand ", "30 %", "by ", "75 %", "kizton", "layers 1-2 +0.46"),
        *("+2.10  it fits Anna Lund better", "-0.40", "owner +2.10, output -0.40; base +0.30"),
        "250 ms",
    ):
        assert part in text, part
    assert "probably right" in printed(judgement(probability=0.57))


@pytest.mark.parametrize(("category", "why"), [("no_answer", "gave no answer"), ("echo", "back")])
def test_what_is_neither_right_nor_wrong_gets_no_verdict_but_says_so(
    tmp_path: Path, category: str, why: str
):
    one = judgement(category=category)
    texts = printed(one), page(tmp_path, one).split("<nav", maxsplit=1)[0].split("<dl")[0]
    for text in texts:
        assert "no verdict: " in text
        assert why in text
        assert "hallucinated with" not in text
        assert "99.2" not in text
    assert "99.2" not in printed(one, brief=True)
    assert not one.is_hallucinated


def test_nothing_is_shown_of_how_the_model_was_asked(tmp_path: Path):
    for text in (printed(judgement()), page(tmp_path, judgement(), judgement())):
        assert "Bert" not in text


def test_many_are_a_line_each():
    text = printed(judgement(question="one\ntwo"), brief=True)
    assert text.count("\n") == 1
    assert "one two kandby" in text


def test_what_a_model_says_neither_steers_the_terminal_nor_formats_it():
    token = TokenRisk(HOSTILE, 0.5, 0.5)
    rival = Hypothesis(HOSTILE, 0.1, 0.0, (), is_answer=False)
    one = judgement(question=HOSTILE, answer=HOSTILE, tokens=(token,), hypotheses=(rival,))
    for text in (printed(one), printed(one, brief=True)):
        assert "\x1b" not in text
        assert "[bold]" in text


@pytest.mark.parametrize("n", [1, 3])
def test_the_page_needs_nothing_else_and_runs_nothing_but_its_own(tmp_path: Path, n: int):
    hostile = judgement(question=HOSTILE, answer=HOSTILE, owner=HOSTILE, notes=(HOSTILE,))
    text = page(tmp_path, *[hostile] * n)
    tags = Page(text).tags
    assert [tag for tag, _ in tags].count("script") == 4  # the data, its details, D3, our code
    assert not [attrs for _, attrs in tags if {"src", "href", "onclick"} & set(attrs)]
    assert "url(" not in text
    assert "@import" not in text
    assert [one["prompt"] for one in materials.unpacked(text)] == [HOSTILE] * n


def test_the_viewer_gets_what_is_known_of_an_answer(tmp_path: Path):
    (one,) = materials.unpacked(page(tmp_path, judgement()))
    assert one["token_risks"] == [0.3, 0.75]
    assert one["tokens"] == ["kand", "by"]
    assert one["label"] == 1
    assert one["truth"] == ""
    assert (one["owner"], one["owner_gap"]) == ("Anna Lund", -1.4)
    assert [reason["effect"] for reason in one["reasons"]] == [2.1, -0.4]
    assert [held["is_answer"] for held in one["hypotheses"]] == [True, False]
    assert [track["layers"] for track in one["tracks"]] == [[0, 1], [0]]
    (one,) = materials.unpacked(page(tmp_path, judgement(owner="", owner_gap=float("nan"))))
    assert (one["owner"], one["owner_gap"]) == ("", None)


def test_the_table_has_a_line_per_prompt(tmp_path: Path):
    write_table(tmp_path / "a.csv", [judgement(), judgement(question="=1+1", hypotheses=())])
    with (tmp_path / "a.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["answer"], first["probability"], first["best_rival"]) == (
        *("kandby", "0.9920", "kizton"),
    )
    assert first["why"] == "it fits Anna Lund better"
    assert second["question"] == "'=1+1"


def test_json_has_every_field_and_no_number_that_is_not_finite():
    one = replace(judgement(), owner_gap=float("nan"))
    found = json.loads(json.dumps(to_json((one,)), allow_nan=False))[0]
    assert found["owner_gap"] is None
    assert found["streamer"]["auroc"] is None
    assert found["hypotheses"][1]["promoters"][0]["latents"] == [7, 9]
    assert set(found) == set(one.__dataclass_fields__)
