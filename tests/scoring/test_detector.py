import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.errors import DataError
from ghosttrack.files import read_json
from ghosttrack.questions.prompts import bare_prompt
from ghosttrack.scoring import predict
from ghosttrack.scoring.detector import Detector
from tests.report.materials import unpacked
from tests.support.commands import ROOT, Workplace, artifacts, said, times
from tests.support.programs import Done

pytestmark = pytest.mark.slow

NASTY = (
    "Where was Anna born?",
    "it's Anna's, isn't it? O'Anna \"was\" 'born'",
    "where, was {anna} = [born] (in) $5 ${paris} \\${rome} \\ \\\\",
    "where was anna\nborn: a=b=c, +x ~y %z #w & <b>bold</b> </script>",
    "-anna",
)


@pytest.fixture(scope="module")
def detector(done: Done) -> Detector:
    return Detector.load(done.made["detectors"], "cpu")


def newest(done: Done) -> Path:
    """The folder of the run that was started last."""
    return (done.output / "tiny" / "runs" / "ask" / "last").resolve()


def judged(folder: Path) -> list[dict]:
    return read_json(folder / "answers.json")


@pytest.mark.parametrize("prompt", NASTY)
def test_any_text_passes_the_command_line(workplace: Workplace, done: Done, prompt: str):
    before = times(done.output, "detectors")
    printed = said(workplace.console(done.output, "ask", "--", prompt))
    (found,) = judged(newest(done))
    assert found["prompt"] == f"Q: {prompt}\nA:"
    assert 0 < found["probability"] < 1
    assert "cross-validated AUROC" in printed
    assert "ms each; page: " in printed.strip().splitlines()[-1]
    assert times(done.output, "detectors") == before


def test_a_prompt_is_judged_for_another_share_of_hallucinated_answers(
    workplace: Workplace, done: Done
):
    asked = "where was anna born?"
    said(workplace.console(done.output, "ask", asked))
    (before,) = judged(newest(done))
    printed = said(workplace.console(done.output, "ask", "--prevalence", "0.01", asked))
    (after,) = judged(newest(done))
    base, odds = before["judge"]["prevalence"], [one["probability"] for one in (before, after)]
    ratio = np.divide(*[one / (1 - one) for one in reversed(odds)])
    assert ratio == pytest.approx((0.01 / 0.99) / (base / (1 - base)))
    assert "risks are for 1.0 %" in printed
    refused = workplace.console(done.output, "ask", "--prevalence", "1.5", asked)
    assert refused.returncode == 1
    assert "--prevalence must be above 0 and below 1, got 1.5" in refused.stderr


def test_the_page_is_self_contained_and_escapes_what_is_not_ours(workplace: Workplace, done: Done):
    prompt = "where was <script>alert(1)</script> anna <img src=http://x.y/z>?"
    said(workplace.console(done.output, "ask", prompt))
    page = (newest(done) / "answers.html").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert" in page
    for outside in ('src="http', "src='http", 'href="http', "url(", "@import", "<link"):
        assert outside not in page
    (answer,) = unpacked(page)
    assert answer["prompt"] == prompt
    assert len(answer["token_risks"]) == len(answer["tokens"]) > 0
    assert answer["tracks"]
    assert answer["hypotheses"]
    assert answer["reasons"]


def test_a_prompt_of_the_questions_is_answered_as_they_were(detector: Detector, done: Done):
    one = detector.score("where was anna born?")
    ranked = [detector.detectors.judges[at] for at in detector.detectors.ranks]
    better = ranked[: [held.name for held in ranked].index(one.judge.name)]
    passed_over = {held.name for held in better} - {"streaming"}  # a bare prompt brings no subject
    assert passed_over == {name for note in one.notes for name in note.split(" w")[0].split(", ")}
    known = [held.auroc for held in ranked[1:] if np.isfinite(held.auroc)]
    assert known == sorted(known, reverse=True)
    assert np.isfinite([one.judge.auroc, one.judge.low, one.judge.high, one.seconds]).all()
    rows = read_json(done.made["evaluations"] / "evaluation.json")["rows"]
    (row,) = (r for r in rows if (r["detector"], r["subset"]) == (one.judge.name, "all"))
    assert one.judge.auroc == row["auroc"]
    assert one.is_hallucinated == (one.probability >= one.judge.threshold)


def test_what_is_known_of_a_prompt_feeds_the_better_detector(
    workplace: Workplace, done: Done, detector: Detector, tmp_path: Path
):
    rows = [json.loads(line) for line in workplace.questions.read_text().splitlines()[:6]]
    path = tmp_path / "known.jsonl"
    twice = [*rows, {**rows[0], "id": "again"}]
    path.write_text("".join(json.dumps({**row, "answers": []}) + "\n" for row in twice))
    said(workplace.console(done.output, "ask", "--file", str(path)))
    *found, again = judged(newest(done))
    assert again == found[0]
    first = detector.detectors.judges[detector.detectors.ranks[0]]
    assert [one["judge"]["name"] for one in found] == [first.name] * 6
    assert {one["streamer"]["name"] for one in found} == {"streaming"}
    assert [one["subject"] for one in found] == [row["subject"] for row in rows]
    is_tested = "owner" in detector.detectors.reads
    assert all(bool(one["owner"]) == is_tested for one in found)
    assert all(one["owner"] != one["subject"] for one in found)
    assert all(one["notes"] == [] for one in found)
    answered = [
        a
        for a in artifacts(done.output, "answers").values()
        if not re.search("again|checks", a.name)
    ]
    assert len(answered) == 1


def test_a_file_of_prompts_becomes_a_table(workplace: Workplace, done: Done, tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text('where was anna born?\n\n=anna\'s "city", is\nwhere was anna born?\n')
    printed = said(workplace.console(done.output, "ask", "--file", str(path)))
    folder = newest(done)
    with (folder / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    questions = ["where was anna born?", "'=anna's \"city\", is", "where was anna born?"]
    assert [row["question"] for row in rows] == questions
    assert rows[0] == rows[2]
    assert [one["probability"] for one in judged(folder)] == [
        pytest.approx(float(row["probability"]), abs=1e-4) for row in rows
    ]
    assert "3 judged in " in printed
    assert (folder / "answers.html").read_text().count("where was anna born?") >= 4


def test_prompts_do_not_touch_one_another(detector: Detector):
    alone = detector.score("what language is it leo speaks?")
    texts = ("what language is it leo speaks?", "who has rome for work?")
    again, _ = detector.judge([bare_prompt(text) for text in texts]).judgements
    assert again.answer == alone.answer
    assert again.probability == pytest.approx(alone.probability, rel=1e-4)


def test_the_verdict_is_told_before_competing_answers_are_worked_out(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
):
    done = []
    compete = predict.compete
    monkeypatch.setattr(predict, "compete", lambda *given: [done.append(()), compete(*given)][1])
    (one,) = detector.judge([bare_prompt("where was anna born?")], done.append).judgements
    ((told,), later) = done
    assert later == told.hypotheses == told.tokens == ()
    assert (told.verdict, told.probability) == (one.verdict, one.probability)
    assert one.hypotheses
    assert one.tokens


def test_hypotheses_and_reasons_hang_together(detector: Detector):
    one = detector.score("where was anna born?")
    probs = [held.prob for held in one.hypotheses]
    assert probs == sorted(probs, reverse=True)
    assert sum(probs) <= 1 + 1e-6
    (given,) = [held for held in one.hypotheses if held.is_answer]
    assert given.prob == pytest.approx(one.own_prob, rel=1e-4)
    assert all(held.push >= sum(p.push for p in held.promoters) - 1e-6 for held in one.hypotheses)
    total = one.explanation.base + sum(reason.effect for reason in one.explanation.reasons)
    (fitted,) = (held for held in detector.detectors.fitted if held.name == one.judge.name)
    assert fitted.calibration.prob(np.array([total]))[0] == pytest.approx(one.probability, abs=1e-6)


def test_words_that_the_model_lacks_are_named(detector: Detector):
    one = detector.score("where was Xyzzy born?")
    assert any("<unk>: Xyzzy" in note for note in one.notes)
    with pytest.raises(DataError, match=r"knows no word of it: 'Xyzzy plugh\?'"):
        detector.score("Xyzzy plugh?")
    with pytest.raises(DataError, match="knows no word of it: ''"):
        detector.score(" ")


@pytest.mark.long
def test_a_detector_that_is_missing_is_fitted_first(
    workplace: Workplace, done: Done, tmp_path: Path
):
    output = tmp_path / "output"
    kinds = ("saes", "answers", "tracks", "corpora", "activations")
    for kind in kinds:
        shutil.copytree(done.output / "tiny" / kind, output / "tiny" / kind)
    printed = said(workplace.console(output, "ask", "where was anna born?"))
    assert "no detector for this configuration yet: fitting it" in printed
    (one,) = artifacts(output, "detectors")
    assert one == done.made["detectors"].name
    run = output / "tiny" / "runs" / "ask" / "last"
    metrics = read_json(run / "metrics.json")
    assert {"detect", "ask", "seconds"} <= set(metrics)
    assert {"fit", "evaluate", "judge"} <= set(metrics["seconds"])
    assert (run / "answers.html").is_file()


def test_without_a_detector_and_auto_the_command_is_named(workplace: Workplace, tmp_path: Path):
    result = workplace.console(tmp_path, "ask", "where was anna born?", "auto=false")
    assert result.returncode == 1
    assert "auto=false and there is no detector for this configuration" in result.stderr
    assert not (tmp_path / "tiny" / "detectors").exists()


def test_a_part_that_is_gone_is_named(done: Done, tmp_path: Path):
    folder = done.made["detectors"]
    lonely = tmp_path / "tiny" / "detectors" / folder.name
    lonely.mkdir(parents=True)
    for file in folder.iterdir():
        (lonely / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=f"saes/{done.made['saes'].name}: no such folder"):
        Detector.load(lonely, "cpu")
    (lonely / "detectors.json").unlink()
    with pytest.raises(DataError, match=r"detectors.json: is missing"):
        Detector.load(lonely, "cpu")


@pytest.mark.long
def test_the_default_model_s_world_tells_whom_a_prompt_asks_about(
    workplace: Workplace, tmp_path: Path
):
    small = (
        *("logger=csv", f"output_root={tmp_path}", "corpus.num_tokens=16384"),
        *("corpus.heldout_tokens=2048", "trainer.max_steps=20", "questions.num=240"),
        *("evaluation.n_folds=2", "evaluation.n_bootstrap=20", "detector.nulls=[shuffled]"),
    )
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("where was zuldel preldov born\nWhere was Mara Velten born?\nwhere is it?\n")
    said(
        workplace.forks.run(
            [str(ROOT / "ghosttrack" / "__main__.py"), "ask", "--file", str(prompts), *small]
        )
    )
    run = tmp_path / "ghostworld" / "runs" / "ask" / "last"
    known, unknown, vague = judged(run)
    assert known["prompt"] == "Where was Zuldel Preldov born?"
    assert (known["subject"], known["notes"]) == ("Zuldel Preldov", [])
    assert known["judge"]["name"] == "interventions+output"
    assert [text.lower() for text in known["references"]] == [known["answer"]]
    assert known["probability"] < 0.5 < unknown["probability"]
    assert unknown["notes"][:2] == [
        "not in the model's vocabulary, read as <unk>: Mara, Velten",
        "the world has no person of the name Mara Velten",
    ]
    assert unknown["judge"]["name"] == "lens+output"  # a name that the model can read is missing
    assert vague["judge"]["name"] == "lens+output"
    assert any(note.startswith("none of the world's wordings") for note in vague["notes"])
